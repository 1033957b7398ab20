"""How often each button uses the network, counted in single images, from what its widgets hold.

Fork here has no row: it goes on with the model of its tree, and is held to the budget by the engine alone.
"""

__all__ = ["WORK"]

from collections.abc import Callable, Sequence

from ddpm_app.engine.improved import variance_types
from ddpm_app.engine.likelihood import least_terms
from ddpm_app.models import Model
from ddpm_app.ui.controls import OWN_STEPS
from ddpm_app.ui.grids import step_counts
from ddpm_app.ui.paper import FIGURES
from ddpm_app.ui.tabs import consistency, interpolate, reconstruct, variances


def own(*pictures: str | None) -> int:
    """For those pictures that the visitor does not give, so that the model draws them."""
    return OWN_STEPS * sum(not picture for picture in pictures)


def sampled(num_images: int, num_inference_steps: int, langevin_steps: int = 0, **_: object) -> int:
    """Sample, Progressive and Evaluate."""
    return num_images * num_inference_steps * (1 + langevin_steps)


def continued(num_images: int, num_inference_steps: int, **_: object) -> int:
    """Stochastic, with the one chain down to x_t."""
    return (num_images + 1) * num_inference_steps


def interpolated(
    kind: str,
    num_images: int,
    num_inference_steps: int,
    picture_a: str | None = None,
    picture_b: str | None = None,
    **_: object,
) -> int:
    """A strip, a grid of such strips, or a path on the sphere, which starts from no pictures."""
    rows = len(interpolate.GRID_ROWS) if kind == interpolate.GRID else 1
    ends = 0 if kind == interpolate.SPHERE else own(picture_a, picture_b)
    return rows * num_images * num_inference_steps + ends


def raced(num_images: int, num_inference_steps: int, other_num_inference_steps: int, **_: object) -> int:
    """Compare, A and B."""
    return num_images * (num_inference_steps + other_num_inference_steps)


def branched(num_inference_steps: int, branches: str = "", **_: object) -> int:
    """The trunk, and at most as much again for each path."""
    return (1 + len(branches.split())) * num_inference_steps


def squared(edge: int, num_inference_steps: int, **_: object) -> int:
    """Between four seeds."""
    return edge**2 * num_inference_steps


def compared(steps: Sequence[int | str], num_images: int, beside: str, **_: object) -> int:
    """DDIM at several numbers of steps, and DDPM where it stands beside it."""
    return (1 + (beside != consistency.NOTHING)) * num_images * sum(step_counts(steps))


def respaced(steps: Sequence[int | str], num_images: int, loaded: Model, **_: object) -> int:
    """A block for each variance that the model supports."""
    return len(variance_types(loaded)) * num_images * sum(step_counts(steps))


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


def drawn(name: str, reverse_steps: int, loaded: Model, **_: object) -> int:
    """A figure of the paper, where 0 steps are all; its pictures may have been drawn before."""
    length = len(loaded.diffusion)
    wanted, steps = FIGURES[name], min(reverse_steps or length, length)
    calls = wanted.num_chains * steps or max(steps, least_terms(length))
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
