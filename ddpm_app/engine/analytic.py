"""The analytic variance of a loaded network, measured over pictures that it draws itself.

gamma_t wants x_t ~ q(x_t), and there is no data at hand: so the network draws a few pictures by a fixed seed,
and they are noised to every timestep that a run visits. What is found is kept with the model for as long as
it is in memory. Each gamma_t has its own noise, so it is the same whoever asks first and for what else.

Source: Bao et al. (2022), "Analytic-DPM", section 3.1.
"""

__all__ = ["GammaReport", "GammaRequest", "informed", "measure", "measuring_calls", "missing"]

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ddpm_app.core.analytic import ANALYTIC, knowing
from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.samplers import generators, reverse
from ddpm_app.core.step_schedule import Survey, survey
from ddpm_app.engine.procedures import NOISE_STREAM
from ddpm_app.engine.requests import SampleRequest
from ddpm_app.engine.solvers import solver
from ddpm_app.engine.visits import visited
from ddpm_app.models import Measured, Model

DRAWN_BY = "sde-dpmsolver++"
DRAWN_IN = 50  # steps, in which this sampler keeps the variance of normal pixels within 5 %
SEED = 0xA11A
NOISE_SEED = SEED ^ NOISE_STREAM  # at t = 0; no noise may be the x_T of a picture
MOST, LEAST = 8, 4  # pictures
VALUES = 2**16  # of pixels that are enough for one gamma_t


@dataclass(frozen=True, kw_only=True)
class GammaRequest:
    """gamma_t of a model at each of `timesteps`."""

    model: str
    timesteps: tuple[int, ...]
    precision: str = "exact"
    num_images: int = MOST

    @property
    def num_timesteps(self) -> int:
        """How often all pictures together go through the network."""
        return DRAWN_IN + len(self.timesteps)


@dataclass(frozen=True)
class GammaReport:
    """What is known after `step` of `num_steps` uses of the network."""

    step: int
    num_steps: int
    measured: Measured


def missing(request: Any, model: Model) -> list[int]:
    """The timesteps whose gamma the request wants and nobody has measured."""
    return [t for t in _wanted(request, model) if t not in model.measured.gamma]


def measuring_calls(model: Model, *requests: Any) -> int:
    """How often the network is used for all that is missing to these, counted in single images."""
    timesteps = {t for request in requests for t in missing(request, model)}
    drawing = 0 if model.measured.pictures is not None else min(DRAWN_IN, len(model.diffusion))
    return num_pictures(model) * (drawing + len(timesteps)) if timesteps else 0


def num_pictures(model: Model) -> int:
    """How many pictures are drawn: fewer where each has many pixels."""
    return max(LEAST, min(MOST, VALUES // torch.Size(model.image_shape).numel()))


def informed(request: Any, model: Model) -> Model:
    """The model; where the request has the analytic variance, with all that it takes, measured if need be."""
    timesteps = _wanted(request, model)
    if not timesteps:
        return model
    for _ in _gammas(missing(request, model), model):
        pass
    gamma = model.measured.gamma
    return replace(model, diffusion=knowing(model.diffusion, {t: gamma[t] for t in timesteps}))


def measure(request: GammaRequest, model: Model) -> Iterator[GammaReport]:
    """Draws the pictures, where nobody has, and measures gamma at the request's timesteps."""
    return _gammas(request.timesteps, model)


def _wanted(request: Any, model: Model) -> list[int]:
    """Every timestep that the request visits with the analytic variance."""
    if not isinstance(request, SampleRequest) or request.sampler != "ddpm":
        return []
    return [t - 1 for t in visited(request, model)] if request.variance_type == ANALYTIC else []


def _gammas(timesteps: Sequence[int], model: Model) -> Iterator[GammaReport]:
    if not timesteps:
        return
    chain, known = model.diffusion.with_variance("fixed_small"), model.measured
    drawing = 0 if known.pictures is not None else min(DRAWN_IN, len(chain))
    num_steps = drawing + len(timesteps)
    pictures = known.pictures
    if pictures is None:
        pictures = known.pictures = yield from _drawn(chain.respaced(drawing, "trailing"), model, num_steps)

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        """On the CPU: not every device knows the float64 of the sums."""
        return model.denoiser(x_t.to(model.device), t.to(model.device)).cpu()

    for step, t in enumerate(timesteps, start=drawing + 1):
        (source,) = generators([NOISE_SEED + t])
        *_, found = survey(chain.respaced([t]), denoiser, pictures, source)
        assert isinstance(found, Survey)
        known.gamma.setdefault(t, found.gamma.item())
        yield GammaReport(step, num_steps, known)


def _drawn(chain: GaussianDiffusion, model: Model, num_steps: int) -> Generator[GammaReport, None, Tensor]:
    """The model's own pictures, on the CPU."""
    seeds, rule = [SEED + k for k in range(num_pictures(model))], solver(DRAWN_BY, chain)
    steps = reverse(chain, model.denoiser, rule, seeds, model.image_shape, device=model.device)
    for count, step in enumerate(steps, start=1):
        yield GammaReport(count, num_steps, model.measured)
        x_0 = step.x_t
    return x_0.cpu()
