"""Bits/dim at few steps: each reverse variance with even spacing and with the steps that cost least."""

__all__ = ["StepsReport", "StepsRow", "few_steps"]

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddpm_app.core.analytic import with_analytic_variance
from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import from_uint8
from ddpm_app.core.samplers import generators
from ddpm_app.core.step_schedule import Survey, even_places, pair_costs, survey
from ddpm_app.engine import Engine
from ddpm_app.engine.checks import later_seed
from ddpm_app.errors import UserError

STEPS = (10, 25, 50, 100)


@dataclass(frozen=True)
class StepsRow:
    """The bound with one variance in so many steps: evenly spaced, and over `timesteps`, the chosen ones."""

    variance_type: str
    num_inference_steps: int
    even_bits_per_dim: float
    best_bits_per_dim: float
    timesteps: tuple[int, ...]  # as `respaced` takes them


@dataclass(frozen=True)
class StepsReport:
    """The rows, at the end, and before that how many pictures' worth of work is done."""

    num_images: int
    num_candidates: int
    rows: tuple[StepsRow, ...] = ()


def few_steps(
    engine: Engine,
    pictures: Tensor,
    model: str,
    num_terms: int,
    *,
    variance_type: str = "auto",
    seed: int = 0,
    precision: str = "exact",
) -> Iterator[StepsReport]:
    """One report after each call of the network, the last with the rows; the steps are out of `num_terms`.

    The first half of the pictures uint8 (N, C, H, W) gives the analytic variance and chooses the steps; the
    second half, which neither has seen, is what is measured. Every variance is, so none can be asked for.
    """
    if variance_type != "auto":
        raise UserError(f"this metric compares all variances: leave --variance at auto; got {variance_type}")
    if len(pictures) < 2 or num_terms < 2:
        raise UserError("the steps are chosen on half of the pictures: give at least 2, and 2 timesteps")
    loaded = engine.model(model, precision)
    diffusion = loaded.diffusion
    candidates = even_places(len(diffusion), min(num_terms, len(diffusion)))
    chain = diffusion.with_variance("fixed_small").respaced(candidates)
    report, found = StepsReport(0, len(chain)), []
    halves = from_uint8(pictures).tensor_split(2)
    for half, generator in zip(halves, generators([seed, later_seed(seed, 1)]), strict=True):
        for seen in survey(chain, loaded.on_cpu, half, generator):
            if isinstance(seen, Survey):
                found.append(seen)
            else:
                share = (seen / len(chain) + len(found)) / 2
                yield replace(report, num_images=max(1, int(share * len(pictures))))
    rows = [row for each in _variances(diffusion, chain, found[0]) for row in _rows(each, *found)]
    yield replace(report, num_images=len(pictures), rows=tuple(rows))


def _variances(
    diffusion: GaussianDiffusion, chain: GaussianDiffusion, chosen_on: Survey
) -> list[GaussianDiffusion]:
    """The chain with each reverse variance that it can have."""
    gamma = torch.ones(len(diffusion), dtype=torch.float64)  # read at the candidates alone
    gamma[chain.timesteps] = chosen_on.gamma
    fixed = [chain, chain.with_variance("fixed_large")]
    learned = [chain.with_variance("learned_range")] if diffusion.variance_type == "learned_range" else []
    return [*fixed, *learned, with_analytic_variance(chain, gamma)]


def _rows(chain: GaussianDiffusion, chosen_on: Survey, measured_on: Survey) -> list[StepsRow]:
    choosing, measuring = pair_costs(chain, chosen_on), pair_costs(chain, measured_on)
    rows = []
    for steps in [*(steps for steps in STEPS if steps < len(chain)), len(chain)]:
        even, best = even_places(len(chain), steps), choosing.best(steps)
        bits = measuring.bound(even), measuring.bound(best)
        rows.append(StepsRow(str(chain.variance_type), steps, *bits, tuple(chain.timesteps[best].tolist())))
    return rows
