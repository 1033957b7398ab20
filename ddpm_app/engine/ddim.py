"""What only a deterministic sampler can do: encode pictures as x_T, and walk between four x_T.

Source: Song, Meng and Ermon (2020), sections 5.3 and 5.4.
"""

__all__ = ["ReconstructRequest", "SlerpGridRequest", "interpolate_grid", "reconstruct"]

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_app.core.inversion import encode, unclipped
from ddpm_app.core.procedures import slerp_grid
from ddpm_app.core.samplers import ddim, generators, reverse
from ddpm_app.engine.checks import later_seed, picture_field, several_pictures, whole
from ddpm_app.engine.frames import Frame
from ddpm_app.engine.procedures import chain_of, denoise, fitting, frames
from ddpm_app.engine.requests import SampleRequest
from ddpm_app.errors import UserError
from ddpm_app.models import Model

MAX_EDGE = 12


@dataclass(frozen=True, kw_only=True)
class ReconstructRequest(SampleRequest):
    """Pictures encoded as x_T in `num_inference_steps`, and drawn from it in as many (section 5.4).

    `num_images` follows from `pictures`. The timesteps start at 0, as in the paper: the last ones keep so
    little of a picture, above all under a cosine schedule, that a long step up to them cannot be undone.
    """

    timestep_spacing: str = "leading"
    pictures: tuple[Tensor, ...] = picture_field()

    def __post_init__(self) -> None:
        self._set("pictures", several_pictures("pictures", self.pictures))
        self._set("num_images", len(self.pictures))
        super().__post_init__()
        if self.sampler != "ddim" or self.eta != 0 or self.langevin_steps:
            raise UserError(
                "only DDIM with eta = 0 and without Langevin corrections can be run upwards; "
                "choose these to reconstruct"
            )

    @property
    def network_calls(self) -> int:
        """Up and down."""
        return 2 * super().network_calls


@dataclass(frozen=True, kw_only=True)
class SlerpGridRequest(SampleRequest):
    """`edge` by `edge` images on the sphere between the x_T of seed .. seed + 3, in reading order.

    `num_images` follows from `edge`.
    """

    edge: int = 6

    def __post_init__(self) -> None:
        self._set("edge", whole("edge", self.edge, 2, MAX_EDGE))
        self._set("num_images", self.edge**2)
        super().__post_init__()

    @property
    def corners(self) -> list[int]:
        """The seeds of the corners."""
        return [later_seed(self.seed, k) for k in range(4)]


def reconstruct(request: ReconstructRequest, model: Model) -> Iterator[Frame]:
    """Up to x_T and down to x_0 again; on the way down, `shared` is the x_T (B, C, H, W) of all pictures."""
    chain = unclipped(chain_of(request, model))
    length = len(chain)
    x_0 = torch.stack([fitting(each, model) for each in request.pictures]).to(model.device)
    for up in encode(chain, model.denoiser, x_0):
        yield Frame(length - up.remaining, 2 * length, up.t, up.x_t, up.pred_x0)
    down = reverse(
        chain, model.denoiser, ddim, request.seeds, model.image_shape, x_t=up.x_t, device=model.device
    )
    yield from frames(down, length, length, shared=up.x_t)


def interpolate_grid(request: SlerpGridRequest, model: Model) -> Iterator[Frame]:
    """The sphere between four x_T, each point denoised by the same noise where eta asks for any."""
    chain = chain_of(request, model)
    draws = [torch.randn(model.image_shape, generator=source) for source in generators(request.corners)]
    x_T = slerp_grid(torch.stack(draws), torch.linspace(0, 1, request.edge))
    same_noise = [request.seed + 4] * request.num_images
    yield from frames(denoise(chain, request, model, same_noise, x_T), len(chain), shared=torch.stack(draws))
