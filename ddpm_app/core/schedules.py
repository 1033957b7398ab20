"""Variance schedules: beta_t for t = 0 .. T - 1 as float64 (T,).

Sources: linear, quadratic and sigmoid from the code of Ho, Jain and Abbeel (2020); cosine from Nichol and
Dhariwal (2021), eq. 17; sigmoid of alpha-bar from Jabri, Fleet and Chen (2022); zero terminal SNR from Lin et
al. (2023), algorithm 1.
"""

__all__ = [
    "SCHEDULES",
    "cosine_betas",
    "linear_betas",
    "quadratic_betas",
    "sigmoid_alpha_bar_betas",
    "sigmoid_betas",
    "zero_terminal_snr",
]

import math
from collections.abc import Callable

import torch
from torch import Tensor


def linear_betas(num_train_timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """Betas evenly spaced from `beta_start` to `beta_end` (section 4 of the DDPM paper)."""
    return torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)


def quadratic_betas(num_train_timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """Betas whose square roots are evenly spaced; diffusers calls this schedule `scaled_linear`."""
    return linear_betas(num_train_timesteps, beta_start**0.5, beta_end**0.5) ** 2


def sigmoid_betas(num_train_timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """Betas that rise from `beta_start` to `beta_end` along the logistic curve over [-6, 6]."""
    rise = torch.linspace(-6, 6, num_train_timesteps, dtype=torch.float64).sigmoid()
    return beta_start + (beta_end - beta_start) * rise


def cosine_betas(num_train_timesteps: int, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """Betas whose alpha-bar falls as cos^2; the last, otherwise 1, is held at `max_beta`."""
    u = torch.arange(num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps
    alpha_bar = torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)


def sigmoid_alpha_bar_betas(
    num_train_timesteps: int, start: float = -3, end: float = 3, max_beta: float = 0.999
) -> Tensor:
    """Betas whose alpha-bar falls from 1 to 0 along the logistic curve over [start, end]."""
    falling = (-torch.linspace(start, end, num_train_timesteps + 1, dtype=torch.float64)).sigmoid()
    alpha_bar = (falling - falling[-1]) / (falling[0] - falling[-1])
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)


def zero_terminal_snr(betas: Tensor) -> Tensor:
    """The schedule shifted so that the last sqrt(alpha-bar) is 0 and the first stays as it was."""
    root = torch.cumprod(1 - betas, 0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = root**2
    alphas = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return 1 - alphas


SCHEDULES: dict[str, Callable[[int], Tensor]] = {
    "linear": linear_betas,
    "cosine": cosine_betas,
    "quadratic": quadratic_betas,
    "sigmoid": sigmoid_betas,
}
