"""What the rest of the program knows about a loaded checkpoint, and how a network becomes a denoiser."""

__all__ = [
    "Measured",
    "Model",
    "Precision",
    "arithmetic",
    "network_denoiser",
    "resolve_device",
    "resolve_devices",
]

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.samplers import Denoiser
from ddpm_app.errors import UserError, one_of
from ddpm_app.models.compiled import CompiledDenoiser
from ddpm_app.models.graphs import CudaRecorder, GraphedDenoiser

Precision = Literal["exact", "fast"]
Runtime = str | CompiledDenoiser | GraphedDenoiser


@dataclass(eq=False)
class Measured:
    """What has been found out about a network since it was loaded; it grows, and nothing in it changes.

    `pictures` (B, C, H, W) were drawn by it, and `gamma` is E|eps|^2 / d by timestep.
    """

    pictures: Tensor | None = None
    gamma: dict[int, float] = field(default_factory=dict)

    def learn(self, other: "Measured") -> None:
        """Takes over what another process has found out about the same network."""
        self.pictures = other.pictures if self.pictures is None else self.pictures
        self.gamma.update(other.gamma | self.gamma)


@dataclass(frozen=True)
class Model:
    """A checkpoint ready to run: `denoiser` takes x_t (B, C, H, W) on `device` and trained timesteps (B,).

    `notes` are the sentences a user should read about how its configuration was understood; `operations`
    tells how many floating-point operations its network takes for one image, counted when first asked for.
    `check` raises where whoever works with it has been stopped.
    """

    name: str
    denoiser: Denoiser
    diffusion: GaussianDiffusion
    image_shape: tuple[int, int, int]
    device: torch.device
    runtime: Runtime
    num_parameters: int
    notes: tuple[str, ...] = ()
    operations: Callable[[], int] = lambda: 0
    measured: Measured = field(default_factory=Measured, compare=False, repr=False)
    check: Callable[[], None] = lambda: None

    @property
    def backend(self) -> str:
        """What computes the network at this moment, and in which number format."""
        return str(self.runtime)

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes: its weights in float32, as often as what computes it holds them."""
        copies = self.runtime.copies if isinstance(self.runtime, CompiledDenoiser) else 1
        return 4 * copies * self.num_parameters

    def square(self) -> tuple[int, int]:
        """Channels and edge of its pictures; UserError where they are no squares, as data are made."""
        channels, height, width = self.image_shape
        if height != width:
            raise UserError(
                f"{self.name} draws pictures of {width} x {height}, and data are brought to squares; "
                "choose a model of square pictures"
            )
        return channels, height

    def on_cpu(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The denoiser of tensors on the CPU, where float64 is: not every device knows it."""
        return self.denoiser(x_t.to(self.device), t.to(self.device)).cpu()

    def settle(self) -> None:
        """Returns when the backend changes no more, so that it can be timed."""
        if isinstance(self.runtime, CompiledDenoiser):
            self.runtime.settle(self.image_shape, self.check)


def resolve_device(device: str) -> torch.device:
    """The device asked for; `auto` is CUDA, else Apple's MPS, else the CPU. UserError when it is absent."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind, here in present.items() if here))
    kind = device.partition(":")[0]
    one_of("device", kind, ["auto", *present])
    if not present[kind]:
        raise UserError(f"this machine has no {kind} device that torch can use; take --device auto or cpu")
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"a device is written as {kind} or {kind}:0; got {device!r}") from error
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if (where.index or 0) >= count:
        raise UserError(f"this machine has {count} {kind} device(s), counted from {kind}:0; got {device!r}")
    return where


def resolve_devices(device: str) -> list[torch.device]:
    """The devices asked for, parted by commas; `auto` is every CUDA device, where there is one."""
    devices = [resolve_device(part.strip()) for part in device.split(",")]
    if device == "auto" and devices[0].type == "cuda":
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return devices


def network_denoiser(network: nn.Module, device: torch.device, precision: str) -> tuple[Denoiser, Runtime]:
    """The network as a denoiser on `device`, and what runs it: in words, or with words for each moment.

    exact computes in float32; fast in half precision where the device computes in it, else in float32 too.
    """
    dtype = arithmetic(device, precision)
    if device.type == "cuda":  # TF32 would leave 10 bits of the mantissa
        torch.backends.cudnn.allow_tf32 = False
    network = network.to(device).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent in its stub

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return network(x_t.to(memory_format=torch.channels_last), t, return_dict=False)[0].float()

    number_format = str(dtype).removeprefix("torch.")
    if device.type == "cpu":
        compiled = CompiledDenoiser(network, denoiser, number_format)
        return compiled, compiled
    name = f"torch {number_format} on {device.type}"
    if device.type == "cuda":
        graphed = GraphedDenoiser(denoiser, name, CudaRecorder(device))
        return graphed, graphed
    return denoiser, name


def arithmetic(device: torch.device, precision: str) -> torch.dtype:
    """The number format in which a network of that precision computes on the device."""
    one_of("precision", precision, ["exact", "fast"])
    return half_format(device) if precision == "fast" else torch.float32


def half_format(device: torch.device) -> torch.dtype:
    """The number format of 16 bits in which the device computes faster than in float32, which it is else."""
    if device.type == "cpu":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16
