"""How well DDIM run upwards and down again gives pictures back (Song et al. 2020, table 2)."""

__all__ = ["ReconstructionReport", "reconstruction_errors"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ddpm_app.core.images import from_uint8
from ddpm_app.core.inversion import reconstruction_error
from ddpm_app.engine import Engine, ReconstructRequest


@dataclass(frozen=True)
class ReconstructionReport:
    """The mean squared error on pixels in [0, 1]; its standard error where there are several pictures."""

    num_inference_steps: int
    num_images: int
    mse: float
    standard_error: float | None


def reconstruction_errors(
    engine: Engine, pictures: Tensor, model: str, steps: Sequence[int], *, precision: str = "exact"
) -> Iterator[ReconstructionReport]:
    """One report for each number of steps, over the pictures uint8 (N, C, H, W)."""
    for count in steps:
        request = ReconstructRequest(
            model=model, pictures=tuple(pictures), num_inference_steps=count, precision=precision
        )
        *_, last = engine.run(request)
        errors = reconstruction_error(from_uint8(pictures), last.x_t.cpu())
        error = errors.std().item() / len(errors) ** 0.5 if len(errors) > 1 else None
        yield ReconstructionReport(count, len(errors), errors.mean().item(), error)
