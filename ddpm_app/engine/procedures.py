"""What each request does with a model: a chain, a start and the loop `reverse`, as Frames."""

__all__ = ["denoise", "forward", "interpolate", "interpolate_latents", "sample", "stochastic"]

from collections.abc import Iterator
from functools import partial
from itertools import count, islice

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import from_uint8, to_uint8
from ddpm_app.core.langevin import correct, langevin
from ddpm_app.core.procedures import lower_part, mix, slerp, through
from ddpm_app.core.samplers import SAMPLERS, Rule, Step, ddim, generators, reverse
from ddpm_app.core.schedules import SCHEDULES
from ddpm_app.engine.frames import Frame
from ddpm_app.engine.requests import (
    AUTO,
    ForwardRequest,
    InterpolateRequest,
    SampleRequest,
    SlerpRequest,
    StochasticRequest,
)
from ddpm_app.engine.solvers import SOLVERS, solver
from ddpm_app.errors import UserError
from ddpm_app.models import Model

# a picture drawn by a seed must not meet its own x_T again, as it is noised or on its way down; the low bits
# change, since torch's CPU generator reads only 32 bits of a seed
NOISE_STREAM = 0x9E3779B9
SEED_BITS = 32


def sample(request: SampleRequest, model: Model) -> Iterator[Frame]:
    """Images from noise (algorithm 2); Song et al. (2020), section 4, for ddim."""
    chain = chain_of(request, model)
    return frames(denoise(chain, request, model, request.seeds), len(chain))


def stochastic(request: StochasticRequest, model: Model) -> Iterator[Frame]:
    """One chain down to x_t, or a picture noised to it; from there each continuation has its own noise."""
    t = index_of(request.diffusion_steps, model.diffusion)
    chain = through(chain_of(request, model), t)
    lower = lower_part(chain, t)
    seeds = [seed + 1 for seed in request.seeds]
    if request.picture is None:
        done = len(chain) - len(lower)
        x_t = _prior(request.seed, model)
        for step in islice(denoise(chain, request, model, [request.seed]), done):
            x_t = step.x_t
            yield Frame(len(chain) - step.remaining, len(chain), step.t, step.x_t, step.pred_x0)
    else:
        done = 0
        x_t = _noised(fitting(request.picture, model), t, model.diffusion, request.seed)
        seeds = [seed ^ NOISE_STREAM for seed in seeds]
    x_t = x_t.to(model.device)
    steps = denoise(lower, request, model, seeds, x_t.expand(len(seeds), -1, -1, -1))
    yield from frames(steps, len(lower), done, shared=x_t)


def interpolate(request: InterpolateRequest, model: Model) -> Iterator[Frame]:
    """Both pictures noised to x_t, mixed there and denoised (section 4.4); 0 steps mix the pixels."""
    ends = [fitting(picture, model) for picture in (request.picture_a, request.picture_b)]
    weights = torch.linspace(0, 1, request.num_images)
    if request.diffusion_steps == 0:
        mixed = mix(ends[0], ends[1], weights)
        yield Frame(1, 1, 0, mixed, mixed, torch.stack(ends))
        return
    t = index_of(request.diffusion_steps, model.diffusion)
    chain = lower_part(chain_of(request, model), t)
    seeds = [request.seed, request.seed if request.shared_noise else request.seed + 1]
    noised = [_noised(end, t, model.diffusion, seed)[0] for end, seed in zip(ends, seeds, strict=True)]
    same_noise = [(request.seed + 2) ^ NOISE_STREAM] * request.num_images
    steps = denoise(chain, request, model, same_noise, mix(noised[0], noised[1], weights))
    yield from frames(steps, len(chain), shared=torch.stack(noised))


def interpolate_latents(request: SlerpRequest, model: Model) -> Iterator[Frame]:
    """The great circle between two x_T, each denoised (Song et al. 2020, section 5.3)."""
    ends = [_prior(seed, model)[0] for seed in (request.seed, request.other_seed)]
    chain = chain_of(request, model)
    x_t = slerp(ends[0], ends[1], torch.linspace(0, 1, request.num_images))
    same_noise = [seed_beside(request.seed, request.other_seed)] * request.num_images
    steps = denoise(chain, request, model, same_noise, x_t)
    yield from frames(steps, len(chain), shared=torch.stack(ends))


