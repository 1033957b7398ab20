"""Samplers: one rule for a single reverse step each, and the one loop that walks them down the chain.

A rule sees p(x_{t-1} | x_t) at place i of the chain and returns x_{t-1}; it calls `draw()` for each standard
normal image it needs and never at the last place. Sources: Ho, Jain and Abbeel (2020), algorithm 2; Song,
Meng and Ermon (2020), eqs. 12 and 16.
"""

__all__ = ["SAMPLERS", "Corrector", "Denoiser", "Rule", "Step", "ddim", "ddpm", "generators", "reverse"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion, ReverseGaussian
from ddpm_app.core.langevin import langevin

Denoiser = Callable[
    [Tensor, Tensor], Tensor
]  # x_t (B, C, H, W), trained timesteps int64 (B,) -> model output
Draw = Callable[[], Tensor]
# chain, denoiser, x_t, its place, draw -> x_t of the same noise level
Corrector = Callable[[GaussianDiffusion, Denoiser, Tensor, int, Draw], Tensor]


class Rule(Protocol):
    """One reverse step: x_{t-1} from x_t, p(x_{t-1} | x_t) and fresh noise; `i` is the place in the chain."""

    def __call__(
        self, chain: GaussianDiffusion, p: ReverseGaussian, x_t: Tensor, i: int, draw: Draw
    ) -> Tensor: ...


@dataclass(frozen=True)
class Step:
    """The state after the step that left trained timestep `t`; `remaining` steps are still to come."""

    t: int
    remaining: int
    x_t: Tensor
    pred_x0: Tensor


def ddpm(chain: GaussianDiffusion, p: ReverseGaussian, x_t: Tensor, i: int, draw: Draw) -> Tensor:
    """Ancestral sampling (algorithm 2): the mean plus sigma noise, and no noise at the last step."""
    return p.mean if i == 0 else p.mean + (p.log_variance / 2).exp() * draw()


def ddim(
    chain: GaussianDiffusion,
    p: ReverseGaussian,
    x_t: Tensor,
    i: int,
    draw: Draw,
    *,
    eta: float = 0.0,
    rederive_eps: bool = True,
) -> Tensor:
    """Song et al. (2020), eq. 12: eta = 0 is deterministic, eta = 1 is DDPM with the small variance.

    eps belongs to the clipped x0-hat, so the step stays on the line between x0-hat and x_t; without
    `rederive_eps` it is the network's own, as in code that clips x0-hat alone.
    """
    eps = p.eps if rederive_eps else chain.predict_eps(x_t, torch.full((len(x_t),), i), p.unclipped_x0)
    alpha_bar_prev = chain.alphas_cumprod_prev[i]  # the paper's alpha is our alpha-bar; the last is 1
    variance = eta**2 * chain.posterior_variance[i]  # eq. 16
    direction = float((1 - alpha_bar_prev - variance).clamp(min=0).sqrt())
    x_prev = float(alpha_bar_prev.sqrt()) * p.pred_x0 + direction * eps
    return x_prev if eta == 0 or i == 0 else x_prev + float(variance.sqrt()) * draw()


SAMPLERS: dict[str, Rule] = {"ddpm": ddpm, "ddim": ddim, "langevin": langevin}


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator an image, so that an image depends on its own seed alone."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def reverse(
    chain: GaussianDiffusion,
    denoiser: Denoiser,
    rule: Rule,
    seeds: Sequence[int],
    shape: Sequence[int],
    *,
    x_t: Tensor | None = None,
    device: torch.device | str = "cpu",
    corrector: Corrector | None = None,
    skipped: int = 0,
) -> Iterator[Step]:
    """The reverse process from the chain's last timestep to its first, one Step for each timestep left.

    Image k draws from its own generator, seeded with seeds[k]: x_T first, unless `x_t` (B, C, H, W) at the
    chain's last timestep is given, then one image of shape (C, H, W) for each noise a rule asks for; the
    first `skipped` images are left to steps further above. After every step but the last the corrector, where
    there is one, moves x_t within its noise level.
    """
    if not seeds or (x_t is not None and len(x_t) != len(seeds)):
        raise ValueError(f"one seed an image, and at least one image; got {len(seeds)} seeds")
    sources = generators(seeds)

    def draw() -> Tensor:
        return torch.stack([torch.randn(tuple(shape), generator=source) for source in sources]).to(device)

    for _ in range(skipped):
        draw()
    state = draw() if x_t is None else x_t.to(device, torch.float32)
    for i in reversed(range(len(chain))):
        t = int(chain.timesteps[i])
        place = torch.full((len(sources),), i)
        with torch.inference_mode():  # entered inside each step: a generator may be resumed by another thread
            model_output = denoiser(state, torch.full((len(sources),), t, device=device))
            p = chain.p_mean_variance(model_output, state, place)
            state = rule(chain, p, state, i, draw)
            if corrector and i:
                state = corrector(chain, denoiser, state, i - 1, draw)
        yield Step(t, i, state, p.pred_x0)
