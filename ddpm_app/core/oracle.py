"""Exact denoisers: E[x_0 | x_t] in closed form, as a truth to test against and a model that needs no weights.

For a finite set of images the posterior over them is a softmax of
-|x_t - sqrt(alpha-bar) x_i|^2 / (2 (1 - alpha-bar)); for normal data it is the regression of x_0 on x_t. Both
answer as a perfect network of the chain's prediction type would.
"""

__all__ = ["image_set_denoiser", "normal_denoiser"]

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.losses import training_target
from ddpm_app.core.samplers import Denoiser


def image_set_denoiser(diffusion: GaussianDiffusion, images: Tensor) -> Denoiser:
    """The optimal prediction for data that is one of `images` (N, C, H, W), each equally likely."""
    flat = images.double().flatten(1)

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise_variance = _signal_and_noise(diffusion.trained, t)
        x = flat.to(x_t.device)
        # |x_t|^2, which all images have in common, drops out
        likeness = signal * (x_t.double().flatten(1) @ x.T) - signal**2 * x.square().sum(1) / 2  # (B, N)
        weights = torch.softmax(likeness / noise_variance, dim=1)
        expected_x0 = (weights @ x).view_as(x_t).to(x_t.dtype)
        return _prediction(diffusion.trained, x_t, t, expected_x0)

    return denoiser


def normal_denoiser(diffusion: GaussianDiffusion, mean: Tensor | float, std: float) -> Denoiser:
    """The optimal prediction for independent normal pixels of the given mean and standard deviation."""

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        signal, noise_variance = (value[..., None, None] for value in _signal_and_noise(diffusion.trained, t))
        shrinkage = signal * std**2 / (signal**2 * std**2 + noise_variance)
        expected_x0 = mean + shrinkage * (x_t.double() - signal * mean)
        return _prediction(diffusion.trained, x_t, t, expected_x0.to(x_t.dtype))

    return denoiser


def _signal_and_noise(diffusion: GaussianDiffusion, t: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha-bar) and 1 - alpha-bar at t, float64 (B, 1)."""
    alpha_bar = diffusion.alphas_cumprod[t.to("cpu")].to(t.device)[:, None]
    return alpha_bar.sqrt(), 1 - alpha_bar


def _prediction(diffusion: GaussianDiffusion, x_t: Tensor, t: Tensor, expected_x0: Tensor) -> Tensor:
    return training_target(diffusion, expected_x0, x_t, t, diffusion.predict_eps(x_t, t, expected_x0))
