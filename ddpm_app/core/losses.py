"""Training objectives, and which timesteps to train on.

Every objective has one signature, (diffusion, denoiser, x_0, t, noise) -> (B,), and calls the network once.

Source: Ho, Jain and Abbeel (2020); L_hybrid and importance sampling: Nichol and Dhariwal (2021); min-SNR
weights: Hang et al. (2023).
"""

__all__ = ["LOSSES", "TimestepSampler", "loss_hybrid", "loss_simple", "loss_vlb", "training_target"]

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.likelihood import bound_term
from ddpm_app.core.samplers import Denoiser

VLB_WEIGHT = 0.001  # lambda of L_hybrid
HISTORY = 10  # losses remembered for each timestep
UNIFORM_SHARE = 0.001  # of importance sampling


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


def min_snr_weight(diffusion: GaussianDiffusion, gamma: float) -> Tensor:
    """What makes a squared error of the prediction one of min(SNR, gamma) times that of x0-hat, (T,)."""
    squared_error_of_prediction = {  # for a squared error of x0-hat of 1
        "epsilon": diffusion.snr,
        "sample": torch.ones_like(diffusion.snr),
        "v_prediction": diffusion.snr + 1,
        "posterior_mean": diffusion.posterior_mean_coef1**2,
    }
    return diffusion.snr.clamp(max=gamma) / squared_error_of_prediction[diffusion.prediction_type]


def loss_simple(
    diffusion: GaussianDiffusion,
    denoiser: Denoiser,
    x_0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    min_snr_gamma: float | None = None,
) -> Tensor:
    """L_simple (eq. 14) of each image, (B,): the prediction's mean squared error, every t alike.

    With `min_snr_gamma` the timesteps weigh as in Hang et al. (2023), section 3.4.
    """
    x_t = diffusion.q_sample(x_0, t, noise)
    prediction, _ = diffusion.split_output(denoiser(x_t, t).to(x_0.dtype), x_t)
    return _squared_error(diffusion, prediction, x_0, x_t, t, noise, min_snr_gamma)


def loss_vlb(
    diffusion: GaussianDiffusion, denoiser: Denoiser, x_0: Tensor, t: Tensor, noise: Tensor
) -> Tensor:
    """T times the bound's term at t of each image, (B,) in bits/dim: its mean over all t is L less L_T."""
    x_t = diffusion.q_sample(x_0, t, noise)
    return _bound(diffusion, denoiser(x_t, t).to(x_0.dtype), x_0, x_t, t)


def loss_hybrid(
    diffusion: GaussianDiffusion,
    denoiser: Denoiser,
    x_0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    min_snr_gamma: float | None = None,
) -> Tensor:
    """L_simple + 0.001 L_vlb, (B,), where L_vlb teaches the variance alone (Nichol and Dhariwal, eq. 16)."""
    x_t = diffusion.q_sample(x_0, t, noise)
    model_output = denoiser(x_t, t).to(x_0.dtype)
    prediction, variance_output = diffusion.split_output(model_output, x_t)
    simple = _squared_error(diffusion, prediction, x_0, x_t, t, noise, min_snr_gamma)
    learned = [] if variance_output is None else [variance_output]
    stopped = torch.cat([prediction.detach(), *learned], dim=1)
    return simple + VLB_WEIGHT * _bound(diffusion, stopped, x_0, x_t, t)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "simple": loss_simple,
    "vlb": loss_vlb,
    "hybrid": loss_hybrid,
}


class TimestepSampler:
    """Timesteps to train on, each with the weight that keeps the mean loss that of uniform ones.

    Uniform, or by importance: p_t ~ sqrt(E[L_t^2]) over the last ten losses of each t, once all have ten
    (Nichol and Dhariwal 2021, section 3.3). `history` (T, 10) and `counts` (T,) are its whole state.
    """

    def __init__(self, num_timesteps: int, importance: bool = False) -> None:
        self.importance = importance
        self.history = torch.zeros(num_timesteps, HISTORY, dtype=torch.float64)
        self.counts = torch.zeros(num_timesteps, dtype=torch.int64)

    @property
    def probabilities(self) -> Tensor:
        """p_t, float64 (T,)."""
        uniform = torch.full_like(self.history[:, 0], 1 / len(self.counts))
        if not self.importance or self.counts.min() < HISTORY:
            return uniform
        spread = self.history.square().mean(1).sqrt()
        return (1 - UNIFORM_SHARE) * spread / spread.sum() + UNIFORM_SHARE * uniform

    def draw(self, num_images: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """t (B,) and the weight 1 / (T p_t) of each image's loss, float32 (B,)."""
        if not self.importance:
            t = torch.randint(len(self.counts), (num_images,), generator=generator)
            return t, torch.ones(num_images)
        p = self.probabilities
        t = torch.multinomial(p, num_images, replacement=True, generator=generator)
        return t, (1 / (len(p) * p[t])).float()

    def record(self, t: Tensor, losses: Tensor) -> None:
        """Remembers the unweighted losses (B,) of timesteps t (B,), the newest in place of the oldest."""
        if self.importance:
            for place, loss in zip(t.tolist(), losses.tolist(), strict=True):
                self.history[place, self.counts[place] % HISTORY] = loss
                self.counts[place] += 1


def _squared_error(diffusion, prediction, x_0, x_t, t, noise, min_snr_gamma) -> Tensor:
    target = training_target(diffusion, x_0, x_t, t, noise)
    error = (prediction - target).square().flatten(1).mean(1)
    if min_snr_gamma is None:
        return error
    return error * diffusion.gather(min_snr_weight(diffusion, min_snr_gamma), t, error)


def _bound(diffusion: GaussianDiffusion, model_output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    where = model_output.device
    if where.type == "mps":  # which has no float64
        model_output, x_0, x_t = model_output.cpu(), x_0.cpu(), x_t.cpu()
    # unclipped, or the gradient would vanish where x0-hat leaves [-1, 1]
    p = diffusion.p_mean_variance(model_output, x_t, t, clip_denoised=False)
    return len(diffusion) * bound_term(diffusion, p, x_0, x_t, t).to(where, model_output.dtype)
