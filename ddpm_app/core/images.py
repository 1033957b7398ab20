"""The only place where floats in [-1, 1] meet bytes in 0 .. 255."""

__all__ = ["from_uint8", "to_uint8"]

import torch
from torch import Tensor


def from_uint8(images: Tensor) -> Tensor:
    """Bytes 0 .. 255 as float32 in [-1, 1]; the shape stays."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] as bytes, rounded to the nearest, never truncated; what lies outside is clipped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
