"""The chain: q(x_t | x_0), its posterior, and p(x_{t-1} | x_t) from whatever a network predicts.

Timesteps are 0-based: t = 0 leaves the cleanest image, and the alpha-bar before it is 1. A respaced chain
keeps only some of the trained timesteps; its own places are counted by i, and `timesteps[i]` is what the
network is told. All tables are float64 and combine in float64; `gather` casts once, at the end.

Source: Ho, Jain and Abbeel (2020), whose equations are cited by number; others by name.
"""

__all__ = [
    "GaussianDiffusion",
    "PredictionType",
    "Spacing",
    "VarianceType",
    "hand_over",
    "spaced_timesteps",
]

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from operator import index
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ddpm_app.errors import UserError, one_of

PredictionType = Literal["epsilon", "sample", "v_prediction", "posterior_mean"]
VarianceType = Literal["fixed_small", "fixed_large", "learned_range", "learned"]
Spacing = Literal["leading", "trailing", "linspace"]


@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution; the variance broadcasts against the mean."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor


@dataclass(frozen=True)
class ReverseGaussian(Gaussian):
    """p(x_{t-1} | x_t) with its x0-hat, the eps that belongs to that, and x0-hat before clipping."""

    pred_x0: Tensor
    eps: Tensor
    unclipped_x0: Tensor


