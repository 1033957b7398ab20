"""The reverse variance that is optimal for a network, in closed form from how long its eps is.

The bound is smallest where p(x_{t-1} | x_t) has the true variance, which by the law of total variance is
beta-tilde plus what is uncertain about x_0. That follows from gamma_t = E|eps|^2 / d alone, which
`step_schedule.survey` measures over pictures: the data's, or the model's own. gamma_t is the network's and no
chain's: whatever timesteps are visited, it is the same.

Source: Bao et al. (2022), "Analytic-DPM", whose Gamma is of the score: gamma is (1 - alpha-bar) Gamma.
"""

__all__ = ["ANALYTIC", "gamma_of", "knowing", "with_analytic_variance", "x0_variance"]

from collections.abc import Mapping

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion

ANALYTIC = "analytic"  # the name of this variance
LEVEL_VARIANCE = (1 / 255) ** 2 / 3  # of a value known to its level of 256 and no further


def gamma_of(eps: Tensor, noise: Tensor) -> Tensor:
    """gamma, a float64 scalar, from the eps that a network sees in images noised by `noise`.

    eps has a part along the noise, whose length is known: E|noise|^2 / d = 1, however far a draw misses that.
    Without that control variate 1 - gamma drowns where little signal is left.
    """
    eps, noise = eps.double(), noise.double()
    length = noise.square().mean()
    along = (eps * noise).mean() / length
    return eps.square().mean() - along**2 * (length - 1)


def x0_variance(diffusion: GaussianDiffusion, gamma: Tensor) -> Tensor:
    """E Var(x_0 | x_t) of a pixel = (1 - gamma) / SNR, float64 (T,), from gamma (T,).

    Held between the variance within a level and 1, the largest in [-1, 1] (Bao et al., theorem 2): where
    hardly any signal is left, gamma is 1 but for the error of its estimate.
    """
    return ((1 - gamma.double()) / diffusion.trained.snr.clamp(min=1e-12)).clamp(LEVEL_VARIANCE, 1)


def with_analytic_variance(chain: GaussianDiffusion, gamma: Tensor) -> GaussianDiffusion:
    """The chain with the optimal variance, from gamma (T,) of every trained timestep."""
    return chain.with_variance("analytic", x0_variance=x0_variance(chain, gamma))  # type: ignore[arg-type]


def knowing(diffusion: GaussianDiffusion, gamma: Mapping[int, float]) -> GaussianDiffusion:
    """The same diffusion, whose chains may take the analytic variance where they visit these timesteps."""
    table = torch.full((len(diffusion.trained),), torch.nan, dtype=torch.float64)
    for t, value in gamma.items():
        table[t] = value
    return diffusion.with_variance(diffusion.variance_type, x0_variance=x0_variance(diffusion, table))
