"""What a run yields."""

__all__ = ["CompressionReport", "Frame", "LikelihoodReport", "Received"]

import math
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from ddpm_app.core.images import to_uint8


@dataclass(frozen=True)
class Frame:
    """The state after `step` of `num_steps` steps; `t` is the trained timestep that was left.

    `shared` is what all images of the run start from, once it is known: the frozen x_t (1, C, H, W) of a
    stochastic run, the two noised ends (2, C, H, W) of an interpolation.
    """

    step: int
    num_steps: int
    t: int
    x_t: Tensor
    pred_x0: Tensor
    shared: Tensor | None = None

    @cached_property
    def images(self) -> Tensor:
        """x_t as uint8 (B, C, H, W) on the CPU; after the last step, the finished images."""
        return to_uint8(self.x_t).cpu()

    @cached_property
    def pred_x0_images(self) -> Tensor:
        """x0-hat as uint8 (B, C, H, W) on the CPU."""
        return to_uint8(self.pred_x0).cpu()

    @cached_property
    def shared_images(self) -> Tensor:
        """`shared` as uint8 on the CPU; only where the run has it."""
        if self.shared is None:
            raise RuntimeError("this run starts from nothing shared")
        return to_uint8(self.shared).cpu()


@dataclass(frozen=True)
class LikelihoodReport:
    """The bound on one picture so far, in bits per dimension.

    `terms` are the measured L_{t-1} and L_0 by `timesteps`, (K,); `vb_bpd` estimates the sum over the whole
    chain from them. The standard errors are those of the timesteps left out and, where there are several
    draws of it, of the noise. `bits` (C, H, W) is the bound for each channel of each pixel, in float64.
    """

    step: int
    num_steps: int
    timesteps: tuple[int, ...]
    terms: tuple[float, ...]
    prior_bpd: float
    vb_bpd: float
    vb_error: float
    decoder_error: float
    bits: Tensor = field(compare=False, repr=False)

    @property
    def decoder_bpd(self) -> float:
        """L_0."""
        return self.terms[0]

    @property
    def bits_per_dim(self) -> float:
        """L_T + sum of L_{t-1} + L_0."""
        return self.prior_bpd + self.vb_bpd + self.decoder_bpd

    @property
    def standard_error(self) -> float:
        """Of `bits_per_dim`."""
        return math.hypot(self.vb_error, self.decoder_error)

    @property
    def bits_per_pixel(self) -> Tensor:
        """(H, W): the bound of all channels together."""
        return self.bits.sum(0)


@dataclass(frozen=True)
class Received:
    """What a receiver has once x_t has come, t counted from 0, in bits per dimension sent so far.

    `rmse` is the distance of its picture x0-hat, uint8 (C, H, W), from x_0 on the scale 0..255; `term_bpd` is
    what comes next: L_{t-1}, or at t = 0 the L_0 that makes it the picture itself. The rate's standard error
    is that of the timesteps left out.
    """

    t: int
    rate_bpd: float
    standard_error: float
    rmse: float
    term_bpd: float
    picture: Tensor = field(compare=False, repr=False)


@dataclass(frozen=True)
class CompressionReport:
    """The transmission of one picture so far, x_T first; `num_train_timesteps` is the length of the chain."""

    step: int
    num_steps: int
    num_train_timesteps: int
    received: tuple[Received, ...]

    def reverse_steps(self, received: Received) -> int:
        """How many reverse steps were done for that x0-hat, as table 4 counts them: 1 from x_T alone."""
        return self.num_train_timesteps - received.t

    @property
    def lossless_bpd(self) -> float:
        """What all of it costs, of the last one received: at the end the whole bound."""
        return self.received[-1].rate_bpd + self.received[-1].term_bpd
