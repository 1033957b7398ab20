"""What the fields of a request may hold; a sentence for the user where one holds something else."""

__all__ = [
    "MAX_IMAGES",
    "MAX_SEED",
    "MAX_STEPS",
    "PRECISIONS",
    "later_seed",
    "model_name",
    "picture",
    "picture_field",
    "real",
    "several_pictures",
    "truth",
    "whole",
]

from dataclasses import field
from reprlib import repr as shortened

import torch
from torch import Tensor

from ddpm_app.errors import UserError

MAX_IMAGES = 256
MAX_STEPS = 10_000  # longer than any trained chain; the model's own T is the real limit
MAX_SEED = 2**63 - 1
PRECISIONS = ("exact", "fast")


def later_seed(seed: int, k: int) -> int:
    """The seed k after that one; the first follows the last."""
    return (seed + k) % (MAX_SEED + 1)


def model_name(value: object) -> None:
    """UserError unless `value` may name a model."""
    if not isinstance(value, str):
        raise UserError(f"model must be a name, a folder or owner/repo; got {shortened(value)}")


def whole(name: str, value: object, low: int, high: int) -> int:
    """`value` as an int within low..high; UserError for any other, not finite or not whole too."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high or value % 1:
        raise UserError(f"{name} must be a whole number in {low}..{high}; got {shortened(value)}")
    return int(value)


def real(name: str, value: object, low: float, high: float) -> float:
    """`value` as a finite float within low..high; UserError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UserError(f"{name} must be a number in {low:g}..{high:g}; got {shortened(value)}")
    return float(value)


def truth(name: str, value: object) -> None:
    """UserError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise UserError(f"{name} must be True or False; got {shortened(value)}")


def picture(name: str, value: object) -> None:
    """UserError unless `value` is a picture as the engine takes it, of whatever size."""
    if not isinstance(value, Tensor) or value.dtype != torch.uint8 or value.ndim != 3:
        given = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else shortened(value)
        raise UserError(f"{name} must be a picture, a uint8 tensor (C, H, W); got {given}")


def several_pictures(name: str, value: object, most: int = MAX_IMAGES) -> tuple[Tensor, ...]:
    """`value` as a tuple of pictures; UserError unless it lists 1 to `most` of them."""
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= most:
        given = f"{len(value)} of them" if isinstance(value, list | tuple) else shortened(value)
        raise UserError(f"{name} must be a list of 1 to {most} pictures; got {given}")
    for each in value:
        picture(name, each)
    return tuple(value)


def picture_field():
    """A picture as uint8 (C, H, W), which is not part of a recipe."""
    return field(compare=False, repr=False, metadata={"recipe": False})
