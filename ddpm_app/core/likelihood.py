"""The variational bound on -log p(x_0) in bits per dimension: L_T, every L_{t-1}, and L_0 (eq. 5).

Images are those of 256 levels scaled to [-1, 1]. What ends in `_bits` is told for each channel of each pixel,
(B, C, H, W); its mean is in bits per dimension. Source: Ho, Jain and Abbeel (2020).
"""

__all__ = [
    "bound_bits",
    "bound_term",
    "decoder_log_likelihood",
    "measured",
    "normal_kl",
    "prior_bits",
    "prior_bpd",
    "strata",
    "stratified_sum",
    "vb_bits",
    "vb_bpd",
]

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from ddpm_app.core.diffusion import Gaussian, GaussianDiffusion
from ddpm_app.core.samplers import Denoiser


def normal_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL(N_1 | N_2) of each element in nats."""
    ratio = log_variance_1 - log_variance_2
    return 0.5 * (ratio.exp() - 1 - ratio + (mean_1 - mean_2) ** 2 * (-log_variance_2).exp())


def decoder_log_likelihood(x_0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log p(x_0 | x_1) of each pixel in nats: the normal's mass over its level's bin (eq. 13).

    A bin is 2/255 wide; the bins of the darkest and the brightest level are open to their side.
    """
    # beyond these a bin's mass rounds to 0, or the gradient of log_ndtr overflows
    log_variance = log_variance.double().clamp(-25, 40)
    distance, scale = (x_0 - mean).double(), (-log_variance / 2).exp()
    lower, upper = (distance - 1 / 255) * scale, (distance + 1 / 255) * scale
    lower = lower.masked_fill(x_0 < -0.999, -math.inf)
    upper = upper.masked_fill(x_0 > 0.999, math.inf)
    # the mass is symmetric: measured in the left tail, its logarithm never underflows
    flip = lower > 0
    lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_upper = torch.special.log_ndtr(upper)
    return log_upper + torch.log(-torch.expm1(torch.special.log_ndtr(lower) - log_upper))


def prior_bits(diffusion: GaussianDiffusion, x_0: Tensor) -> Tensor:
    """L_T: KL(q(x_T | x_0) | N(0, I))."""
    last = torch.full((len(x_0),), len(diffusion) - 1)
    mean = diffusion.gather(diffusion.alphas_cumprod.sqrt(), last, x_0.double()) * x_0
    log_variance = diffusion.gather((1 - diffusion.alphas_cumprod).log(), last, x_0.double())
    return normal_kl(mean, log_variance, torch.zeros_like(mean), torch.zeros_like(mean)) / math.log(2)


def prior_bpd(diffusion: GaussianDiffusion, x_0: Tensor) -> Tensor:
    """L_T of each image, (B,)."""
    return prior_bits(diffusion, x_0).flatten(1).mean(1)


def bound_bits(diffusion: GaussianDiffusion, p: Gaussian, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """What the reverse step p(x_{t-1} | x_t) costs.

    It is L_{t-1} = KL(q(x_{t-1} | x_t, x_0) | p(x_{t-1} | x_t)) for t > 0, and -log p(x_0 | x_1) at t = 0.
    """
    q = diffusion.q_posterior(x_0, x_t, t)
    nats = normal_kl(q.mean.double(), q.log_variance.double(), p.mean.double(), p.log_variance.double())
    last = (t == 0).to(x_0.device)
    # evaluated there alone: it costs more than all the rest
    nats[last] = -decoder_log_likelihood(x_0[last], p.mean[last], p.log_variance[last])
    return nats / math.log(2)


def bound_term(diffusion: GaussianDiffusion, p: Gaussian, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The same of each image, (B,)."""
    return bound_bits(diffusion, p, x_0, x_t, t).flatten(1).mean(1)


def vb_bits(
    chain: GaussianDiffusion, denoiser: Denoiser, x_0: Tensor, x_t: Tensor, i: Tensor
) -> tuple[Tensor, Tensor]:
    """The bound's term at place i (B,) of the chain for that x_t, and x0-hat."""
    p = chain.p_mean_variance(denoiser(x_t, chain.timesteps[i].to(x_t.device)), x_t, i)
    return bound_bits(chain, p, x_0, x_t, i), p.pred_x0


def vb_bpd(chain: GaussianDiffusion, denoiser: Denoiser, x_0: Tensor, i: Tensor, noise: Tensor) -> Tensor:
    """One sample of the bound's term at place i (B,) of the chain, for each image (B,)."""
    bits, _ = vb_bits(chain, denoiser, x_0, chain.q_sample(x_0, i, noise), i)
    return bits.flatten(1).mean(1)


def measured(
    chain: GaussianDiffusion,
    denoiser: Denoiser,
    x_0: Tensor,
    draws: Iterable[tuple[int, Tensor]],
    at_once: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """vb_bits of one image (1, C, H, W) at each (i, x_t) drawn, `at_once` in one call of the network."""
    remaining = iter(draws)
    while batch := list(islice(remaining, at_once)):
        i, x_t = torch.tensor([place for place, _ in batch]), torch.cat([x_t for _, x_t in batch])
        with torch.inference_mode():  # entered for each call: another thread may resume a generator
            bits, pred_x0 = vb_bits(chain, denoiser, x_0.expand(len(batch), -1, -1, -1), x_t, i)
        yield from zip(bits, pred_x0, strict=True)


def strata(num_places: int, num_terms: int, generator: torch.Generator) -> list[tuple[Tensor, int]]:
    """About `num_terms` of the places 1 .. num_places - 1, as (places drawn, size of their stratum).

    The terms fall steeply with t, so the strata grow geometrically; two places are drawn from each, without
    replacement, which gives the sum's standard error. With enough terms every place is drawn, some at a time.
    """
    if num_terms >= num_places - 1:
        return [(places, len(places)) for places in torch.arange(1, num_places).split(16)]
    few, many = max(1, num_terms // 2), 16 * num_places  # strata: too few, and one for each place
    while many - few > 1:
        middle = (few + many) // 2
        drawn = _edges(num_places, middle).diff().clamp(max=2).sum()
        few, many = (middle, many) if drawn <= num_terms else (few, middle)
    edges = _edges(num_places, few)
    sizes = edges.diff().tolist()
    return [
        (low + torch.randperm(size, generator=generator)[:2].sort().values, size)
        for low, size in zip(edges.tolist(), sizes, strict=False)
    ]


def _edges(num_places: int, num_strata: int) -> Tensor:
    """Where so many strata begin and end, those that hold no place left out."""
    return torch.logspace(0, math.log10(num_places), num_strata + 1).round().long().unique()


def stratified_sum(parts: list[tuple[Tensor, int]]) -> tuple[float, float]:
    """The sum over all places and its standard error, from (terms measured, size of their stratum).

    The terms are (places, draws of the noise at each). The error is that of the places left out and of the
    noise; one draw tells nothing of the latter (Cochran 1977, Sampling Techniques, eq. 10.15).
    """
    total = variance = 0.0
    for terms, size in parts:
        places, draws = terms.shape
        means = terms.mean(1)
        if places:
            total += size * means.mean().item()
        if 1 < places < size:
            variance += size**2 * means.var().item() / places * (1 - places / size)
        if places and draws > 1:
            variance += size * terms.var(1).mean().item() / draws
    return total, math.sqrt(variance)
