"""Lossy compression by a diffusion model: what a receiver has after any number of bits (section 4.3).

The sender draws x_T, then each x_{t-1}, from q given x_0 (algorithm 3). By an ideal code each costs its KL
against p: once x_t has come, L_T and the terms above t are spent, and the receiver sees x0-hat (algorithm 4).
Source: Ho, Jain and Abbeel (2020).
"""

__all__ = ["TABLE_4", "milestones", "paper_row", "sent", "tenths"]

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion

NUM_MILESTONES = 40
# reverse steps done -> rate in bits/dim, RMSE on 0..255: the authors' CIFAR-10 model on the test set
TABLE_4 = {
    1000: (1.77581, 0.95136),
    900: (0.11994, 12.02277),
    800: (0.05415, 18.47482),
    700: (0.02866, 24.43656),
    600: (0.01507, 30.80948),
    500: (0.00716, 38.03236),
    400: (0.00282, 46.12765),
    300: (0.00081, 54.18826),
    200: (0.00013, 60.97170),
    100: (0.00000, 67.60125),
}


def tenths(num_places: int) -> list[int]:
    """The places of table 4's rows, increasing: s reverse steps are done at the x0-hat of place T - s."""
    return sorted({k * num_places // 10 for k in range(10)})


def paper_row(reverse_steps: int, num_train_timesteps: int) -> tuple[float, ...]:
    """Rate and RMSE in the row of table 4 that is as far down its chain of 1000; () where there is none."""
    steps, rest = divmod(1000 * reverse_steps, num_train_timesteps)
    return () if rest else TABLE_4.get(steps, ())


def milestones(num_places: int) -> list[int]:
    """Increasing places at which to look at a chain: the tenths, and more towards 0, where the bits are."""
    spread = {round(num_places ** (k / NUM_MILESTONES)) - 1 for k in range(NUM_MILESTONES + 1)}
    return sorted(spread | set(tenths(num_places)))


def sent(
    chain: GaussianDiffusion, x_0: Tensor, places: Sequence[int], generator: torch.Generator
) -> Iterator[Tensor]:
    """x_t (1, C, H, W) at the increasing `places` of the whole chain, the last first, along one path of q."""
    visited = chain.trained.with_variance("fixed_small").respaced(places)  # q alone: no variance is learned
    x_t = torch.zeros_like(x_0)
    for k in reversed(range(len(visited))):
        noise = torch.randn(x_0.shape, generator=generator)
        if k == len(visited) - 1:
            x_t = visited.q_sample(x_0, torch.tensor([k]), noise)
        else:
            q = visited.q_posterior(x_0, x_t, torch.tensor([k + 1]))
            x_t = q.mean + q.variance.sqrt() * noise
        yield x_t
