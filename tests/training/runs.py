"""What the tests of training share: a tiny run, what it leaves, and runs that can be killed.

A run of its own process comes from a server that has already imported everything and forks, so that it starts
at once.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, UNet2DModel  # noqa: F401  # for the server to have them loaded
from diffusers.training_utils import EMAModel  # noqa: F401
from torch import Tensor

from ddpm_app.commands import main
from ddpm_app.pictures import to_picture
from ddpm_app.training import TrainingConfig
from ddpm_app.training.checkpoints import STATE
from ddpm_app.training.records import PROGRESS

TINY = {
    "image_size": 8,
    "block_out_channels": (32,),
    "attention_resolutions": (),
    "num_train_timesteps": 8,
    "num_steps": 4,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "warmup_steps": 1,
    "precision": "fp32",
}
OBJECTIVES = {
    "importance": {"timestep_sampling": "importance", "num_train_timesteps": 3, "batch_size": 24},
    "min-snr": {"min_snr_gamma": 5.0, "prediction_type": "v_prediction"},
    "vlb": {"objective": "vlb"},
    "hybrid": {"objective": "hybrid", "variance_type": "learned_range", "min_snr_gamma": 5.0},
    "learned": {"objective": "vlb", "variance_type": "learned", "num_train_timesteps": 60},
}
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.training.runs"])


def picture(seed: int, channels: int = 3, size: int = 8) -> Tensor:
    """A picture of noise, uint8 (C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (channels, size, size), generator=generator, dtype=torch.uint8)


def save_pictures(folder: Path, seeds: range) -> Path:
    """`folder`, with a picture of each seed."""
    folder.mkdir(parents=True)
    for seed in seeds:
        to_picture(picture(seed)).save(folder / f"{seed:02d}.png")
    return folder


def state_of(out: str | Path) -> dict[str, Any]:
    """What a resumed run starts from."""
    return torch.load(Path(out, STATE), weights_only=True)


def weights_of(out: str | Path) -> list[Tensor]:
    """Every tensor that a run keeps: the network's, their average, the optimizer's, the losses remembered."""
    state = state_of(out)
    moments = [value for each in state["optimizer"]["state"].values() for value in each.values()]
    return [
        *state["network"].values(),
        *state["ema"]["shadow_params"],
        *moments,
        state["timestep_history"],
        state["timestep_counts"],
    ]


def assert_same_weights(a: str | Path, b: str | Path) -> None:
    """The runs in both folders stand at the same bits."""
    pairs = list(zip(weights_of(a), weights_of(b), strict=True))
    assert len(pairs) > 50
    assert all(torch.equal(one, other) for one, other in pairs)
    assert state_of(a)["step"] == state_of(b)["step"]


def logged(out: str | Path) -> list[dict[str, Any]]:
    """The lines of the log of a run, none before it has one."""
    file = Path(out, PROGRESS)
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def flags(config: TrainingConfig) -> list[str]:
    """The arguments of `python -m ddpm_app` for that run."""
    arguments = ["train"]
    for field in fields(config):
        name, value = field.name.replace("_", "-"), getattr(config, field.name)
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        else:
            arguments += [f"--{name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return arguments


def start(
    config: TrainingConfig, said: Path, *, largest_file: int | None = None, **environment: str
) -> multiprocessing.process.BaseProcess:
    """A process that runs the train command; its exit code is the command's, `said` what it said."""
    process = PROCESSES.Process(target=run, args=(flags(config), said, largest_file, environment))
    process.start()
    return process


def run(arguments: list[str], said: Path, largest_file: int | None, environment: dict[str, str]) -> None:
    """What `start` has a process do."""
    os.environ |= environment
    torch.set_num_threads(1)
    if largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    with said.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        sys.exit(main(arguments))
