"""Bits/dim at few steps: each reverse variance with even spacing and with the steps that cost least."""

__all__ = ["STEPS", "StepsRow", "bits_at_few_steps"]

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_app.core.analytic import with_analytic_variance
from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import from_uint8
from ddpm_app.core.samplers import generators
from ddpm_app.core.step_schedule import Survey, even_places, pair_costs, survey
from ddpm_app.errors import UserError
from ddpm_app.models import Model

STEPS = (10, 25, 50, 100)


@dataclass(frozen=True)
class StepsRow:
    """The bound with one variance in so many steps: evenly spaced, and over `timesteps`, the chosen ones."""

    variance_type: str
    num_inference_steps: int
    even_bits_per_dim: float
    best_bits_per_dim: float
    timesteps: tuple[int, ...]


def bits_at_few_steps(
    model: Model, pictures: Tensor, num_candidates: int, seed: int = 0
) -> Iterator[tuple[int, int] | list[StepsRow]]:
    """(timesteps seen, their number) as it goes, and at the end the rows.

    The first half of the pictures uint8 (N, C, H, W) gives the analytic variance and chooses the steps; the
    second half, which neither has seen, gives the numbers.
    """
    if len(pictures) < 2:
        raise UserError("the steps are chosen on half of the pictures: give at least 2")
    T = len(model.diffusion)
    fixed = model.diffusion.with_variance("fixed_small")
    chain = fixed.respaced(even_places(T, min(num_candidates, T)))
    halves = from_uint8(pictures).to(model.device).tensor_split(2)
    found: list[Survey] = []
    for half, generator in zip(halves, generators([seed, seed + 1]), strict=True):
        for seen in survey(chain, model.denoiser, half, generator):
            if isinstance(seen, Survey):
                found.append(seen)
            else:
                yield seen + len(found) * len(chain), 2 * len(chain)
    yield [row for each in _variances(model.diffusion, chain, found[0]) for row in _rows(each, *found)]


def _variances(
    diffusion: GaussianDiffusion, chain: GaussianDiffusion, chosen_on: Survey
) -> list[GaussianDiffusion]:
    """The chain with each reverse variance that it can have."""
    gamma = torch.ones(len(diffusion), dtype=torch.float64)  # read at the candidates alone
    gamma[chain.timesteps] = chosen_on.gamma
    learned = ["learned_range"] if diffusion.variance_type == "learned_range" else []
    kinds = [chain.with_variance(kind) for kind in ["fixed_small", "fixed_large", *learned]]  # type: ignore[arg-type]
    return [*kinds, with_analytic_variance(chain, gamma)]


def _rows(chain: GaussianDiffusion, chosen_on: Survey, measured_on: Survey) -> list[StepsRow]:
    choosing, measuring = pair_costs(chain, chosen_on), pair_costs(chain, measured_on)
    rows = []
    for steps in sorted({*(steps for steps in STEPS if steps < len(chain)), len(chain)}):
        even, best = even_places(len(chain), steps), choosing.best(steps)
        bits = measuring.bound(even), measuring.bound(best)
        rows.append(StepsRow(str(chain.variance_type), steps, *bits, tuple(chain.timesteps[best].tolist())))
    return rows
