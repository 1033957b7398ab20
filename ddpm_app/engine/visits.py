"""Which timesteps a run visits, counted as in the paper: from T down to 1."""

__all__ = ["visited", "visits"]

from dataclasses import replace

from ddpm_app.core.analytic import ANALYTIC
from ddpm_app.core.procedures import lower_part, through
from ddpm_app.engine.procedures import chain_of, index_of
from ddpm_app.engine.requests import AUTO, InterpolateRequest, SampleRequest, StochasticRequest
from ddpm_app.models import Model


def visited(request: SampleRequest, model: Model) -> list[int]:
    """Every t that the run leaves, in its order; none for an interpolation of bare pixels."""
    if request.variance_type == ANALYTIC:  # which is measured once the timesteps are known
        request = replace(request, variance_type="fixed_small")
    chain = chain_of(request, model)
    if isinstance(request, StochasticRequest | InterpolateRequest):
        if request.diffusion_steps == 0:
            return []
        from_noise = isinstance(request, StochasticRequest) and request.picture is None
        t = index_of(request.diffusion_steps, model.diffusion)
        chain = (through if from_noise else lower_part)(chain, t)
    return [t + 1 for t in reversed(chain.timesteps.tolist())]


def visits(request: SampleRequest, model: Model) -> str:
    """The same in words: `t = 1000, 980, …, 20 (50 of 1000, trailing)`."""
    steps, T = visited(request, model), len(model.diffusion)
    if not steps:
        return "no t"
    spacing = (
        model.diffusion.timestep_spacing if request.timestep_spacing == AUTO else request.timestep_spacing
    )
    shown = [*map(str, steps)] if len(steps) <= 4 else [*map(str, steps[:2]), "…", str(steps[-1])]
    return f"t = {', '.join(shown)} ({len(steps)} of {T}, {spacing})"
