"""Which timesteps to visit: those with the smallest bound among all chains of S steps.

The bound of a chain is a sum over its neighbours s < t of KL(q(x_s | x_t, x_0) | p(x_s | x_t)), and the
network enters each only by its x0-hat at t. So one pass over the candidates prices every pair, and the best
chain is a shortest path. Every chain here ends at the first candidate, and L_0 is paid by the pair above it.

Source: Watson et al. (2021), "Learning to Efficiently Sample from Diffusion Probabilistic Models"; with the
optimal variance, Bao et al. (2022), section 4.
"""

__all__ = ["Costs", "Survey", "even_places", "pair_costs", "survey"]

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_app.core.analytic import gamma_of
from ddpm_app.core.diffusion import GaussianDiffusion, spaced_timesteps
from ddpm_app.core.likelihood import decoder_log_likelihood
from ddpm_app.core.samplers import Denoiser

GROUPS = 64  # of pixels, by the variance that the network gives them
CHUNK = 16  # images in one call of the network


@dataclass(frozen=True)
class Survey:
    """What the network knows about images x_0 at each of G candidate timesteps.

    `errors` (G, K) are means of |x_0 - x0-hat|^2 over groups of pixels that are alike in `shares` (G, K),
    the network's v between beta-tilde and beta; `gamma` (G,) is E|eps|^2 / d with x0-hat unclipped.
    """

    x_0: Tensor
    first_x_t: Tensor  # at the first candidate
    first_output: Tensor
    errors: Tensor
    shares: Tensor
    gamma: Tensor


def survey(
    chain: GaussianDiffusion, denoiser: Denoiser, x_0: Tensor, generator: torch.Generator
) -> Iterator[int | Survey]:
    """The number of candidates seen, after each timestep of the chain, and at the end the Survey."""
    errors, shares, gamma = [], [], []
    first: list[Tensor] = []
    for i in range(len(chain)):
        place = torch.full((len(x_0),), i)
        noise = torch.randn(x_0.shape, generator=generator).to(x_0.device)
        with torch.inference_mode():
            x_t = chain.q_sample(x_0, place, noise)
            t = chain.timesteps[place].to(x_0.device)
            parts = zip(x_t.split(CHUNK), t.split(CHUNK), strict=True)
            output = torch.cat([denoiser(*part) for part in parts])
            p = chain.p_mean_variance(output, x_t, place)
        error = (x_0 - p.pred_x0).square().flatten()
        _, variance_output = chain.split_output(output, x_t)
        share = torch.zeros_like(error) if variance_output is None else (variance_output.flatten() + 1) / 2
        groups = share.argsort().tensor_split(min(GROUPS, len(share)))
        errors.append(torch.stack([error[group].double().mean() for group in groups]))
        shares.append(torch.stack([share[group].double().mean() for group in groups]))
        gamma.append(gamma_of(chain.predict_eps(x_t, place, p.unclipped_x0), noise))
        first = first or [x_t, output]
        yield i + 1
    found = [torch.stack(rows).cpu() for rows in (errors, shares, gamma)]
    yield Survey(x_0.cpu(), first[0].cpu(), first[1].cpu(), *found)


@dataclass(frozen=True)
class Costs:
    """Bits/dim of every chain over G candidates: a pair (s, t) costs `pairs[s, t]`, the last t `prior[t]`."""

    pairs: Tensor
    prior: Tensor

    def bound(self, places: list[int]) -> float:
        """L in bits/dim of the chain that visits these places, of which 0 is the first."""
        return (self.pairs[places[:-1], places[1:]].sum() + self.prior[places[-1]]).item()

    def best(self, num_steps: int) -> list[int]:
        """The places of the chain of so many steps, at least 2, whose bound is the smallest."""
        least = torch.full_like(self.prior, math.inf)  # of the chains so far, by where they end
        least[0] = 0
        came_from = []
        for _ in range(num_steps - 1):
            least, source = (least[:, None] + self.pairs).min(0)
            came_from.append(source)
        places = [int((least + self.prior).argmin())]
        for source in reversed(came_from):
            places.append(int(source[places[-1]]))
        return places[::-1]


def even_places(num_candidates: int, num_steps: int) -> list[int]:
    """So many evenly spaced places, with the first and the last among them."""
    return spaced_timesteps(num_candidates, num_steps, "linspace")


def pair_costs(chain: GaussianDiffusion, found: Survey) -> Costs:
    """What each pair of the chain's timesteps costs with the chain's own variance, by a survey of it."""
    alpha_bar = chain.alphas_cumprod
    rest, log_two = 1 - alpha_bar, math.log(2)
    beta = 1 - alpha_bar[None, :] / alpha_bar[:, None]  # of one step from t (a column) to s (a row)
    below = beta > 0
    beta = beta.where(below, 1.0)
    small = beta * rest[:, None] / rest  # beta-tilde
    weight = alpha_bar[:, None] * (beta / rest) ** 2  # of |x_0 - x0-hat|^2 in the means' distance
    groups = [(found.errors.mean(1), torch.zeros(len(chain)))]
    if chain.variance_type == "learned_range":
        groups = list(zip(found.errors.T, found.shares.T, strict=True))
    nats = torch.zeros_like(beta)
    for error, share in groups:
        log_variance = _log_variance(chain, beta, small, weight, share)
        off = (small + weight * error) / log_variance.exp()
        nats += 0.5 * (off - 1 + log_variance - small.log()) / len(groups)
    pairs = (nats / log_two).where(below, math.inf)
    pairs[0, 1:] += _decoder_bits(chain, found)
    power = found.x_0.double().square().mean()
    prior = 0.5 * (alpha_bar * (power - 1) - rest.log()) / log_two  # L_T, in closed form
    return Costs(pairs, prior)


def _log_variance(
    chain: GaussianDiffusion, beta: Tensor, small: Tensor, weight: Tensor, share: Tensor
) -> Tensor:
    """log of the variance of p(x_s | x_t) for every pair, (G, G)."""
    if chain.variance_type == "analytic":
        assert chain.x0_variance is not None
        return (small + weight * chain.x0_variance[chain.timesteps]).log()
    if chain.variance_type == "fixed_large":
        return beta.log()
    return share * beta.log() + (1 - share) * small.log()


def _decoder_bits(chain: GaussianDiffusion, found: Survey) -> Tensor:
    """L_0 in bits/dim of the chains whose second timestep is each of the later ones, (G - 1,)."""
    first, *later = chain.timesteps.tolist()
    place = torch.zeros(len(found.x_0), dtype=torch.int64)
    bits = []
    for t in later:
        p = chain.respaced([first, t]).p_mean_variance(found.first_output, found.first_x_t, place)
        bits.append(-decoder_log_likelihood(found.x_0, p.mean, p.log_variance).mean() / math.log(2))
    return torch.stack(bits)
