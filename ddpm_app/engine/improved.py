"""What Improved DDPM measures: the learned variance over t, and the bound under respaced chains.

Source: Nichol and Dhariwal (2021), sections 3.1 and 4.
"""

__all__ = [
    "Bound",
    "BoundsReport",
    "BoundsRequest",
    "VarianceReport",
    "VarianceRequest",
    "bounds",
    "variance_types",
    "variances",
]

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.likelihood import bound_term, prior_bpd
from ddpm_app.core.samplers import generators
from ddpm_app.engine.checks import (
    MAX_SEED,
    MAX_STEPS,
    PRECISIONS,
    model_name,
    picture,
    picture_field,
    several_pictures,
    whole,
)
from ddpm_app.engine.procedures import NOISE_STREAM, fitting
from ddpm_app.errors import UserError, one_of
from ddpm_app.models import DEFAULT_MODEL, Model

MAX_PICTURES = 64
TERMS_PER_CALL = 16  # of one picture, at as many timesteps
QUANTILES = (0.05, 0.95)


@dataclass(frozen=True, kw_only=True)
class VarianceRequest:
    """The variance that a network gives to noised `pictures`, at about `num_timesteps` timesteps."""

    pictures: tuple[Tensor, ...] = picture_field()
    model: str = DEFAULT_MODEL
    num_timesteps: int = 50
    seed: int = 0
    precision: str = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pictures", several_pictures("pictures", self.pictures, MAX_PICTURES))
        model_name(self.model)
        one_of("precision", self.precision, PRECISIONS)
        object.__setattr__(self, "num_timesteps", whole("num_timesteps", self.num_timesteps, 2, MAX_STEPS))
        object.__setattr__(self, "seed", whole("seed", self.seed, 0, MAX_SEED))

    @property
    def num_images(self) -> int:
        """How many pictures go through the network at once."""
        return len(self.pictures)

    @property
    def network_calls(self) -> int:
        """How often the network is used, counted in single images."""
        return self.num_images * self.num_timesteps


@dataclass(frozen=True)
class VarianceReport:
    """v, and the log-variance that it stands for, at each of `timesteps` so far, (K,).

    The mean is over pictures and pixels, and nine tenths of these lie from `v_low` to `v_high`.
    """

    step: int
    num_steps: int
    timesteps: tuple[int, ...] = ()
    v: tuple[float, ...] = ()
    v_low: tuple[float, ...] = ()
    v_high: tuple[float, ...] = ()
    log_variance: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BoundsRequest:
    """The bound on one picture under chains of so many `steps`, with every variance the model supports."""

    picture: Tensor = picture_field()
    model: str = DEFAULT_MODEL
    steps: tuple[int, ...] = (25, 50, 100, 200)
    seed: int = 0
    precision: str = "exact"

    def __post_init__(self) -> None:
        picture("picture", self.picture)
        model_name(self.model)
        if not isinstance(self.steps, list | tuple) or not self.steps:
            raise UserError("steps must list at least one number of steps")
        one_of("precision", self.precision, PRECISIONS)
        steps = tuple(whole("steps", step, 1, MAX_STEPS) for step in self.steps)
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "seed", whole("seed", self.seed, 0, MAX_SEED))

    @property
    def network_calls(self) -> int:
        """How often the network is used."""
        return sum(self.steps)


@dataclass(frozen=True)
class Bound:
    """Every term of the bound under one chain, in bits/dim."""

    num_inference_steps: int
    variance_type: str
    prior_bpd: float
    vb_bpd: float
    decoder_bpd: float

    @property
    def bits_per_dim(self) -> float:
        """L_T + sum of L_{t-1} + L_0."""
        return self.prior_bpd + self.vb_bpd + self.decoder_bpd


@dataclass(frozen=True)
class BoundsReport:
    """The bounds that are complete after `step` of `num_steps` images have gone through the network."""

    step: int
    num_steps: int
    bounds: tuple[Bound, ...]


def variance_types(model: Model) -> list[str]:
    """The reverse variances that this model can take in a chain of any length."""
    learned = ["learned_range"] if model.diffusion.variance_type == "learned_range" else []
    return ["fixed_small", "fixed_large", *learned]


