"""What a training run leaves on disk: its resumable state, and a diffusers folder of the averaged weights.

Every file is written beside its place and then moved there, so that it is whole at any moment.
"""

__all__ = [
    "AGAIN",
    "PIXELS",
    "SAMPLES",
    "SETTINGS",
    "SHEETS",
    "STATE",
    "UPLOADS",
    "TrainingState",
    "forget",
    "load_state",
    "save_pipeline",
    "save_state",
    "sweep",
    "writing",
]

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ddpm_app.core.losses import TimestepSampler
from ddpm_app.errors import UserError
from ddpm_app.training.config import PLACES, TrainingConfig
from ddpm_app.training.network import UNSEEN
from ddpm_app.training.sources import placeless

STATE = "training_state.pt"
PIXELS = "pixels"  # the decoded pictures of a set that is too large for memory
UPLOADS = "data"  # the pictures that were given to a run of the page
SETTINGS = "training.json"
SAMPLES, SHEETS = "samples.png", "samples"  # the newest sheet, and one for each time
PARTIAL = ".partial"
AGAIN = "give the same command again"
# the names that diffusers gives to our schedules
SCHEDULE_NAMES = {
    "linear": "linear",
    "quadratic": "scaled_linear",
    "cosine": "squaredcos_cap_v2",
    "sigmoid": "sigmoid",
}
# what the weights were learned for, which a resumed run must not change
PROCESS = (
    "image_size",
    "schedule",
    "num_train_timesteps",
    "prediction_type",
    "variance_type",
    "objective",
    *UNSEEN,
)


@dataclass
class TrainingState:
    """What a step changes: the step's random numbers and place in the data follow from `step` itself."""

    network: Any
    ema: Any
    optimizer: torch.optim.Optimizer
    timesteps: TimestepSampler
    scaler: torch.amp.GradScaler | None = None  # of fp16
    step: int = 0
    seconds: float = 0.0
    held_out_loss: float | None = None  # as it was last measured
    pictures: str = ""  # the fingerprint of those that it learned from, "" where nobody noted it

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the network has the averaged weights and is in evaluation mode."""
        parameters = list(self.network.parameters())
        self.ema.store(parameters)
        self.ema.copy_to(parameters)
        self.network.eval()
        try:
            yield
        finally:
            self.ema.restore(parameters)
            self.network.train()


def save_state(out: Path, state: TrainingState, config: TrainingConfig) -> None:
    """Everything a resumed run needs; the old state stays whole until the new one is."""
    values = {
        "process": _process(config),
        "step": state.step,
        "seconds": state.seconds,
        "held_out_loss": state.held_out_loss,
        "pictures": state.pictures,
        "network": state.network.state_dict(),
        "ema": state.ema.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict() if state.scaler else None,
        "timestep_history": state.timesteps.history,
        "timestep_counts": state.timesteps.counts,
    }
    with _into(out) as partial:
        torch.save(values, partial / STATE)


def load_state(out: Path, state: TrainingState, config: TrainingConfig) -> None:
    """Puts into `state` what save_state wrote into `out`; nothing where there is none.

    Raises UserError when the run there was of another network or process, or its state is damaged.
    """
    if not (out / STATE).exists():
        return
    try:
        values = torch.load(out / STATE, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged bytes raise anything from KeyError to UnpicklingError
        raise UserError(f"{out / STATE} is damaged; remove it or give --no-resume to begin again") from error
    before = values.get("process") or _settings(out)  # a state of an earlier version does not say
    for name, wanted in _process(config).items():
        if name in before and before[name] != wanted:
            raise UserError(
                f"{out} holds a run with {name} {before[name]}, which cannot go on with {wanted}; give "
                "--no-resume, or another --out, where --init-from begins with these weights"
            )
    try:
        state.network.load_state_dict(values["network"])
    except RuntimeError as error:
        raise UserError(f"{out} holds a run of another network; give another --out or --no-resume") from error
    state.ema.load_state_dict(values["ema"])
    state.ema.decay = config.ema_decay  # the state's own came with it
    state.optimizer.load_state_dict(values["optimizer"])
    if state.scaler and values.get("scaler"):  # not of an earlier version, or another precision
        state.scaler.load_state_dict(values["scaler"])
    state.timesteps.history, state.timesteps.counts = values["timestep_history"], values["timestep_counts"]
    state.step, state.seconds = values["step"], values["seconds"]
    state.held_out_loss, state.pictures = values.get("held_out_loss"), values.get("pictures", "")


def _process(config: TrainingConfig) -> dict[str, Any]:
    """What the state belongs to: PROCESS, and the pictures, wherever they lie."""
    return {name: getattr(config, name) for name in PROCESS} | {"data": placeless(config.data)}


def _settings(out: Path) -> dict[str, Any]:
    file = out / SETTINGS
    return json.loads(file.read_text()) if file.exists() else {}


def sweep(out: Path) -> None:
    """Removes what a process that was killed had only begun to write."""
    shutil.rmtree(out / PARTIAL, ignore_errors=True)


def forget(out: Path) -> None:
    """Removes what a run that begins anew would pass off as its own: the state and the samples."""
    (out / STATE).unlink(missing_ok=True)
    (out / SAMPLES).unlink(missing_ok=True)
    shutil.rmtree(out / SHEETS, ignore_errors=True)


def save_pipeline(out: Path, network, config: TrainingConfig, steps_done: int) -> None:
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
    settings = asdict(config) | {"steps_done": steps_done}
    settings |= {name: placeless(settings[name]) for name in PLACES}  # the folder may be published
    with _into(out) as partial:
        pipeline.save_pretrained(partial)
        (partial / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")


@contextlib.contextmanager
def _into(out: Path) -> Iterator[Path]:
    """A folder whose files are moved into `out` at the end; UserError where they could not be written."""
    partial = out / PARTIAL
    try:
        with writing(out):
            sweep(out)
            partial.mkdir(parents=True)
            yield partial
            files = (path for path in partial.rglob("*") if path.is_file())
            for file in sorted(files, key=lambda file: file.name == "config.json"):  # it makes a model of it
                place = out / file.relative_to(partial)
                place.parent.mkdir(exist_ok=True)
                os.replace(file, place)
    finally:
        sweep(out)


@contextlib.contextmanager
def writing(out: Path, then: str = "resume: the last checkpoint is whole") -> Iterator[None]:
    """UserError where what the block writes into `out` finds no place; it says to make room and `then`."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch says RuntimeError of a full disk
        raise UserError(
            f"{out} could not be written ({str(error).splitlines()[0]}); make room there and {then}"
        ) from error
