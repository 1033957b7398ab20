"""Pictures packed into one message and unpacked again, losslessly, and what that took."""

__all__ = ["CodingReport", "CodingRequest", "Packed", "code"]

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from ddpm_app.core.bits_back import pack, unpack
from ddpm_app.core.diffusion import GaussianDiffusion, VarianceType
from ddpm_app.core.rans import Message
from ddpm_app.core.samplers import generators
from ddpm_app.engine.checks import (
    MAX_SEED,
    MAX_STEPS,
    PRECISIONS,
    model_name,
    picture_field,
    several_pictures,
    whole,
)
from ddpm_app.engine.procedures import fitting
from ddpm_app.engine.requests import AUTO
from ddpm_app.errors import one_of
from ddpm_app.models import DEFAULT_MODEL, Model


@dataclass(frozen=True, kw_only=True)
class CodingRequest:
    """`pictures` packed one on the other in so many steps each; what is borrowed is drawn by `seed`."""

    pictures: tuple[Tensor, ...] = picture_field()
    model: str = DEFAULT_MODEL
    num_inference_steps: int = 50
    variance_type: str = AUTO
    seed: int = 0
    precision: str = "exact"

    operations_per_value = 1e6  # of the code itself, which does not wait for the network
    alone = True  # no pass of the network may be shared: unpacking wants every bit of its answers again

    def __post_init__(self) -> None:
        object.__setattr__(self, "pictures", several_pictures("pictures", self.pictures))
        model_name(self.model)
        one_of("variance_type", self.variance_type, [AUTO, *get_args(VarianceType)])
        one_of("precision", self.precision, PRECISIONS)
        steps = whole("num_inference_steps", self.num_inference_steps, 2, MAX_STEPS)
        object.__setattr__(self, "num_inference_steps", steps)
        object.__setattr__(self, "seed", whole("seed", self.seed, 0, MAX_SEED))

    @property
    def num_images(self) -> int:
        """How many pictures are packed."""
        return len(self.pictures)

    @property
    def network_calls(self) -> int:
        """Packing and unpacking."""
        return 2 * self.num_images * self.num_inference_steps


@dataclass(frozen=True)
class Packed:
    """One picture: the bits by which the message grew, and those of the bound at the x_t it went through.

    `num_bytes` is the whole message with it and what came before, borrowed bits and all.
    """

    net_bits: float
    bound_bits: float
    num_bytes: int


@dataclass(frozen=True)
class CodingReport:
    """What is packed after `step` of `num_steps` uses of the network, and how many came back exact.

    `message` is the whole of it once the last of `packed` lies on top.
    """

    step: int
    num_steps: int
    packed: tuple[Packed, ...]
    message: bytes
    borrowed_bits: int
    num_exact: int = 0


def code(request: CodingRequest, model: Model) -> Iterator[CodingReport]:
    """Packs every picture, then reads the message as from a file and unpacks them, the last one first."""
    chain, (source,) = _chain(request, model), generators([request.seed])
    for picture in request.pictures:
        fitting(picture, model)
    message, length = Message(source), len(chain)
    packed: list[Packed] = []
    written = b""

    model.settle()  # another backend answers with other last bits
    num_steps, done = 2 * length * request.num_images, 0
    for picture in request.pictures:
        before, bound = message.num_bits, 0.0
        for step, bits in enumerate(pack(chain, model.on_cpu, picture, message)):
            bound += bits
            if step < length:
                done += 1
                yield CodingReport(done, num_steps, tuple(packed), written, message.borrowed_bits)
        written = message.written()
        packed.append(Packed(message.num_bits - before, bound, len(written)))
    borrowed, exact = message.borrowed_bits, 0
    message = Message.read(written, source)
    for picture in reversed(request.pictures):
        steps = unpack(chain, model.on_cpu, model.image_shape, message)
        unpacked = yield from _told(
            steps, CodingReport(done, num_steps, tuple(packed), written, borrowed, exact)
        )
        done, exact = done + length, exact + torch.equal(unpacked, picture)
    yield CodingReport(num_steps, num_steps, tuple(packed), written, borrowed, exact)


def _told(steps: Generator[int, None, Tensor], before: CodingReport) -> Generator[CodingReport, None, Tensor]:
    """What the steps return, with a report for each."""
    while True:
        try:
            step = next(steps)
        except StopIteration as stop:
            return stop.value
        yield replace(before, step=before.step + step)


def _chain(request: CodingRequest, model: Model) -> GaussianDiffusion:
    chain = model.diffusion
    if request.variance_type != AUTO:
        chain = chain.with_variance(request.variance_type)  # type: ignore[arg-type]
    return chain.respaced(request.num_inference_steps)
