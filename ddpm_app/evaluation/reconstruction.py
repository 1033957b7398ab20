"""How well DDIM run upwards and down again gives pictures back (Song et al. 2020, table 2)."""

__all__ = ["ReconstructionReport", "ReconstructionRow", "reconstruction"]

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_app.core.images import from_uint8
from ddpm_app.core.inversion import TABLE_2, reconstruction_error
from ddpm_app.engine import Engine, ReconstructRequest
from ddpm_app.errors import UserError

PICTURES_AT_ONCE = 16


@dataclass(frozen=True)
class ReconstructionRow:
    """The mean squared error on pixels in [0, 1]; its standard error where there are several pictures."""

    num_inference_steps: int
    mse: float
    standard_error: float | None


@dataclass(frozen=True)
class ReconstructionReport:
    """Table 2 over the pictures so far."""

    num_images: int
    rows: tuple[ReconstructionRow, ...]


def reconstruction(
    engine: Engine,
    pictures: Tensor,
    model: str,
    num_terms: int,
    *,
    variance_type: str = "auto",
    seed: int = 0,
    precision: str = "exact",
) -> Iterator[ReconstructionReport]:
    """A report after every few of the pictures uint8 (N, C, H, W), with the table's rows up to `num_terms`.

    Where `num_terms` is no row of the table it is one more. Nothing is drawn by chance, whatever the seed.
    """
    if variance_type != "auto":
        raise UserError(f"DDIM upwards has no variance: leave --variance at auto; got {variance_type}")
    most = min(num_terms, len(engine.model(model, precision).diffusion))
    steps = sorted({*(count for count in TABLE_2 if count <= most), most})
    errors: dict[int, list[Tensor]] = {count: [] for count in steps}
    done = 0
    for some in pictures.split(PICTURES_AT_ONCE):
        done += len(some)
        for count in steps:
            request = ReconstructRequest(
                model=model, pictures=tuple(some), num_inference_steps=count, precision=precision
            )
            *_, last = engine.run(request)
            errors[count].append(reconstruction_error(from_uint8(some), last.x_t.cpu()))
        yield ReconstructionReport(done, tuple(row(count, torch.cat(each)) for count, each in errors.items()))


def row(num_inference_steps: int, errors: Tensor) -> ReconstructionRow:
    """The mean of the errors (N,)."""
    uncertain = errors.std().item() / len(errors) ** 0.5 if len(errors) > 1 else None
    return ReconstructionRow(num_inference_steps, errors.mean().item(), uncertain)
