"""The analytic variance of a loaded network, measured over pictures that it draws itself.

gamma_t wants x_t ~ q(x_t), and there is no data at hand: so the network draws a few pictures by a fixed seed,
and they are noised to every timestep that a run visits. What is found is kept with the model for as long as
it is in memory. Each gamma_t has its own noise, so it is the same whoever asks first and for what else.

Source: Bao et al. (2022), "Analytic-DPM", section 3.1.
"""

__all__ = ["GammaReport", "GammaRequest", "informed", "measure", "measuring_calls", "missing"]

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ddpm_app.core.analytic import ANALYTIC, knowing
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
    """gamma_t of a model at each of `timesteps`, over so many pictures that it draws in `drawn_in` steps."""

    model: str
    timesteps: tuple[int, ...]
    precision: str = "exact"
    num_images: int = MOST
    drawn_in: int = DRAWN_IN

    @property
    def num_timesteps(self) -> int:
        """How often all pictures together go through the network."""
        return self.drawn_in + len(self.timesteps)

    @property
    def network_calls(self) -> int:
        """How often the network is used, counted in single images."""
        return self.num_images * self.num_timesteps


@dataclass(frozen=True)
class GammaReport:
    """What is known after `step` of `num_steps` uses of the network."""

    step: int
    num_steps: int
    measured: Measured


def missing(model: Model, *requests: Any) -> GammaRequest | None:
    """What has to be measured before these can run; None where nothing has."""
    timesteps = {t for request in requests for t in _wanted(request, model)} - model.measured.gamma.keys()
    if not timesteps:
        return None
    first = requests[0]
    return GammaRequest(
        model=first.model,
        timesteps=tuple(sorted(timesteps, reverse=True)),
        precision=first.precision,
        num_images=max(LEAST, min(MOST, VALUES // torch.Size(model.image_shape).numel())),
        drawn_in=0 if model.measured.pictures is not None else min(DRAWN_IN, len(model.diffusion)),
    )


def measuring_calls(model: Model, *requests: Any) -> int:
    """How often the network is used for what is missing to these, counted in single images."""
    wanted = missing(model, *requests)
    return wanted.network_calls if wanted else 0


def informed(request: Any, model: Model) -> Model:
    """The model; where the request has the analytic variance, with all that it takes, measured if need be."""
    timesteps = _wanted(request, model)
    if not timesteps:
        return model
    if wanted := missing(model, request):
        for _ in measure(wanted, model):
            pass
    gamma = model.measured.gamma
    return replace(model, diffusion=knowing(model.diffusion, {t: gamma[t] for t in timesteps}))


def measure(request: GammaRequest, model: Model) -> Iterator[GammaReport]:
    """Draws the pictures, where nobody has, and measures gamma at the request's timesteps."""
    chain, known = model.diffusion.with_variance("fixed_small"), model.measured
    pictures = known.pictures
    if pictures is None:
        pictures = known.pictures = yield from _drawn(request, model)

    for step, t in enumerate(request.timesteps, start=request.drawn_in + 1):
        (source,) = generators([NOISE_SEED + t])
        *_, found = survey(chain.respaced([t]), model.on_cpu, pictures, source)
        assert isinstance(found, Survey)
        known.gamma.setdefault(t, found.gamma.item())
        yield GammaReport(step, request.num_timesteps, known)


def _wanted(request: Any, model: Model) -> list[int]:
    """Every timestep that the request visits with the analytic variance."""
    if not isinstance(request, SampleRequest) or request.sampler != "ddpm":
        return []
    return [t - 1 for t in visited(request, model)] if request.variance_type == ANALYTIC else []


def _drawn(request: GammaRequest, model: Model) -> Generator[GammaReport, None, Tensor]:
    """The model's own pictures, on the CPU."""
    num_steps = min(DRAWN_IN, len(model.diffusion))
    chain = model.diffusion.with_variance("fixed_small").respaced(num_steps, "trailing")
    seeds, rule = [SEED + k for k in range(request.num_images)], solver(DRAWN_BY, chain)
    steps = reverse(chain, model.denoiser, rule, seeds, model.image_shape, device=model.device)
    for count, step in enumerate(steps, start=1):
        yield GammaReport(count, request.num_timesteps, model.measured)
        x_0 = step.x_t
    return x_0.cpu()
