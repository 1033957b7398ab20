"""How often each button uses the network, counted in single images, from what its widgets hold.

Fork here has no row: it goes on with the model of its tree, and is held to the budget by the engine alone.
"""

__all__ = ["BESIDE", "WORK"]

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ddpm_app.core.analytic import ANALYTIC
from ddpm_app.engine import SampleRequest
from ddpm_app.engine.analytic import measuring_calls
from ddpm_app.engine.coding import CodingRequest
from ddpm_app.engine.likelihood import least_terms
from ddpm_app.models import Model
from ddpm_app.ui.givens import OWN_STEPS
from ddpm_app.ui.grids import step_counts
from ddpm_app.ui.paper import FIGURES
from ddpm_app.ui.tabs import consistency, interpolate, reconstruct, respacing, variances
from ddpm_app.ui.trees import read_paths, with_parents


def own(*pictures: str | None) -> int:
    """For those pictures that the visitor does not give, so that the model draws them."""
    return OWN_STEPS * sum(not picture for picture in pictures)


def analytic(loaded: Model, steps: Sequence[int], sampler: str = "ddpm", **chosen: Any) -> int:
    """For the analytic variance at so many steps, where it is chosen and not known yet."""
    own = {name: chosen[name] for name in ("variance_type", "timestep_spacing") if name in chosen}
    one = SampleRequest(sampler=sampler, num_inference_steps=steps[0], **own)
    return measuring_calls(loaded, *(replace(one, num_inference_steps=count) for count in steps))


def sampled(num_images: int, num_inference_steps: int, langevin_steps: int = 0, **chosen: Any) -> int:
    """Sample, Progressive and Evaluate."""
    walked = num_images * num_inference_steps * (1 + langevin_steps)
    return walked + analytic(steps=[num_inference_steps], **chosen)


def continued(num_images: int, num_inference_steps: int, **chosen: Any) -> int:
    """Stochastic, with the one chain down to x_t."""
    return num_images * (num_inference_steps + 1) + analytic(steps=[num_inference_steps], **chosen)


def interpolated(
    kind: str,
    num_images: int,
    num_inference_steps: int,
    picture_a: str | None = None,
    picture_b: str | None = None,
    **chosen: Any,
) -> int:
    """A strip, a grid of such strips, or a path on the sphere, which starts from no pictures."""
    rows = len(interpolate.GRID_ROWS) if kind == interpolate.GRID else 1
    ends = 0 if kind == interpolate.SPHERE else own(picture_a, picture_b)
    walked = rows * num_images * (num_inference_steps + (kind != interpolate.SPHERE))
    return walked + ends + analytic(steps=[num_inference_steps], **chosen)


def raced(num_images: int, num_inference_steps: int, other_num_inference_steps: int, **chosen: Any) -> int:
    """Compare, A and B; what another model's variance takes, the engine alone counts."""
    walked = num_images * (num_inference_steps + other_num_inference_steps)
    b = {name.removeprefix("other_"): value for name, value in chosen.items() if name.startswith("other_")}
    return (
        walked
        + analytic(steps=[num_inference_steps], **chosen)
        + analytic(chosen["loaded"], [other_num_inference_steps], **b)
    )


def branched(num_inference_steps: int, branches: str | None = "", **chosen: Any) -> int:
    """The trunk, and at most as much again for each branch."""
    walked = (1 + len(with_parents(read_paths(str(branches or ""))))) * num_inference_steps
    return walked + analytic(steps=[num_inference_steps], **chosen)


def squared(edge: int, num_inference_steps: int, **_: object) -> int:
    """Between four seeds."""
    return edge**2 * num_inference_steps


def compared(steps: Sequence[int | str], num_images: int, beside: str, loaded: Model, **_: object) -> int:
    """DDIM at several numbers of steps, and DDPM where it stands beside it."""
    counts = step_counts(steps)
    walked = (1 + (beside != consistency.NOTHING)) * num_images * sum(counts)
    return walked + (analytic(loaded, counts, variance_type=ANALYTIC) if beside == ANALYTIC else 0)


def respaced(steps: Sequence[int | str], num_images: int, loaded: Model, **_: object) -> int:
    """A block for each variance."""
    counts = step_counts(steps)
    walked = len(respacing.kinds_of(loaded)) * num_images * sum(counts)
    return walked + analytic(loaded, counts, variance_type=ANALYTIC)


def encoded(steps: Sequence[int | str], picture: str | None = None, **_: object) -> int:
    """Up and down again."""
    count = 1 if picture else reconstruct.OWN_PICTURES
    return 2 * count * sum(step_counts(steps)) + own(*[picture] * count)


def bounded(steps: Sequence[int | str], picture: str | None = None, **_: object) -> int:
    """All terms of each bound."""
    return sum(step_counts(steps)) + own(picture)


def spread(num_timesteps: int, picture: str | None = None, **_: object) -> int:
    """The learned variance."""
    count = 1 if picture else variances.OWN_PICTURES
    return count * num_timesteps + own(*[picture] * count)


def measured(num_terms: int, num_draws: int = 1, picture: str | None = None, **_: object) -> int:
    """Likelihood, where L_0 is one more term."""
    return (num_terms + 1) * num_draws + own(picture)


def sent(num_terms: int, loaded: Model, picture: str | None = None, **_: object) -> int:
    """Compression."""
    return max(num_terms, least_terms(len(loaded.diffusion))) + own(picture)


def packed(num_images: int, num_inference_steps: int, picture: str | None = None, **_: object) -> int:
    """Coding: packed and unpacked again."""
    return 2 * num_images * num_inference_steps + own(picture) + OWN_STEPS * (num_images - 1)


def drawn(name: str, reverse_steps: int, loaded: Model, **_: object) -> int:
    """A figure of the paper, where 0 steps are all; its pictures may have been drawn before."""
    length = len(loaded.diffusion)
    wanted, steps = FIGURES[name], min(reverse_steps or length, length)
    calls = wanted.num_chains * (steps + 1) or max(steps, least_terms(length))
    return calls + own(*[None] * wanted.num_pictures)


def noised(picture: str | None = None, **_: object) -> int:
    """Noise alone."""
    return own(picture)


WORK: dict[str, Callable[..., int]] = {
    "sample": sampled,
    "progressive": sampled,
    "stochastic": continued,
    "interpolate": interpolated,
    "compare": raced,
    "branches": branched,
    "forward": noised,
    "likelihood": measured,
    "compression": sent,
    "coding": packed,
    "consistency": compared,
    "reconstruct": encoded,
    "latent_grid": squared,
    "variances": spread,
    "respacing": respaced,
    "bounds": bounded,
    "schedules": noised,
    "evaluate": sampled,
    "figure": drawn,
}
BESIDE = {"coding": CodingRequest.operations_per_value}  # for each value of an image, at each use
