"""A diffusers folder on disk as a Model: what its configuration says is honoured, or refused in one sentence.

Two layouts are in use: the files in `unet/` and `scheduler/`, or all at the root. Weights are read as tensors only.
"""

__all__ = ["NETWORK_FILES", "SCHEDULER_FILES", "check_network", "is_pipeline", "load"]

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
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
from ddpm_app.errors import UserError
from ddpm_app.models.model import Model, network_denoiser

NETWORK_FILES = ("unet/config.json", "config.json")
SCHEDULER_FILES = ("scheduler/scheduler_config.json", "scheduler_config.json")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
# the authors' attention layers as diffusers named them first
OLD_ATTENTION_NAMES = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}
VARIANCE_NAMES = {"fixed_small_log": "fixed_small", "fixed_large_log": "fixed_large"}
NOT_A_DDPM = "this app runs unconditional DDPMs in pixel space: a UNet2DModel with a DDPM or DDIM scheduler"


def is_pipeline(path: Path) -> bool:
    """Whether `path` looks like a diffusers model in one of the two layouts."""
    return any((path / file).is_file() for file in NETWORK_FILES)


def load(name: str, path: Path, device: torch.device, precision: str) -> Model:
    """The model in folder `path`; UserError when it is damaged or not an unconditional pixel-space DDPM."""
    network_file = next(path / file for file in NETWORK_FILES if (path / file).is_file())
    scheduler_file = next((path / file for file in SCHEDULER_FILES if (path / file).is_file()), None)
    if scheduler_file is None:
        raise UserError(
            f"{name} has no scheduler_config.json, so its noise schedule is unknown; add that file"
        )
    config, settings = read_config(network_file), read_config(scheduler_file)
    check_network(name, config, settings)
    notes: list[str] = []
    if "attention_head_dim" not in config:
        config["attention_head_dim"] = None
        notes.append(
            "the configuration names no attention heads: one head is taken, as in the authors' model"
        )
    diffusion = read_diffusion(name, settings, notes)
    network = build_network(name, config, read_weights(name, network_file.parent))
    denoiser, backend = network_denoiser(network, device, precision)
    size = config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else size
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    image_shape = (config["in_channels"], height, width)
    return Model(name, denoiser, diffusion, image_shape, device, backend, num_parameters, tuple(notes))


def read_config(file: Path) -> dict[str, Any]:
    """A JSON object from `file`, which must be whole."""
    try:
        config = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as JSON; fetch or save the model again") from error
    if not isinstance(config, dict):
        raise UserError(f"{file} is not a configuration; fetch or save the model again")
    return config


def check_network(name: str, config: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """UserError unless this is an unconditional pixel-space DDPM that the chain of the paper describes."""
    kind = config.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise UserError(f"{name} has a {kind}, which is conditioned or works in a latent space; {NOT_A_DDPM}")
    if config.get("class_embed_type") or config.get("num_class_embeds"):
        raise UserError(f"{name} is class-conditional; {NOT_A_DDPM}")
    scheduler = settings.get("_class_name", "DDPMScheduler")
    if "beta_schedule" not in settings and settings.get("trained_betas") is None:
        raise UserError(f"{name} is driven by a {scheduler}, which has no beta schedule; {NOT_A_DDPM}")
    channels, outputs, size = (config.get(key) for key in ("in_channels", "out_channels", "sample_size"))
    if channels not in (1, 3) or outputs not in (channels, 2 * channels):
        raise UserError(
            f"{name} maps {channels} channels to {outputs}, so it makes no pictures; {NOT_A_DDPM}"
        )
    sizes = [size] if isinstance(size, int) else size
    if not isinstance(sizes, list) or not all(isinstance(edge, int) and 0 < edge <= 1024 for edge in sizes):
        raise UserError(
            f"{name} gives sample_size {size!r}; write its picture's edge in pixels in config.json"
        )


def read_diffusion(name: str, settings: Mapping[str, Any], notes: list[str]) -> GaussianDiffusion:
    """The chain that a diffusers scheduler configuration describes; what is absent has diffusers' default."""
    for key, plain in {"thresholding": False, "clip_sample_range": 1.0, "steps_offset": 0}.items():
        if settings.get(key, plain) != plain:
            notes.append(f"{key} = {settings[key]} in the scheduler's configuration is not applied here")
    if settings.get("_class_name") not in (None, "DDPMScheduler", "DDIMScheduler"):
        notes.append(f"made for {settings['_class_name']}; its chain is sampled with this app's samplers")
    variance_type = settings.get("variance_type", "fixed_small")
    return GaussianDiffusion(
        read_betas(name, settings),
        settings.get("prediction_type", "epsilon"),
        VARIANCE_NAMES.get(variance_type, variance_type),
        bool(settings.get("clip_sample", True)),
        timestep_spacing=settings.get("timestep_spacing", "leading"),
    )


def read_betas(name: str, settings: Mapping[str, Any]) -> Tensor:
    """The betas, float64 (T,), that a diffusers scheduler configuration describes."""
    if settings.get("trained_betas") is not None:
        betas = torch.as_tensor(settings["trained_betas"], dtype=torch.float64)
    else:
        steps = settings.get("num_train_timesteps", 1000)
        ends = settings.get("beta_start", 1e-4), settings.get("beta_end", 0.02)
        schedules = {
            "linear": lambda: linear_betas(steps, *ends),
            "scaled_linear": lambda: quadratic_betas(steps, *ends),
            "squaredcos_cap_v2": lambda: cosine_betas(steps),
            "sigmoid": lambda: sigmoid_betas(steps, *ends),
        }
        schedule = settings["beta_schedule"]
        if schedule not in schedules:
            raise UserError(f"{name} has beta_schedule {schedule!r}; known are {', '.join(schedules)}")
        betas = schedules[schedule]()
    return zero_terminal_snr(betas) if settings.get("rescale_betas_zero_snr") else betas


def read_weights(name: str, where: Path) -> dict[str, Tensor]:
    """The tensors beside a network's configuration, from .safetensors, else from .bin without unpickling."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = next((where / weights for weights in WEIGHTS if (where / weights).is_file()), None)
    if file is None:
        raise UserError(f"{name} has no weights: {WEIGHTS[0]} is missing; fetch or save the model again")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{file.name} of {name} holds more than tensors and is not opened") from error
    except (SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise UserError(f"{file.name} of {name} is damaged; fetch or save the model again") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{file.name} of {name} is not a table of tensors; save it as safetensors")
    return tensors


def build_network(name: str, config: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """diffusers' UNet2DModel of that configuration in float32 with these weights, every one of them placed."""
    from diffusers import UNet2DModel

    renamed = {}
    for key, tensor in weights.items():
        for old, new in OLD_ATTENTION_NAMES.items():
            key = key.replace(old, new) if ".attentions." in key else key
        renamed[key] = tensor.float()
    try:
        network = UNet2DModel.from_config(config)
        network.load_state_dict(renamed)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the weights of {name} do not fit its configuration ({reason})") from error
    return network
