"""A diffusers folder on disk as a Model: what its configuration says is honoured, or refused in one sentence.

Two layouts are in use: the files in `unet/` and `scheduler/`, or all at the root.
"""

__all__ = [
    "INDEX_FILE",
    "MAX_EDGE",
    "MAX_LAYERS",
    "MAX_LEVELS",
    "MAX_TRAIN_TIMESTEPS",
    "NETWORK_FILES",
    "SCHEDULER_FILES",
    "WANTED",
    "Description",
    "check_network",
    "describe",
    "is_pipeline",
    "load",
    "read_network",
]

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.schedules import (
    cosine_betas,
    linear_betas,
    quadratic_betas,
    sigmoid_betas,
    zero_terminal_snr,
)
from ddpm_app.errors import UserError, one_of
from ddpm_app.models.lucidrains import LucidrainsUNet
from ddpm_app.models.model import Model, network_denoiser
from ddpm_app.models.weights import UNBUILDABLE, build_network, count_operations, read_weights, reason

INDEX_FILE = "model_index.json"
NETWORK_FILES = ("unet/config.json", "config.json")
SCHEDULER_FILES = ("scheduler/scheduler_config.json", "scheduler_config.json")
VARIANCE_NAMES = {"fixed_small_log": "fixed_small", "fixed_large_log": "fixed_large"}
# the settings of a scheduler that have one value here
APPLIED = {"thresholding": False, "clip_sample_range": 1.0, "steps_offset": 0, "set_alpha_to_one": True}
OWN_SCHEDULERS = ("DDPMScheduler", "DDIMScheduler")
LATENT_PARTS = ("vqvae", "vae", "movq")
MAX_CONFIG_BYTES = 1_000_000  # a chain of 10,000 trained betas takes a fifth of it
MAX_TRAIN_TIMESTEPS = 10_000
MAX_EDGE = 1024  # pixels
MAX_LEVELS, MAX_LAYERS = 16, 16  # of a network, deeper than any; a number in a file is not to build a million
WANTED = "choose an unconditional DDPM in pixel space: a UNet2DModel with a DDPM or DDIM scheduler"


@dataclass(frozen=True)
class Description:
    """What a folder says of its model without its weights: `config` is the network's, all of it checked."""

    config: dict[str, Any]
    diffusion: GaussianDiffusion
    weights_folder: Path
    notes: tuple[str, ...]


def is_pipeline(path: Path) -> bool:
    """Whether `path` looks like a diffusers model in one of the two layouts."""
    return any(os.path.isfile(path / file) for file in NETWORK_FILES)  # a closed folder raises in Path's


def load(name: str, path: Path, device: torch.device, precision: str) -> Model:
    """The model in folder `path`; UserError when it is damaged or not an unconditional pixel-space DDPM."""
    description = describe(name, path)
    config = description.config
    network = read_network(name, description)
    denoiser, runtime = network_denoiser(network, device, precision)
    height, width = edges(config["sample_size"])
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    image_shape = (config["in_channels"], height, width)
    return Model(
        name,
        denoiser,
        description.diffusion,
        image_shape,
        device,
        runtime,
        num_parameters,
        description.notes,
        cache(partial(count_operations, config)),
    )


def read_network(name: str, description: Description) -> nn.Module:
    """The network described, with its weights, in float32 on the CPU."""
    return build_network(name, description.config, read_weights(name, description.weights_folder))


def describe(name: str, path: Path) -> Description:
    """The configuration in folder `path`; UserError when it is damaged or not one of a pixel-space DDPM."""
    network_file = next(path / file for file in NETWORK_FILES if (path / file).is_file())
    scheduler_file = next((path / file for file in SCHEDULER_FILES if (path / file).is_file()), None)
    config = read_config(network_file)
    settings = read_config(scheduler_file) if scheduler_file else None
    index = read_config(path / INDEX_FILE) if (path / INDEX_FILE).is_file() else {}
    check_network(name, config, settings or {}, index)
    if settings is None:
        raise UserError(
            f"{name} has no scheduler_config.json, so its noise schedule is unknown; add that file"
        )
    notes: list[str] = []
    if "attention_head_dim" not in config:
        config["attention_head_dim"] = None
        notes.append(
            "the configuration names no attention heads: one head is taken, as in the authors' model"
        )
    diffusion = read_diffusion(name, settings, notes)
    learned = diffusion.variance_type in ("learned", "learned_range")
    if learned and config["out_channels"] == config["in_channels"]:
        raise UserError(
            f"{name} gives no variance, yet its scheduler_config.json says variance_type "
            f"{diffusion.variance_type}; correct it to fixed_small or fixed_large"
        )
    known = config.get("num_train_timesteps") or 0
    if config.get("time_embedding_type") == "learned" and known < len(diffusion):
        raise UserError(
            f"{name} learned embeddings of {known} timesteps, and its scheduler_config.json has "
            f"{len(diffusion)}; correct num_train_timesteps in one of them"
        )
    return Description(config, diffusion, network_file.parent, tuple(notes))


