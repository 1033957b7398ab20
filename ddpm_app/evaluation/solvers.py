"""Samplers at few steps: how near each comes to a long DDIM run from the same x_T, and to the data.

The latter by two measures on bare pixels. The kernel distance is that of Binkowski et al. (2018) without the
network of their KID: unbiased for any number of pictures, and blind to fine detail. The distance to the
nearest picture is small for what resembles one, but for plain grounds too: read it beside the other.
"""

__all__ = ["SolverReport", "compare_solvers", "kernel_distance", "nearest_distance"]

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ddpm_app.core.images import from_uint8
from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.engine.solvers import DETERMINISTIC, SOLVERS
from ddpm_app.errors import UserError

REFERENCE_STEPS = 250
REFERENCE_IMAGES = 8
PARTS = 4  # of the pictures, for the standard error
CONTENDERS: dict[str, dict[str, Any]] = {
    "ddim": {"sampler": "ddim"},
    **{name: {"sampler": name} for name in SOLVERS},
    "ddim, eta 1": {"sampler": "ddim", "eta": 1.0},
    "ddpm": {"sampler": "ddpm"},
}


@dataclass(frozen=True)
class SolverReport:
    """One sampler at one number of steps, each a network call; None for what is not known.

    `rmse` is that of the median picture to the long run's, in levels of 255, for samplers that draw no noise;
    the standard error of `kernel_distance` is that of the samples, not of the data.
    """

    sampler: str
    num_inference_steps: int
    seconds: float
    rmse: float | None
    kernel_distance: float | None = None
    standard_error: float | None = None
    nearest_distance: float | None = None


def compare_solvers(
    engine: Engine, request: SampleRequest, steps: int, pictures: Tensor | None = None
) -> Iterator[SolverReport]:
    """A report for each sampler; `pictures` uint8 (N, C, H, W) are of the data.

    The long run is of the first 8 images.
    """
    if pictures is not None and request.num_images < 2 * PARTS:
        raise UserError(f"num_images must be at least {2 * PARTS} beside --data; got {request.num_images}")
    if pictures is not None and len(pictures) < 2:
        raise UserError("one picture is no data to compare with; give --data at least 2")
    longest = min(REFERENCE_STEPS, len(engine.model(request.model, request.precision).diffusion))
    few = min(REFERENCE_IMAGES, request.num_images)
    reference = _drawn(engine, replace(request, num_inference_steps=longest, num_images=few))
    for name, settings in CONTENDERS.items():
        started = time.perf_counter()
        images = _drawn(engine, replace(request, num_inference_steps=steps, **settings))
        seconds = time.perf_counter() - started
        rmse = _median_rmse(images[:few], reference) if name in {"ddim", *DETERMINISTIC} else None
        quality = () if pictures is None else _quality(images, pictures)
        yield SolverReport(name, steps, seconds, rmse, *quality)


def kernel_distance(ours: Tensor, theirs: Tensor) -> float:
    """1000 times the unbiased squared MMD of two sets of pictures uint8 under (x . y / d + 1)^3 on pixels."""
    x, y = (from_uint8(pictures).double().flatten(1) for pictures in (ours, theirs))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        among = kernel(a, a)
        return (among.sum() - among.trace()) / (len(a) * (len(a) - 1))

    return 1000 * (within(x) + within(y) - 2 * kernel(x, y).mean()).item()


def nearest_distance(ours: Tensor, theirs: Tensor) -> float:
    """The mean over our pictures of the RMSE to the nearest of theirs, all uint8, in levels of 255."""
    apart = torch.cdist(ours.flatten(1).float(), theirs.flatten(1).float()).amin(1)
    return (apart / ours[0].numel() ** 0.5).mean().item()


def _quality(ours: Tensor, theirs: Tensor) -> tuple[float, float, float]:
    parts = [kernel_distance(part, theirs) for part in ours.tensor_split(PARTS)]
    error = statistics.stdev(parts) / PARTS**0.5
    return kernel_distance(ours, theirs), error, nearest_distance(ours, theirs)


def _median_rmse(ours: Tensor, theirs: Tensor) -> float:
    return statistics.median((ours.float() - theirs.float()).square().flatten(1).mean(1).sqrt().tolist())


def _drawn(engine: Engine, request: SampleRequest) -> Tensor:
    *_, last = engine.run(request)
    return last.images