def spaced_timesteps(
    num_train_timesteps: int, num_inference_steps: int, spacing: Spacing = "leading"
) -> list[int]:
    """Exactly `num_inference_steps` increasing timesteps out of 0 .. T - 1, whether or not they divide T.

    leading starts at 0 (Song et al. 2020, appendix D.3), trailing ends at T - 1, linspace does both.
    """
    T, S = num_train_timesteps, num_inference_steps
    if not 1 <= S <= T:
        raise UserError(
            f"num_inference_steps must lie in 1..{T}, "
            f"the length of the chain this model was trained on; got {S}"
        )
    one_of("timestep_spacing", spacing, get_args(Spacing))
    if spacing == "leading":
        return [i * T // S for i in range(S)]
    if spacing == "linspace" and S > 1:
        return [round(i * (T - 1) / (S - 1)) for i in range(S)]
    return [round((i + 1) * T / S) - 1 for i in range(S)]


def hand_over(values: Tensor, device: torch.device | str) -> Tensor:
    """The values on that device; a CUDA device gets them in its turn, and nobody waits for its work."""
    if values.device.type == "cpu" and torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class GaussianDiffusion:
    """A Gaussian chain of len(betas) steps; `timesteps` names the trained timestep behind each place.

    `alphas_cumprod` is given where betas near 1 have lost its digits: to a chain respaced to few steps.
    Raises UserError for betas outside (0, 1], unknown types and chains that cannot be walked.
    """

    def __init__(
        self,
        betas: Tensor,
        prediction_type: PredictionType = "epsilon",
        variance_type: VarianceType = "fixed_large",
        clip_denoised: bool = True,
        *,
        timestep_spacing: Spacing = "leading",
        trained: "GaussianDiffusion | None" = None,
        timesteps: Sequence[int] | None = None,
        alphas_cumprod: Tensor | None = None,
        x0_variance: Tensor | None = None,
    ) -> None:
        self.betas = betas = torch.as_tensor(betas, dtype=torch.float64)
        if betas.ndim != 1 or not len(betas) or not ((betas > 0) & (betas <= 1)).all():
            raise UserError("betas must be a list of numbers in (0, 1]; correct the schedule")
        self.prediction_type = one_of("prediction_type", prediction_type, get_args(PredictionType))
        self.x0_variance = x0_variance  # E Var(x_0 | x_t) at each trained timestep, once it is measured
        measured = () if x0_variance is None else ("analytic",)
        self.variance_type = one_of("variance_type", variance_type, [*get_args(VarianceType), *measured])
        self.timestep_spacing = one_of("timestep_spacing", timestep_spacing, get_args(Spacing))
        self.clip_denoised = clip_denoised
        self.trained = trained or self  # the chain the network was trained on
        self.timesteps = torch.as_tensor(
            range(len(betas)) if timesteps is None else timesteps, dtype=torch.int64
        )

        one = torch.ones(1, dtype=torch.float64)
        self.alphas = 1 - betas
        self.alphas_cumprod = torch.cumprod(self.alphas, 0) if alphas_cumprod is None else alphas_cumprod
        self.alphas_cumprod_prev = torch.cat([one, self.alphas_cumprod[:-1]])
        # q(x_{t-1} | x_t, x_0), eqs. 6 and 7
        rest, rest_prev = 1 - self.alphas_cumprod, 1 - self.alphas_cumprod_prev
        self.posterior_mean_coef1 = self.alphas_cumprod_prev.sqrt() * betas / rest
        self.posterior_mean_coef2 = self.alphas.sqrt() * rest_prev / rest
        self.posterior_variance = betas * rest_prev / rest
        # beta-tilde is 0 at t = 0: as in the authors' code the next value stands there, or beta where none is
        second = self.posterior_variance[1:2] if len(betas) > 1 else betas
        self.posterior_log_variance_clipped = torch.cat([second, self.posterior_variance[1:]]).log()
        self.large_log_variance = torch.cat([second, betas[1:]]).log()
        self._refuse_the_impossible()

    def __len__(self) -> int:
        """The number of steps of this chain."""
        return len(self.betas)

    @property
    def snr(self) -> Tensor:
        """alpha-bar / (1 - alpha-bar), float64 (T,)."""
        return self.alphas_cumprod / (1 - self.alphas_cumprod)

    @property
    def analytic_variance(self) -> Tensor:
        """Var(x_{t-1} | x_t), float64 (T,): the posterior's, and what is uncertain about x_0 besides.

        Bao et al. (2022), theorem 1, as the law of total variance. Only where `x0_variance` is measured.
        """
        assert self.x0_variance is not None
        uncertain = self.posterior_mean_coef1**2 * self.x0_variance[self.timesteps]
        return self.posterior_variance + uncertain

    @staticmethod
    def gather(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """table[t] as (B, 1, 1, 1) in the dtype and on the device of `like`."""
        values = hand_over(table[t.to(table.device)].to(like.dtype), like.device)
        return values.view(-1, *[1] * (like.ndim - 1))

    def q_sample(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t ~ q(x_t | x_0), from the noise given (eq. 4)."""
        signal = self.gather(self.alphas_cumprod.sqrt(), t, x_0)
        return signal * x_0 + self.gather((1 - self.alphas_cumprod).sqrt(), t, x_0) * noise

    def q_posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Gaussian:
        """q(x_{t-1} | x_t, x_0) (eqs. 6 and 7); its log-variance at t = 0 is the clipped one."""
        x_0_part = self.gather(self.posterior_mean_coef1, t, x_t) * x_0
        mean = x_0_part + self.gather(self.posterior_mean_coef2, t, x_t) * x_t
        variance = self.gather(self.posterior_variance, t, x_t)
        return Gaussian(mean, variance, self.gather(self.posterior_log_variance_clipped, t, x_t))

    def predict_x0(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x0-hat = (x_t - sqrt(1 - alpha-bar) eps) / sqrt(alpha-bar) (eq. 15)."""
        scale = self.gather(self.alphas_cumprod.rsqrt(), t, x_t)
        return scale * x_t - self.gather((1 / self.alphas_cumprod - 1).sqrt(), t, x_t) * eps

    def predict_eps(self, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        """The eps that leads from x_0 to x_t: eq. 15 solved for it."""
        signal = self.gather(self.alphas_cumprod.sqrt(), t, x_t)
        return (x_t - signal * x_0) * self.gather((1 - self.alphas_cumprod).rsqrt(), t, x_t)

    def velocity(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """v = sqrt(alpha-bar) eps - sqrt(1 - alpha-bar) x_0 (Salimans and Ho 2022, appendix D)."""
        signal = self.gather(self.alphas_cumprod.sqrt(), t, x_0)
        return signal * noise - self.gather((1 - self.alphas_cumprod).sqrt(), t, x_0) * x_0

    def split_output(self, model_output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
        """The prediction and, where the network gives one, its output for the variance, shaped like x_t."""
        channels = x_t.shape[1]
        if model_output.shape[1] not in (channels, 2 * channels):
            raise UserError(
                f"the network gives {model_output.shape[1]} channels for images of {channels}; "
                f"it must give {channels}, or {2 * channels} with a learned variance"
            )
        prediction, *rest = model_output.split(channels, dim=1)
        return prediction, rest[0] if rest else None

    def p_mean_variance(
        self, model_output: Tensor, x_t: Tensor, t: Tensor, *, clip_denoised: bool | None = None
    ) -> ReverseGaussian:
        """p(x_{t-1} | x_t): the posterior at x0-hat, clipped when the chain, or the caller, says so (eq. 11).

        `model_output` has the channels of x_t, or twice as many where the variance is learned. A mean in it
        counts as the x0-hat that it implies, which clipping and respacing reach; with neither it is the mean.
        """
        prediction, variance_output = self.split_output(model_output, x_t)
        unclipped_x0 = self._pred_x0(prediction, x_t, t)
        clip = self.clip_denoised if clip_denoised is None else clip_denoised
        pred_x0 = unclipped_x0.clamp(-1, 1) if clip else unclipped_x0
        mean = self.q_posterior(pred_x0, x_t, t).mean
        log_variance = self._log_variance(variance_output, x_t, t)
        eps = self.predict_eps(x_t, t, pred_x0)
        return ReverseGaussian(mean, log_variance.exp(), log_variance, pred_x0, eps, unclipped_x0)

    def respaced(self, timesteps: int | Sequence[int], spacing: Spacing | None = None) -> "GaussianDiffusion":
        """This process seen only at some trained timesteps: a number of steps, or an increasing list of them.

        beta' = 1 - alpha-bar[t] / alpha-bar[t_prev] over those visited (Nichol and Dhariwal 2021, eq. 19).
        """
        base = self.trained
        if isinstance(timesteps, int | Integral):
            timesteps = spaced_timesteps(len(base), int(timesteps), spacing or self.timestep_spacing)
        visited = [index(t) for t in timesteps]
        increasing = all(earlier < later for earlier, later in pairwise(visited))
        if not visited or visited[0] < 0 or visited[-1] >= len(base) or not increasing:
            raise UserError(f"timesteps must increase within 0..{len(base) - 1}; got {visited[:12]}")
        alphas_cumprod = base.alphas_cumprod[visited]
        previous = torch.cat([torch.ones(1, dtype=torch.float64), alphas_cumprod[:-1]])
        betas = 1 - alphas_cumprod / previous
        return self._like(betas, timesteps=visited, trained=base, alphas_cumprod=alphas_cumprod)

    def with_variance(self, variance_type: VarianceType, **measured: Tensor) -> "GaussianDiffusion":
        """The same chain with another reverse variance; with `x0_variance` (T,) analytic is one of them.

        UserError for one that the network has learned, but as another thing.
        """
        if {variance_type, self.variance_type} == {"learned", "learned_range"}:
            raise UserError(
                f"this model learned its variance as {self.variance_type}, and {variance_type} would read "
                "it as another thing; choose that, or a fixed variance"
            )
        trained = None if self.trained is self else self.trained
        kept: dict[str, Any] = {"trained": trained, "alphas_cumprod": self.alphas_cumprod}
        timesteps = self.timesteps.tolist()
        return self._like(self.betas, timesteps=timesteps, variance_type=variance_type, **kept, **measured)

    def _refuse_the_impossible(self) -> None:
        single_steps = torch.equal(self.timesteps, torch.arange(len(self)))
        if self.variance_type == "learned" and not single_steps:
            raise UserError(
                f"variance_type learned is of single steps, so it needs all {len(self.trained)} of them; "
                "choose that number of steps, or a fixed variance"
            )
        if self.alphas_cumprod[-1] == 0 and self.prediction_type == "epsilon":
            raise UserError(
                "with zero terminal SNR nothing of the image is left at the last timestep, so predicting eps "
                "cannot lead back; prediction_type must be v_prediction, sample or posterior_mean"
            )

    def _like(self, betas: Tensor, **changes: Any) -> "GaussianDiffusion":
        kept: dict[str, Any] = {
            "prediction_type": self.prediction_type,
            "variance_type": self.variance_type,
            "clip_denoised": self.clip_denoised,
            "timestep_spacing": self.timestep_spacing,
            "x0_variance": self.x0_variance,
        }
        return GaussianDiffusion(betas, **(kept | changes))

    def _pred_x0(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        if self.prediction_type == "sample":
            return prediction
        if self.prediction_type == "v_prediction":
            signal = self.gather(self.alphas_cumprod.sqrt(), t, x_t)
            return signal * x_t - self.gather((1 - self.alphas_cumprod).sqrt(), t, x_t) * prediction
        if self.prediction_type == "posterior_mean":
            # mu-tilde of the trained chain, whichever chain is walked
            chain, t = self.trained, self.timesteps[t.to(self.timesteps.device)]
            x_t_part = self.gather(chain.posterior_mean_coef2, t, x_t) * x_t
            return (prediction - x_t_part) * self.gather(1 / chain.posterior_mean_coef1, t, x_t)
        return self.predict_x0(x_t, t, prediction)

    def _log_variance(self, variance_output: Tensor | None, x_t: Tensor, t: Tensor) -> Tensor:
        small = self.posterior_log_variance_clipped
        if self.variance_type == "fixed_small":
            return self.gather(small, t, x_t)
        if self.variance_type == "fixed_large":
            return self.gather(self.large_log_variance, t, x_t)
        if self.variance_type == "analytic":
            return self.gather(self.analytic_variance.log(), t, x_t)
        if variance_output is None:
            raise UserError(
                f"variance_type {self.variance_type!r} needs a network with twice the image's channels, "
                "which this one has not; choose fixed_small or fixed_large"
            )
        if self.variance_type == "learned":
            return variance_output
        v = (variance_output + 1) / 2  # Nichol and Dhariwal (2021), eq. 15
        upper = self.gather(self.betas.log(), t, x_t)
        return v * upper + (1 - v) * self.gather(small, t, x_t)
