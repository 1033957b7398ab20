"""Particles on toy data in the plane: the score field at every t, and the way a sampler takes through it."""

__all__ = ["Field", "Flow", "FlowRequest", "field_of", "flow"]

from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.langevin import DEFAULT_SNR, correct, langevin, score
from ddpm_app.core.oracle import image_set_denoiser
from ddpm_app.core.samplers import SAMPLERS, Denoiser, generators, reverse
from ddpm_app.core.schedules import cosine_betas
from ddpm_app.core.toys import TOYS, log_density
from ddpm_app.engine.checks import MAX_SEED, real, whole
from ddpm_app.errors import one_of

NUM_LEVELS = 41  # at which the field is drawn
ARROWS, PIXELS = 21, 48  # along each axis
EXTENT = 2.8  # the plane shown reaches from -EXTENT to EXTENT
DIFFUSION = partial(GaussianDiffusion, prediction_type="sample", variance_type="fixed_small")


@dataclass(frozen=True, kw_only=True)
class FlowRequest:
    """Particles from noise to the points of a toy set; particle k has seed + k."""

    toy: str = "two moons"
    sampler: str = "ddpm"
    num_inference_steps: int = 100
    langevin_steps: int = 0
    langevin_snr: float = DEFAULT_SNR
    num_particles: int = 300
    seed: int = 7

    def __post_init__(self) -> None:
        one_of("toy", self.toy, TOYS)
        one_of("sampler", self.sampler, SAMPLERS)
        whole_numbers = {
            "num_inference_steps": (2, 200),
            "langevin_steps": (0, 20),
            "num_particles": (1, 1000),
            "seed": (0, MAX_SEED - 1000),
        }
        for name, (low, high) in whole_numbers.items():
            object.__setattr__(self, name, whole(name, getattr(self, name), low, high))
        object.__setattr__(self, "langevin_snr", real("langevin_snr", self.langevin_snr, 0.01, 1))


@dataclass(frozen=True)
class Field:
    """Over the levels t (L,), from T down to 0: the score at the nodes of a grid, and the density.

    `scores` (L, A * A, 2) are in units of 1 / sqrt(1 - alpha-bar), so that they are -eps; `density`
    (L, D, D) is relative to each level's peak. Rows go up, columns to the right.
    """

    t: tuple[int, ...]
    alphas_cumprod: tuple[float, ...]
    points: Tensor
    scores: Tensor
    density: Tensor


@dataclass(frozen=True)
class Flow:
    """The particles (F, P, 2) at t (F,), from T down to 0."""

    t: tuple[int, ...]
    particles: Tensor


def flow(request: FlowRequest) -> Flow:
    """The whole way of the particles, by the same loop and rules that draw pictures."""
    diffusion, denoiser, _ = _exact(request.toy)
    chain = diffusion.respaced(request.num_inference_steps, "trailing")
    rule = SAMPLERS[request.sampler]
    if request.sampler == "langevin":
        rule = partial(langevin, snr=request.langevin_snr)
    corrector = partial(correct, num_steps=request.langevin_steps, snr=request.langevin_snr)
    seeds, shape = [request.seed + k for k in range(request.num_particles)], (2, 1, 1)
    x_T = torch.stack([torch.randn(shape, generator=source) for source in generators(seeds)])
    steps = reverse(chain, denoiser, rule, seeds, shape, corrector=corrector)
    states = [x_T, *(step.x_t for step in steps)]
    levels = [t + 1 for t in reversed(chain.timesteps.tolist())]
    return Flow((*levels, 0), torch.stack(states).flatten(2))


@lru_cache(maxsize=len(TOYS))
def field_of(toy: str) -> Field:
    """The exact field of a toy set; it does not depend on how one samples."""
    diffusion, denoiser, points = _exact(toy)
    levels = torch.linspace(len(diffusion), 0, NUM_LEVELS).round().long()
    nodes, pixels = _grid(ARROWS), _grid(PIXELS)
    scores, density, kept = [], [], []
    for t in levels.tolist():
        i = max(t, 1) - 1  # t = 0 has no score: the field right above it stands there
        x_t, place = nodes.view(-1, 2, 1, 1), torch.full((len(nodes),), i)
        eps = diffusion.p_mean_variance(denoiser(x_t, place), x_t, place).eps
        unit = (1 - diffusion.alphas_cumprod[i]).sqrt()
        scores.append((unit * score(diffusion, eps, i)).flatten(1))
        alpha_bar = diffusion.alphas_cumprod[i].item() if t else 1.0
        kept.append(alpha_bar)
        # no peak narrower than a pixel
        logarithm = log_density(points, alpha_bar, pixels, least_variance=(2 * EXTENT / PIXELS) ** 2)
        density.append((logarithm - logarithm.max()).exp().view(PIXELS, PIXELS))
    return Field(tuple(levels.tolist()), tuple(kept), points, torch.stack(scores), torch.stack(density))


@lru_cache(maxsize=len(TOYS))
def _exact(toy: str) -> tuple[GaussianDiffusion, Denoiser, Tensor]:
    """The chain, the exact denoiser of the set, and its points (N, 2); x0-hat is not clipped to [-1, 1]."""
    diffusion, points = DIFFUSION(cosine_betas(1000), clip_denoised=False), TOYS[toy]()
    return diffusion, image_set_denoiser(diffusion, points.view(-1, 2, 1, 1)), points


def _grid(count: int) -> Tensor:
    """The centres (count * count, 2) of the cells of a square grid over the plane shown, row by row."""
    axis = ((torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 - 1) * EXTENT
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)
