"""Models without weights: the exact denoiser of a data set that the program itself makes."""

__all__ = ["EXACT_MODELS", "load", "shape_pictures"]

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.oracle import image_set_denoiser, normal_denoiser
from ddpm_app.core.samplers import Denoiser
from ddpm_app.core.schedules import linear_betas
from ddpm_app.models.model import Model

COLOURS = ((-0.1, 0.6, 0.9), (0.95, 0.35, 0.35), (0.2, 0.8, 0.45), (0.98, 0.75, 0.1))


def shape_pictures(size: int = 32) -> Tensor:
    """Sixteen pictures (16, 3, size, size) in [-1, 1]: disc, ring, square, diamond, in four colours."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius, box, diamond = (x**2 + y**2).sqrt(), torch.maximum(x.abs(), y.abs()), x.abs() + y.abs()
    depths = (0.75 - radius, 0.18 - (radius - 0.58).abs(), 0.62 - box, 0.85 - diamond)
    pictures = []
    for depth in depths:
        cover = (depth * size / 2 + 0.5).clamp(0, 1)  # one pixel of soft edge
        for colour in COLOURS:
            ink = torch.tensor(colour).clamp(0, 1).view(3, 1, 1) * 2 - 1
            pictures.append(cover * ink + (1 - cover))
    return torch.stack(pictures)


def _shapes(diffusion: GaussianDiffusion) -> tuple[Denoiser, tuple[int, int, int], str]:
    pictures = shape_pictures()
    note = "no weights: the exact E[x_0 | x_t] of sixteen drawn pictures, so every sample is one of them"
    return image_set_denoiser(diffusion, pictures), (3, 32, 32), note


def _normal(diffusion: GaussianDiffusion) -> tuple[Denoiser, tuple[int, int, int], str]:
    note = "no weights: the exact E[x_0 | x_t] of independent normal pixels, mean 0.1 and deviation 0.25"
    return normal_denoiser(diffusion, mean=0.1, std=0.25), (1, 16, 16), note


EXACT_MODELS: dict[str, Callable[[GaussianDiffusion], tuple[Denoiser, tuple[int, int, int], str]]] = {
    "exact-shapes": _shapes,
    "exact-normal": _normal,
}


def load(name: str, device: torch.device) -> Model:
    """The exact model of that name, on the linear chain of the paper."""
    diffusion = GaussianDiffusion(linear_betas(1000), timestep_spacing="trailing")
    denoiser, image_shape, note = EXACT_MODELS[name](diffusion)
    if device.type == "mps":  # which has no float64
        device = torch.device("cpu")
    return Model(name, denoiser, diffusion, image_shape, device, "closed form", 0, (note,))
