"""Training objectives: what the network should have said at (x_0, t, noise), and how far off it was.

Source: Ho, Jain and Abbeel (2020).
"""

__all__ = ["loss_simple", "training_target"]

from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.samplers import Denoiser


def training_target(
    diffusion: GaussianDiffusion, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    """What a perfect network of this prediction type returns for the x_t that `noise` makes of x_0."""
    if diffusion.prediction_type == "epsilon":
        return noise
    if diffusion.prediction_type == "sample":
        return x_0
    if diffusion.prediction_type == "v_prediction":
        return diffusion.velocity(x_0, t, noise)
    return diffusion.q_posterior(x_0, x_t, t).mean


def loss_simple(
    diffusion: GaussianDiffusion, denoiser: Denoiser, x_0: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    """L_simple (eq. 14) of each image, (B,): the prediction's mean squared error, every t alike."""
    x_t = diffusion.q_sample(x_0, t, noise)
    target = training_target(diffusion, x_0, x_t, t, noise)
    prediction, _ = diffusion.split_output(denoiser(x_t, t).float(), x_t)
    return (prediction - target).square().flatten(1).mean(1)
