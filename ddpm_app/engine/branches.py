"""Branching: a frame of an earlier run, continued by other noise.

A path through the tree starts at the x_T of its seed and takes the noise of its steps from that seed too,
until a fork hands over to another seed. Each seed keeps one noise for each step of the chain, the one that a
whole run of it has there. So a path is told by its forks alone, and to fork by the seed that goes on anyway
changes nothing.
"""

__all__ = ["BranchRequest", "Fork", "branch"]

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from reprlib import repr as shortened
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.procedures import lower_part
from ddpm_app.core.samplers import SAMPLERS, Step, generators, reverse
from ddpm_app.engine.checks import MAX_SEED, MAX_STEPS, later_seed, whole
from ddpm_app.engine.frames import Frame
from ddpm_app.engine.procedures import chain_of, frames, rule_of
from ddpm_app.engine.requests import SampleRequest
from ddpm_app.errors import UserError
from ddpm_app.models import Model

MAX_FORKS = 64


class Fork(NamedTuple):
    """Where the noise of another seed takes over: at x_t after so many diffusion steps, the paper's t."""

    diffusion_steps: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class BranchRequest(SampleRequest):
    """`num_images` continuations of the x_t at `diffusion_steps` of one path.

    Number k takes the noise of branch_seed + k. The path starts at the x_T of `seed` and runs through
    `forks`, from the noisiest down. Without its `x_t`, (C, H, W), it is walked anew.
    """

    sampler: str = "ddpm"
    num_inference_steps: int = 100
    num_images: int = 4
    forks: tuple[Fork, ...] = ()
    diffusion_steps: int = 1000
    branch_seed: int = 100
    x_t: Tensor | None = field(default=None, compare=False, repr=False, metadata={"recipe": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampler not in SAMPLERS:
            raise UserError(
                f"{self.sampler} goes on from several steps at once, which one stored x_t does not hold; "
                f"choose {', '.join(SAMPLERS)}"
            )
        if self.langevin_steps:
            raise UserError("branches take no Langevin corrections; set langevin_steps to 0")
        if self.x_t is not None and not (isinstance(self.x_t, Tensor) and self.x_t.is_floating_point()):
            raise UserError(f"x_t must be a tensor of floats; got {shortened(self.x_t)}")
        self._set("diffusion_steps", whole("diffusion_steps", self.diffusion_steps, 1, MAX_STEPS))
        self._set("branch_seed", whole("branch_seed", self.branch_seed, 0, MAX_SEED))
        if not isinstance(self.forks, list | tuple):
            raise UserError(f"forks must be a list of pairs; got {shortened(self.forks)}")
        self._set("forks", tuple(_fork(each) for each in self.forks[: MAX_FORKS + 1]))
        falling = [fork.diffusion_steps for fork in self.forks] + [self.diffusion_steps]
        if len(self.forks) > MAX_FORKS or falling != sorted(falling, reverse=True):
            raise UserError(
                f"forks must be at most {MAX_FORKS} of ever fewer diffusion steps, none below the last; "
                f"got t = {', '.join(map(str, falling[:8]))}"
            )

    @property
    def branch_seeds(self) -> list[int]:
        """The seed whose noise each continuation takes."""
        return [later_seed(self.branch_seed, k) for k in range(self.num_images)]


def branch(request: BranchRequest, model: Model) -> Iterator[Frame]:
    """The way down to the frame that is forked, unless it is given, then every continuation at once."""
    chain = chain_of(request, model)
    goal, done = _place(chain, request.diffusion_steps), 0
    if request.x_t is not None:
        if tuple(request.x_t.shape) != model.image_shape:
            raise UserError(f"x_t must have the shape {model.image_shape}; got {tuple(request.x_t.shape)}")
        x_t = request.x_t[None]
    else:
        x_t = torch.randn(model.image_shape, generator=generators([request.seed])[0])[None]
        seeds = [request.seed, *(fork.seed for fork in request.forks)]
        places = [len(chain) - 1, *(_place(chain, fork.diffusion_steps) for fork in request.forks), goal]
        for seed, (start, end) in zip(seeds, pairwise(places), strict=True):
            for step in islice(_down(chain, start, request, model, [seed], x_t), start - end):
                done, x_t = done + 1, step.x_t
                yield Frame(done, len(chain), step.t, step.x_t, step.pred_x0)
    x_t = x_t.to(model.device)
    each = x_t.expand(request.num_images, -1, -1, -1)
    steps = _down(chain, goal, request, model, request.branch_seeds, each)
    yield from frames(steps, goal + 1, done, shared=x_t)


def _down(
    chain: GaussianDiffusion,
    place: int,
    request: BranchRequest,
    model: Model,
    seeds: list[int],
    x_t: Tensor,
) -> Iterator[Step]:
    """From x_t at that place to x_0 by the noise that whole runs of these seeds have there."""
    lower = lower_part(chain, int(chain.timesteps[place]))
    above = len(chain) - 1 - place
    return reverse(
        lower,
        model.denoiser,
        rule_of(request, chain),
        seeds,
        model.image_shape,
        x_t=x_t,
        device=model.device,
        skipped=1 + above,  # x_T and one for each step
    )


def _place(chain: GaussianDiffusion, diffusion_steps: int) -> int:
    """Where the chain leaves that t; UserError with the nearest ones when it never does."""
    visited = [t + 1 for t in chain.timesteps.tolist()]
    if diffusion_steps not in visited:
        near = sorted(sorted(visited, key=lambda t: abs(t - diffusion_steps))[:2])
        raise UserError(
            f"a fork must be at a t that the run visits; {diffusion_steps} is none, "
            f"the nearest are {' and '.join(map(str, near))}"
        )
    return visited.index(diffusion_steps)


def _fork(value: object) -> Fork:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise UserError("each fork must be a pair: its diffusion steps, and the seed that goes on from there")
    return Fork(
        whole("diffusion_steps of a fork", value[0], 1, MAX_STEPS),
        whole("seed of a fork", value[1], 0, MAX_SEED),
    )
