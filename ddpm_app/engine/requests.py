"""What a user can ask for, validated once and frozen; what hangs on the model is checked at its loading."""

__all__ = [
    "AUTO",
    "REVERSE_VARIANCES",
    "CompressionRequest",
    "ForwardRequest",
    "InterpolateRequest",
    "LikelihoodRequest",
    "SampleRequest",
    "SlerpRequest",
    "StochasticRequest",
]

from dataclasses import dataclass, field, fields
from reprlib import repr as shortened
from typing import Any, get_args

from torch import Tensor

from ddpm_app.core.analytic import ANALYTIC
from ddpm_app.core.diffusion import Spacing, VarianceType
from ddpm_app.core.langevin import DEFAULT_SNR
from ddpm_app.core.schedules import SCHEDULES
from ddpm_app.engine.checks import (
    MAX_IMAGES,
    MAX_SEED,
    MAX_STEPS,
    PRECISIONS,
    later_seed,
    model_name,
    picture,
    picture_field,
    real,
    truth,
    whole,
)
from ddpm_app.engine.solvers import DETERMINISTIC, EVERY_SAMPLER
from ddpm_app.errors import UserError, one_of
from ddpm_app.models import DEFAULT_MODEL

AUTO = "auto"  # what the checkpoint's own configuration says
REVERSE_VARIANCES = (AUTO, *get_args(VarianceType), ANALYTIC)


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """Images from noise. Image k has seed + k for its seed, alone or in any batch.

    torch's CPU generator reads only the low 32 bits of a seed: seeds 2**32 apart give the same image.
    """

    model: str = DEFAULT_MODEL
    sampler: str = "ddim"
    num_inference_steps: int = 50
    eta: float = 0.0  # ddim only
    variance_type: str = AUTO  # ddpm only
    timestep_spacing: str = AUTO
    num_images: int = 16
    seed: int = 0
    precision: str = "exact"
    rederive_eps: bool = True  # ddim only: eps belongs to the clipped x0-hat; False is there to compare
    langevin_steps: int = 0  # corrections after each reverse step but the last, with any sampler
    langevin_snr: float = DEFAULT_SNR  # the signal-to-noise ratio r of each

    more_steps = 0  # at most, beside num_inference_steps

    def __post_init__(self) -> None:
        model_name(self.model)
        one_of("sampler", self.sampler, EVERY_SAMPLER)
        one_of("variance_type", self.variance_type, REVERSE_VARIANCES)
        one_of("timestep_spacing", self.timestep_spacing, [AUTO, *get_args(Spacing)])
        one_of("precision", self.precision, PRECISIONS)
        self._set("num_inference_steps", whole("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS))
        self._set("num_images", whole("num_images", self.num_images, 1, MAX_IMAGES))
        self._set("seed", whole("seed", self.seed, 0, MAX_SEED))
        self._set("eta", real("eta", self.eta, 0, 1))
        truth("rederive_eps", self.rederive_eps)
        self._set("langevin_steps", whole("langevin_steps", self.langevin_steps, 0, 20))
        self._set("langevin_snr", real("langevin_snr", self.langevin_snr, 0.01, 1))
        if self.langevin_steps and self.sampler == "unipc":
            raise UserError(
                "unipc goes on from its own x_t and would undo Langevin corrections of it; "
                "set langevin_steps to 0, or choose another sampler"
            )

    @property
    def seeds(self) -> list[int]:
        """The seed of each image."""
        return [later_seed(self.seed, k) for k in range(self.num_images)]

    @property
    def network_calls(self) -> int:
        """How often the network is used at most, counted in single images."""
        return self.num_images * (self.num_inference_steps + self.more_steps) * (1 + self.langevin_steps)

    def recipe(self) -> dict[str, Any]:
        """The settings that make these images again: every field but pictures."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("recipe", True)}

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class StochasticRequest(SampleRequest):
    """Many x_0 from one frozen x_t (figure 7), after `diffusion_steps` steps: the paper's t, our t + 1.

    x_t comes from the chain of `seed`, or from `picture` noised by it; continuation k has seed + 1 + k.
    """

    sampler: str = "ddpm"
    num_images: int = 8
    diffusion_steps: int = 750
    picture: Tensor | None = field(default=None, compare=False, repr=False, metadata={"recipe": False})

    more_steps = 1  # the chain is led through x_t

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("diffusion_steps", whole("diffusion_steps", self.diffusion_steps, 1, MAX_STEPS))
        if self.sampler in DETERMINISTIC and not self.langevin_steps:
            raise UserError(
                f"{self.sampler} draws no noise, so every continuation of one x_t would be the same picture; "
                "choose ddpm, sde-dpmsolver++, or ddim with eta above 0"
            )
        if self.picture is not None:
            picture("picture", self.picture)


@dataclass(frozen=True, kw_only=True)
class InterpolateRequest(SampleRequest):
    """Two pictures noised, mixed and denoised (figure 8), for `num_images` lambdas in 0..1.

    The noise of both ends is the same with `shared_noise`; that of the reverse steps is, for all lambdas.
    """

    sampler: str = "ddpm"
    num_images: int = 11
    diffusion_steps: int = 500
    shared_noise: bool = True
    picture_a: Tensor = picture_field()
    picture_b: Tensor = picture_field()

    more_steps = 1  # the chain is led through x_t

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("num_images", whole("num_images", self.num_images, 2, MAX_IMAGES))
        self._set("diffusion_steps", whole("diffusion_steps", self.diffusion_steps, 0, MAX_STEPS))
        truth("shared_noise", self.shared_noise)
        picture("picture_a", self.picture_a)
        picture("picture_b", self.picture_b)


@dataclass(frozen=True, kw_only=True)
class SlerpRequest(SampleRequest):
    """Images along the great circle between the x_T of two seeds (Song et al. 2020, figure 6)."""

    num_images: int = 11
    other_seed: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("num_images", whole("num_images", self.num_images, 2, MAX_IMAGES))
        self._set("other_seed", whole("other_seed", self.other_seed, 0, MAX_SEED))


@dataclass(frozen=True, kw_only=True)
class ForwardRequest:
    """One picture noised to each of `diffusion_steps` of a schedule's 1000, always by the same noise."""

    picture: Tensor = picture_field()
    schedule: str = "linear"
    diffusion_steps: tuple[int, ...] = (0, 125, 250, 375, 500, 625, 750, 875, 1000)
    seed: int = 0

    def __post_init__(self) -> None:
        picture("picture", self.picture)
        one_of("schedule", self.schedule, SCHEDULES)
        if not isinstance(self.diffusion_steps, list | tuple) or not self.diffusion_steps:
            raise UserError(
                f"diffusion_steps must list whole numbers in 0..1000; got {shortened(self.diffusion_steps)}"
            )
        steps = tuple(whole("diffusion_steps", step, 0, 1000) for step in self.diffusion_steps)
        object.__setattr__(self, "diffusion_steps", steps)
        object.__setattr__(self, "seed", whole("seed", self.seed, 0, MAX_SEED))


@dataclass(frozen=True, kw_only=True)
class CompressionRequest:
    """The lossy code of one picture, its rate from `num_terms` timesteps, or more where those are too few."""

    picture: Tensor = picture_field()
    model: str = DEFAULT_MODEL
    variance_type: str = AUTO
    num_terms: int = 150
    seed: int = 0
    precision: str = "exact"

    def __post_init__(self) -> None:
        picture("picture", self.picture)
        model_name(self.model)
        one_of("variance_type", self.variance_type, [AUTO, *get_args(VarianceType)])
        one_of("precision", self.precision, PRECISIONS)
        object.__setattr__(self, "num_terms", whole("num_terms", self.num_terms, 2, MAX_STEPS))
        object.__setattr__(self, "seed", whole("seed", self.seed, 0, MAX_SEED))

    @property
    def network_calls(self) -> int:
        """How often the network is used at most, on a chain for which `num_terms` are not too few."""
        return self.num_terms


@dataclass(frozen=True, kw_only=True)
class LikelihoodRequest(CompressionRequest):
    """The variational bound on one picture, from about `num_terms` timesteps, denser near t = 0.

    Each is the mean over `num_draws` of the noise, without which the bits of a single pixel are a gamble.
    """

    num_terms: int = 50
    num_draws: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_draws", whole("num_draws", self.num_draws, 1, 64))

    @property
    def network_calls(self) -> int:
        """With L_0."""
        return (self.num_terms + 1) * self.num_draws
