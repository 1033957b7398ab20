"""Toy data: a few hundred points of the plane, on which the score is exact and can be drawn.

Every set is centred and has a mean variance of 1, so that x_t keeps its spread along the whole chain.
"""

__all__ = ["TOYS", "log_density"]

import math
from collections.abc import Callable

import torch
from torch import Tensor


def _arc(count: int, start: float, end: float, radius: float = 1.0) -> Tensor:
    """Points (count, 2) along a circle, from and to these shares of a turn."""
    angle = 2 * math.pi * torch.linspace(start, end, count, dtype=torch.float64)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


def _moons() -> Tensor:
    lower = _arc(100, 0.5, 1.0) + torch.tensor([1.0, 0.5])
    return torch.cat([_arc(100, 0, 0.5), lower])


def _spiral() -> Tensor:
    along = torch.linspace(0.04, 1, 220, dtype=torch.float64).sqrt()[:, None]
    angle = 5 * math.pi * along
    return along * torch.cat([angle.cos(), angle.sin()], dim=1)


def _ring() -> Tensor:
    return _arc(201, 0, 1)[:-1]


def _points() -> Tensor:
    return _arc(6, 0.05, 1.05)[:-1]


def _smile() -> Tensor:
    eyes = [_arc(16, 0, 1, 0.12) + torch.tensor([side, 0.35]) for side in (-0.35, 0.35)]
    return torch.cat([_arc(131, 0, 1)[:-1], *eyes, _arc(50, 0.57, 0.93, 0.6)])


def _standard(points: Tensor) -> Tensor:
    centred = points - points.mean(0)
    return centred / centred.square().mean().sqrt()


TOYS: dict[str, Callable[[], Tensor]] = {
    name: lambda make=make: _standard(make())  # type: ignore[misc]
    for name, make in {
        "two moons": _moons,
        "spiral": _spiral,
        "ring": _ring,
        "five points": _points,
        "smile": _smile,
    }.items()
}


def log_density(points: Tensor, alpha_bar: float, x_t: Tensor, least_variance: float = 0.0) -> Tensor:
    """log q(x_t) at each of x_t (M, 2), for data that is one of `points` (N, 2): a mixture of N normals.

    With `least_variance` no normal is narrower than that, as a picture of it wants.
    """
    variance = max(1 - alpha_bar, least_variance)
    distance = torch.cdist(x_t, math.sqrt(alpha_bar) * points).square()
    normaliser = math.log(2 * math.pi * variance * len(points))
    return torch.logsumexp(-distance / (2 * variance), dim=1) - normaliser