def read_config(file: Path) -> dict[str, Any]:
    """A JSON object from `file`, which must be whole, and no longer than such a file ever is."""
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError
        config = json.loads(file.read_text("utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise UserError(f"{file} cannot be read as JSON; fetch or save the model again") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} is not a configuration; fetch or save the model again")
    return config


def check_network(
    name: str,
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    index: Mapping[str, Any] | None = None,
) -> None:
    """UserError unless this is an unconditional pixel-space DDPM; `index` is its model_index.json."""
    parts = [part for part in LATENT_PARTS if (index or {}).get(part) not in (None, [None, None])]
    if parts:
        raise UserError(f"{name} works in the latent space of its {parts[0]}; {WANTED}")
    kind = config.get("_class_name", "UNet2DModel" if "in_channels" in config else "network of another kind")
    if kind not in ("UNet2DModel", LucidrainsUNet.__name__):
        raise UserError(f"{name} has a {str(kind)[:80]}; {WANTED}")
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise UserError(f"{name} is class-conditional; {WANTED}")
    scheduler = settings.get("_class_name", "DDPMScheduler")
    has_betas = "beta_schedule" in settings or settings.get("trained_betas") is not None
    if scheduler not in OWN_SCHEDULERS and not has_betas:
        raise UserError(f"{name} is driven by a {scheduler}, which has no beta schedule; {WANTED}")
    channels, outputs, size = (config.get(key) for key in ("in_channels", "out_channels", "sample_size"))
    if channels not in (1, 3) or outputs not in (channels, 2 * channels):
        raise UserError(f"{name} maps {channels} channels to {outputs}, so it makes no pictures; {WANTED}")
    if len(edges(size)) != 2 or not all(
        isinstance(edge, int) and 0 < edge <= MAX_EDGE for edge in edges(size)
    ):
        raise UserError(
            f"{name} gives sample_size {size!r}; write its picture's edge in pixels in config.json"
        )
    widths, layers = config.get("block_out_channels", (224, 448, 672, 896)), config.get("layers_per_block", 2)
    listed = isinstance(widths, list | tuple) and 1 <= len(widths) <= MAX_LEVELS
    if not listed or not all(isinstance(width, int) and width > 0 for width in widths):
        raise UserError(
            f"{name} gives block_out_channels {shortened(widths)}; list its widths in config.json"
        )
    if not isinstance(layers, int) or not 1 <= layers <= MAX_LAYERS:
        raise UserError(
            f"{name} gives layers_per_block {shortened(layers)}; "
            f"write a whole number in 1..{MAX_LAYERS} in config.json"
        )
    halvings = len(widths) - 1
    if halvings > 0 and any(edge % 2**halvings for edge in edges(size)):
        raise UserError(
            f"{name} halves its pictures {halvings} times, which sample_size {size} does not allow; "
            f"write a multiple of {2**halvings} in config.json"
        )


def edges(size: Any) -> list:
    """The height and width that a sample_size stands for: one edge of a square, or both."""
    return size if isinstance(size, list) else [size, size]


def read_diffusion(name: str, settings: Mapping[str, Any], notes: list[str]) -> GaussianDiffusion:
    """The chain that a diffusers scheduler configuration describes; what is absent has diffusers' default."""
    for key, plain in APPLIED.items():
        if settings.get(key, plain) != plain:
            notes.append(f"{key} = {settings[key]} in the scheduler's configuration is not applied here")
    if settings.get("_class_name") not in (None, *OWN_SCHEDULERS):
        notes.append(f"made for {settings['_class_name']}; its chain is sampled with this app's samplers")
    if settings.get("variance_type") == "learned":
        notes.append(
            "the learned variance is read as its logarithm, as in the papers' code, unlike in diffusers"
        )
    variance_type: Any = settings.get("variance_type") or "fixed_small"  # null, where a solver knows none
    try:
        return GaussianDiffusion(
            read_betas(settings),
            settings.get("prediction_type", "epsilon" if settings.get("predict_epsilon", True) else "sample"),
            VARIANCE_NAMES.get(variance_type, variance_type),
            bool(settings.get("clip_sample", True)),
            timestep_spacing=settings.get("timestep_spacing", "leading"),
        )
    except UNBUILDABLE as error:  # our own UserError too, which is a ValueError
        raise UserError(f"the scheduler_config.json of {name} cannot be followed: {reason(error)}") from error


def read_betas(settings: Mapping[str, Any]) -> Tensor:
    """The betas, float64 (T,), that a diffusers scheduler configuration describes."""
    if settings.get("trained_betas") is not None:
        betas = torch.as_tensor(settings["trained_betas"], dtype=torch.float64)
    else:
        steps = settings.get("num_train_timesteps", 1000)
        if not isinstance(steps, int) or not 1 <= steps <= MAX_TRAIN_TIMESTEPS:
            raise UserError(
                f"num_train_timesteps must be a whole number in 1..{MAX_TRAIN_TIMESTEPS}; "
                f"got {shortened(steps)}"
            )
        ends = settings.get("beta_start", 1e-4), settings.get("beta_end", 0.02)
        schedules = {
            "linear": lambda: linear_betas(steps, *ends),
            "scaled_linear": lambda: quadratic_betas(steps, *ends),
            "squaredcos_cap_v2": lambda: cosine_betas(steps),
            "sigmoid": lambda: sigmoid_betas(steps, *ends),
        }
        betas = schedules[one_of("beta_schedule", settings.get("beta_schedule", "linear"), schedules)]()
    return zero_terminal_snr(betas) if settings.get("rescale_betas_zero_snr") else betas