def variances(request: VarianceRequest, model: Model) -> Iterator[VarianceReport]:
    """v = (output + 1) / 2 (eq. 15) on the same noise at each timestep, from the lowest up."""
    diffusion = model.diffusion
    if diffusion.variance_type != "learned_range":
        raise UserError(
            f"{model.name} has the variance {diffusion.variance_type} and so no v to show; choose a model "
            "that learned a range of variances, such as mnist-28-hybrid"
        )
    x_0 = torch.stack([fitting(each, model) for each in request.pictures])
    noise = torch.randn(x_0.shape, generator=generators([request.seed ^ NOISE_STREAM])[0])
    timesteps = spread(len(diffusion), request.num_timesteps)
    rows: list[tuple[float, ...]] = []
    for count, here in enumerate(timesteps, start=1):
        t = torch.full((len(x_0),), here)
        x_t = diffusion.q_sample(x_0, t, noise).to(model.device)
        with torch.inference_mode():
            model_output = model.denoiser(x_t, t.to(model.device))
            p = diffusion.p_mean_variance(model_output, x_t, t)
        _, variance_output = diffusion.split_output(model_output, x_t)
        assert variance_output is not None  # or p would have refused
        v = (variance_output.cpu().double().flatten() + 1) / 2
        low, high = (v.kthvalue(1 + round(share * (len(v) - 1))).values.item() for share in QUANTILES)
        rows.append((v.mean().item(), low, high, p.log_variance.cpu().double().mean().item()))
        columns = (tuple(column) for column in zip(*rows, strict=True))
        yield VarianceReport(count, len(timesteps), tuple(timesteps[:count]), *columns)


def bounds(request: BoundsRequest, model: Model) -> Iterator[BoundsReport]:
    """Every term of the bound, all variances measured on the same noise (section 4)."""
    x_0 = fitting(request.picture, model)[None]  # the bound is float64, which not every device knows
    kinds = variance_types(model)
    varied = [model.diffusion.with_variance(kind) for kind in kinds]  # type: ignore[arg-type]
    wanted = [(length, [chain.respaced(length) for chain in varied]) for length in request.steps]
    complete: list[Bound] = []
    done = 0
    for length, chains in wanted:
        (generator,) = generators([request.seed ^ NOISE_STREAM])
        parts = []
        for places in torch.arange(length).split(TERMS_PER_CALL):
            noise = torch.randn((len(places), *model.image_shape), generator=generator)
            parts.append(terms(chains, model, x_0, places, noise))
            done += len(places)
            yield BoundsReport(done, sum(request.steps), tuple(complete))
        for kind, chain, values in zip(kinds, chains, torch.cat(parts, dim=1), strict=True):
            decoder, rest = values[0].item(), values[1:].sum().item()
            complete.append(Bound(length, kind, prior_bpd(chain, x_0).item(), rest, decoder))
        yield BoundsReport(done, sum(request.steps), tuple(complete))


def terms(
    chains: list[GaussianDiffusion], model: Model, x_0: Tensor, places: Tensor, noise: Tensor
) -> Tensor:
    """The bound's terms at these places (K,) for chains that differ in their variance alone: (chains, K)."""
    x_0 = x_0.expand(len(places), -1, -1, -1)
    x_t, t = chains[0].q_sample(x_0, places, noise), chains[0].timesteps[places]
    with torch.inference_mode():
        model_output = model.on_cpu(x_t, t)
        measured = [
            bound_term(chain, chain.p_mean_variance(model_output, x_t, places), x_0, x_t, places)
            for chain in chains
        ]
    return torch.stack(measured)


def spread(length: int, count: int) -> list[int]:
    """About `count` of the timesteps 0 .. length - 1: half spread evenly, half evenly in log t."""
    half = -(-count // 2)
    even = torch.linspace(0, length - 1, half)
    steep = torch.logspace(0, math.log10(length), half) - 1
    return torch.cat([even, steep]).round().long().clamp(0, length - 1).unique().tolist()
