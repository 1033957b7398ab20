"""What a training run leaves on disk: its resumable state, and a diffusers folder of the averaged weights."""

__all__ = ["load_state", "save_pipeline", "save_state"]

import json
import os
from pathlib import Path
from typing import Any

import torch

from ddpm_app.errors import UserError

STATE = "training_state.pt"
SETTINGS = "training.json"
# the names that diffusers gives to our schedules and variances
SCHEDULE_NAMES = {
    "linear": "linear",
    "quadratic": "scaled_linear",
    "cosine": "squaredcos_cap_v2",
    "sigmoid": "sigmoid",
}
# what the weights were learned for, which a resumed run must not change
PROCESS = ("image_size", "schedule", "num_train_timesteps", "prediction_type")


def save_state(out: Path, network, ema, optimizer, step: int) -> None:
    """Everything a resumed run needs; the old state stays whole until the new one is."""
    state = {
        "step": step,
        "network": network.state_dict(),
        "ema": ema.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"{STATE}.partial"
    torch.save(state, partial)
    os.replace(partial, out / STATE)


def load_state(out: Path, network, ema, optimizer, config) -> int:
    """The number of steps already done, after restoring what save_state wrote; 0 where there is nothing.

    Raises UserError when the run there was of another network or process, or its state is damaged.
    """
    if not (out / STATE).exists():
        return 0
    before = json.loads((out / SETTINGS).read_text()) if (out / SETTINGS).exists() else {}
    for name in PROCESS:
        if name in before and before[name] != getattr(config, name):
            raise UserError(
                f"{out} holds a run with {name} {before[name]}, which cannot go on with "
                f"{getattr(config, name)}; give another --out or remove the folder"
            )
    try:
        state = torch.load(out / STATE, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged bytes raise anything from KeyError to UnpicklingError
        raise UserError(f"{out / STATE} is damaged; remove it to begin again") from error
    try:
        network.load_state_dict(state["network"])
    except RuntimeError as error:
        raise UserError(
            f"{out} holds a run of another network; give another --out or remove the folder"
        ) from error
    ema.load_state_dict(state["ema"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def save_pipeline(out: Path, network, config, settings: dict) -> None:
    """A folder that DDPMPipeline.from_pretrained loads: network in half precision, scheduler, settings."""
    from diffusers import DDPMPipeline, DDPMScheduler

    scheduler = DDPMScheduler(
        num_train_timesteps=config.num_train_timesteps,
        beta_schedule=SCHEDULE_NAMES[config.schedule],
        # diffusers' scaled_linear takes its square roots itself
        beta_start=1e-4,
        beta_end=0.02,
        variance_type=config.variance_type,
        prediction_type=config.prediction_type,
        clip_sample=True,
        timestep_spacing="trailing",
    )
    half = type(network).from_config(network.config)
    half.load_state_dict(network.state_dict())
    pipeline: Any = DDPMPipeline(half.half(), scheduler)
    pipeline.save_pretrained(out)
    # the folder may be published: it says which data, not where it lay
    public = settings | {"data": Path(config.data).name, "out": out.name}
    (out / SETTINGS).write_text(json.dumps(public, indent=2) + "\n")
