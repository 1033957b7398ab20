"""What a run yields."""

__all__ = ["Frame", "LikelihoodReport"]

from dataclasses import dataclass
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
    chain from them, with its standard error, which is 0 when no timestep is left out.
    """

    step: int
    num_steps: int
    timesteps: tuple[int, ...]
    terms: tuple[float, ...]
    prior_bpd: float
    vb_bpd: float
    decoder_bpd: float
    standard_error: float

    @property
    def bits_per_dim(self) -> float:
        """L_T + sum of L_{t-1} + L_0."""
        return self.prior_bpd + self.vb_bpd + self.decoder_bpd
