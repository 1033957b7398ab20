"""DDIM run upwards: the x_T from which the deterministic sampler draws a given picture.

Without noise a DDIM step is an Euler step of an ordinary differential equation (Song, Meng and Ermon 2020,
eq. 14), which can be followed in either direction. Clipping would break it, so it is off both ways.
"""

__all__ = ["TABLE_2", "encode", "reconstruction_error", "unclipped"]

from collections.abc import Iterator
from copy import copy

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.samplers import Denoiser, Step

# steps -> mean squared error on [0, 1] of the paper's model on the CIFAR-10 test set
TABLE_2 = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009, 200: 0.0004, 500: 0.0001, 1000: 0.0001}


def unclipped(chain: GaussianDiffusion) -> GaussianDiffusion:
    """The same chain, x0-hat left as the network gives it."""
    chain = copy(chain)
    chain.clip_denoised = False
    return chain


def encode(chain: GaussianDiffusion, denoiser: Denoiser, x_0: Tensor) -> Iterator[Step]:
    """From x_0 (B, C, H, W), where alpha-bar is 1, to the chain's last timestep: a Step for each one reached.

    Every step takes the eps of where it starts; at x_0, which no network was trained on, that of t = 0.
    """
    state, visited = x_0, chain.timesteps.tolist()
    for i, (here, above) in enumerate(zip([0, *visited], visited, strict=False)):
        t = torch.full((len(x_0),), here)
        with torch.inference_mode():  # entered inside each step: a generator may be resumed by another thread
            model_output = denoiser(state, t.to(state.device))
            p = chain.trained.p_mean_variance(model_output, state, t, clip_denoised=False)
            alpha_bar, alpha_bar_next = chain.alphas_cumprod_prev[i], chain.alphas_cumprod[i]
            shrinkage = (alpha_bar_next / alpha_bar).sqrt()
            growth = (1 - alpha_bar_next).sqrt() - shrinkage * (1 - alpha_bar).sqrt()
            state = float(shrinkage) * state + float(growth) * p.eps
        yield Step(above, len(chain) - i - 1, state, p.pred_x0)


def reconstruction_error(x_0: Tensor, images: Tensor) -> Tensor:
    """The mean squared error of each image, (B,), on pixels in [0, 1], outside of which they are cut off."""
    return ((images.clamp(-1, 1) - x_0) / 2).square().flatten(1).mean(1)