def forward(request: ForwardRequest) -> Tensor:
    """x_t after each number of diffusion steps from the same noise, uint8 (K, C, H, W)."""
    diffusion = GaussianDiffusion(SCHEDULES[request.schedule](1000))
    x_0 = from_uint8(request.picture)
    noised = [
        _noised(x_0, steps - 1, diffusion, request.seed)[0] if steps else x_0
        for steps in request.diffusion_steps
    ]
    return to_uint8(torch.stack(noised))


def chain_of(request: SampleRequest, model: Model) -> GaussianDiffusion:
    """The model's chain with the request's variance, respaced to the request's number of steps."""
    chain = model.diffusion
    if request.sampler != "ddpm":  # which alone takes it; a learned one may forbid to skip timesteps
        chain = chain.with_variance("fixed_small")
    elif request.variance_type != AUTO:
        chain = chain.with_variance(request.variance_type)  # type: ignore[arg-type]
    spacing = None if request.timestep_spacing == AUTO else request.timestep_spacing
    return chain.respaced(request.num_inference_steps, spacing)  # type: ignore[arg-type]


def rule_of(request: SampleRequest, chain: GaussianDiffusion) -> Rule:
    """The request's sampler for one run down the chain, with its settings where it has any."""
    if request.sampler in SOLVERS:
        return solver(request.sampler, chain)
    if request.sampler == "ddim":
        return partial(ddim, eta=request.eta, rederive_eps=request.rederive_eps)
    if request.sampler == "langevin":
        return partial(langevin, snr=request.langevin_snr)
    return SAMPLERS[request.sampler]


def frames(
    steps: Iterator[Step], length: int, done: int = 0, shared: Tensor | None = None
) -> Iterator[Frame]:
    """Steps of a chain of that length as Frames, after `done` frames that came before."""
    for step in steps:
        finished = done + length - step.remaining
        yield Frame(finished, done + length, step.t, step.x_t, step.pred_x0, shared)


def denoise(
    chain: GaussianDiffusion,
    request: SampleRequest,
    model: Model,
    seeds: list[int],
    x_t: Tensor | None = None,
) -> Iterator[Step]:
    """The steps down the chain by the request's sampler, from x_T of the seeds or from x_t (B, C, H, W)."""
    shape, device = model.image_shape, model.device
    rule, corrector = rule_of(request, chain), None
    if request.langevin_steps:
        corrector = partial(correct, num_steps=request.langevin_steps, snr=request.langevin_snr)
    return reverse(chain, model.denoiser, rule, seeds, shape, x_t=x_t, device=device, corrector=corrector)


def _prior(seed: int, model: Model) -> Tensor:
    """x_T (1, C, H, W) of that seed."""
    return torch.randn(model.image_shape, generator=generators([seed])[0])[None]


def _noised(x_0: Tensor, t: int, diffusion: GaussianDiffusion, seed: int) -> Tensor:
    """x_t (1, C, H, W) of an image (C, H, W), by a noise of that seed which is not its x_T."""
    return diffusion.q_sample(x_0[None], torch.tensor([t]), noise_of(seed, x_0.shape)[None])


def noise_of(seed: int, shape: tuple[int, ...]) -> Tensor:
    """The noise of that shape with which a picture is noised."""
    return torch.randn(shape, generator=generators([seed ^ NOISE_STREAM])[0])


def seed_beside(*seeds: int) -> int:
    """The next seed after all of these whose noise is that of none."""
    used = {seed % 2**SEED_BITS for seed in seeds}
    return next(seed for seed in count(max(seeds) + 1) if seed % 2**SEED_BITS not in used)


def index_of(diffusion_steps: int, diffusion: GaussianDiffusion) -> int:
    """The 0-based timestep behind a number of diffusion steps, the paper's t."""
    if not 1 <= diffusion_steps <= len(diffusion):
        raise UserError(
            f"diffusion_steps must lie in 1..{len(diffusion)}, the length of this model's chain; "
            f"got {diffusion_steps}"
        )
    return diffusion_steps - 1


def fitting(picture: Tensor, model: Model) -> Tensor:
    """The picture as floats, which must have the model's shape."""
    if tuple(picture.shape) != model.image_shape:
        raise UserError(
            f"{model.name} works on pictures of shape {model.image_shape}, channels first; "
            f"got {tuple(picture.shape)}; resize the picture first"
        )
    return from_uint8(picture)
