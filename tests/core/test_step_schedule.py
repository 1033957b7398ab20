from itertools import combinations, pairwise

import pytest
import torch

from ddpm_app.core.analytic import with_analytic_variance
from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import from_uint8
from ddpm_app.core.likelihood import prior_bpd, vb_bpd
from ddpm_app.core.oracle import normal_denoiser
from ddpm_app.core.schedules import linear_betas
from ddpm_app.core.step_schedule import even_places, pair_costs, survey

MEAN, STD = 0.1, 0.25
KINDS = ["fixed_small", "fixed_large", "learned_range", "analytic"]


def pictures():
    noise = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return from_uint8(((MEAN + STD * noise + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))


class Network:
    """The exact denoiser of a short chain, with a v that differs from pixel to pixel."""

    def __init__(self, num_timesteps):
        self.diffusion = GaussianDiffusion(linear_betas(num_timesteps), "epsilon", "fixed_small")
        self.exact = normal_denoiser(self.diffusion, MEAN, STD)

    def __call__(self, x_t, t):
        return torch.cat([self.exact(x_t, t), torch.tanh(2 * x_t)], dim=1)


def surveyed(num_timesteps, kind):
    network = Network(num_timesteps)
    source = torch.Generator().manual_seed(1)
    *seen, found = survey(network.diffusion, network, pictures(), source)
    assert seen == list(range(1, num_timesteps + 1))
    if kind == "analytic":
        return network, with_analytic_variance(network.diffusion, found.gamma), found
    return network, network.diffusion.with_variance(kind), found


def measured(network, chain, timesteps):
    """The bound of a chain, term by term as likelihood.py has it, with the noise that the survey drew."""
    x_0, walked = pictures(), chain.respaced(timesteps)
    source = torch.Generator().manual_seed(1)
    noise = [torch.randn(x_0.shape, generator=source) for _ in range(len(chain))]
    terms = [
        vb_bpd(walked, network, x_0, torch.full((3,), i), noise[t]).mean().item()
        for i, t in enumerate(timesteps)
    ]
    return sum(terms) + prior_bpd(walked, x_0).mean().item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timesteps", [range(12), [0, 11], [0, 2, 3, 8]], ids=["all", "two", "four"])
def test_the_priced_bound_is_the_measured_one(kind, timesteps):
    network, chain, found = surveyed(12, kind)
    places = list(timesteps)
    # exact but for the learned variance, where 12 pixels that are alike share one v
    rel = 5e-3 if kind == "learned_range" else 1e-6
    assert pair_costs(chain, found).bound(places) == pytest.approx(measured(network, chain, places), rel=rel)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_steps_are_those_of_brute_force(kind):
    _, chain, found = surveyed(9, kind)
    costs = pair_costs(chain, found)
    for steps in range(2, 10):
        every = [[0, *rest] for rest in combinations(range(1, 9), steps - 1)]
        assert costs.best(steps) == min(every, key=costs.bound)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_steps_never_cost_more_than_even_ones_and_all_are_all(kind):
    _, chain, found = surveyed(60, kind)
    costs = pair_costs(chain, found)
    for steps in range(2, 60):
        best = costs.best(steps)
        assert len(best) == steps
        assert all(earlier < later for earlier, later in pairwise(best))
        assert costs.bound(best) <= costs.bound(even_places(60, steps)) + 1e-9
    assert costs.best(60) == list(range(60))
    assert len(chain.respaced(chain.timesteps[costs.best(7)].tolist())) == 7


def test_with_few_steps_the_analytic_variance_costs_least_of_those_that_are_not_learned():
    bounds = {}
    for kind in ("fixed_small", "fixed_large", "analytic"):
        _, chain, found = surveyed(60, kind)
        bounds[kind] = pair_costs(chain, found).bound(even_places(60, 6))
    assert bounds["analytic"] < min(bounds["fixed_small"], bounds["fixed_large"])
