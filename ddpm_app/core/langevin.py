"""Langevin dynamics: eps is a score in disguise, and following it with noise samples a noise level.

As a rule `langevin` takes one such step at each level on the way down and nothing else, the annealed
dynamics of Song and Ermon (2019); as a corrector it takes some more after a step of any rule. Source: Song et
al. (2021), "Score-Based Generative Modeling through Stochastic Differential Equations", algorithms 3 and 5.
"""

__all__ = ["DEFAULT_SNR", "correct", "langevin", "score"]

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion, ReverseGaussian

DEFAULT_SNR = 0.16  # r of algorithm 5


def score(chain: GaussianDiffusion, eps: Tensor, i: int) -> Tensor:
    """The gradient of log q(x_t) at place i, which is -eps / sqrt(1 - alpha-bar)."""
    return -eps / float((1 - chain.alphas_cumprod[i]).sqrt())


def langevin(
    chain: GaussianDiffusion,
    p: ReverseGaussian,
    x_t: Tensor,
    i: int,
    draw: Callable[[], Tensor],
    *,
    snr: float = DEFAULT_SNR,
) -> Tensor:
    """One Langevin step at the level of place i; at the last place x0-hat, free of its noise."""
    return p.pred_x0 if i == 0 else _step(chain, p, x_t, i, draw, snr)


def correct(
    chain: GaussianDiffusion,
    denoiser: Callable[[Tensor, Tensor], Tensor],
    x_t: Tensor,
    i: int,
    draw: Callable[[], Tensor],
    *,
    num_steps: int,
    snr: float = DEFAULT_SNR,
) -> Tensor:
    """x_t after so many Langevin steps at the level of place i, each with a call of the network."""
    place = torch.full((len(x_t),), i)
    t = chain.timesteps[place].to(x_t.device)
    for _ in range(num_steps):
        p = chain.p_mean_variance(denoiser(x_t, t), x_t, place)
        x_t = _step(chain, p, x_t, i, draw, snr)
    return x_t


def _step(
    chain: GaussianDiffusion,
    p: ReverseGaussian,
    x_t: Tensor,
    i: int,
    draw: Callable[[], Tensor],
    snr: float,
) -> Tensor:
    """x_t + delta s + sqrt(2 delta) z, with delta = 2 alpha (r |z| / |s|)^2 of each image on its own.

    Published code takes the norms' mean over the batch, by which an image would depend on its neighbours;
    alpha is that of a single step of the trained chain, whichever timesteps are visited.
    """
    noise, uphill = draw(), score(chain, p.eps, i)
    ratio = _norm(noise) / _norm(uphill).clamp(min=1e-12)
    alpha = float(chain.trained.alphas[chain.timesteps[i]])
    delta = 2 * alpha * (snr * ratio) ** 2
    return x_t + delta * uphill + (2 * delta).sqrt() * noise


def _norm(images: Tensor) -> Tensor:
    """The length of each image, (B, 1, 1, 1)."""
    return images.flatten(1).norm(dim=1).view(-1, *[1] * (images.ndim - 1))
