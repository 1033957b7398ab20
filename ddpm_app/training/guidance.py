"""Autoguidance as something to learn: the model that a run begins with, led away from a weaker one.

The guided x0-hat is x0-hat + (w - 1) (x0-hat - x0-hat of the weaker), w the guidance scale: what the better
model sees and the weaker one does not is exaggerated, and samples become clearer and less various. The run
learns it in place of x_0, so that one network draws in one pass what took two; below a t of choice, where
little is left to decide, it goes on learning x_0 itself, and its bound hardly suffers.

Sources: Karras et al. (2024), "Guiding a diffusion model with a bad version of itself"; Meng et al. (2023),
"On distillation of guided diffusion models", whose first stage this is; Kynkäänniemi et al. (2024), for the
interval.
"""

__all__ = ["Guidance"]

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.errors import UserError
from ddpm_app.models import read_network
from ddpm_app.training.batches import Batch
from ddpm_app.training.config import TrainingConfig


class Guidance:
    """Makes a batch of the run's chain `diffusion` into what the guided model sees in it."""

    def __init__(self, config: TrainingConfig, diffusion: GaussianDiffusion, device: torch.device) -> None:
        self.scale, self.diffusion = config.guidance_scale, diffusion
        self.first = config.guidance_from * len(diffusion)
        self.better = _Teacher(config.init_from, config.channels, diffusion, device)
        self.weaker = _Teacher(config.guide, config.channels, diffusion, device)

    def __call__(self, batch: Batch) -> Batch:
        """The guided x_0, and the noise that mixes with it to the same x_t, where t is guided."""
        guided = batch.t >= self.first
        if not guided.any():
            return batch
        x_0, noise, t = batch.x_0.clone(), batch.noise.clone(), batch.t[guided]
        x_t = self.diffusion.q_sample(x_0[guided], t, noise[guided])
        better = self.better.pred_x0(x_t, t)
        x_0[guided] = better + (self.scale - 1) * (better - self.weaker.pred_x0(x_t, t))
        noise[guided] = self.diffusion.predict_eps(x_t, t, x_0[guided])
        return replace(batch, x_0=x_0, noise=noise)


class _Teacher:
    """A model that is asked at those of its own timesteps which are as noisy as the run's."""

    def __init__(self, name: str, channels: int, run: GaussianDiffusion, device: torch.device) -> None:
        network: Any
        network, self.diffusion = read_network(name)
        self.network = network.eval().to(device)
        if self.network.config.in_channels != channels:
            raise UserError(f"{name} cannot guide pictures of {channels} channels; give a guide of as many")
        own, wanted = self.diffusion.alphas_cumprod, run.alphas_cumprod
        self.nearest = (own[None] - wanted[:, None]).abs().argmin(1).to(device)

    @torch.no_grad()
    def pred_x0(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x0-hat of x_t at the run's t, not clipped."""
        t = self.nearest[t]
        output = self.network(x_t, t).sample.to(x_t.dtype)
        return self.diffusion.p_mean_variance(output, x_t, t, clip_denoised=False).pred_x0
