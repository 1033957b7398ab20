"""DDPM's table 2 as training runs: what the network predicts, times the objective that teaches it.

All runs of a grid have one network, one seed, one order of pictures and one length; a cell changes nothing
but what the table's rows and columns say. Source: Ho, Jain and Abbeel (2020), section 4.2.
"""

__all__ = ["CELLS", "SETTINGS", "Cell", "CellRun", "cell_config", "cell_run", "train_cell"]

import json
import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ddpm_app.errors import UserError
from ddpm_app.training import Progress, TrainingConfig, train
from ddpm_app.training.checkpoints import SETTINGS as SETTINGS_FILE
from ddpm_app.training.checkpoints import writing
from ddpm_app.training.records import PROGRESS
from ddpm_app.training.sources import placeless
from ddpm_app.training.trainer import LossIsNoNumber

DIVERGED = "diverged.json"


@dataclass(frozen=True)
class Cell:
    """One row of table 2; `inception_score` and `fid` are the paper's own, None where it says "unstable"."""

    name: str
    prediction_type: str
    objective: str
    variance_type: str
    words: str
    inception_score: float | None = None
    fid: float | None = None


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell("mu-learned", "posterior_mean", "vlb", "learned", "mu, L, learned variance", 7.28, 23.69),
        Cell("mu-fixed", "posterior_mean", "vlb", "fixed_large", "mu, L, fixed variance", 8.06, 13.22),
        Cell("mu-mse", "posterior_mean", "simple", "fixed_large", "mu, unweighted MSE"),
        Cell("eps-learned", "epsilon", "vlb", "learned", "eps, L, learned variance"),
        Cell("eps-fixed", "epsilon", "vlb", "fixed_large", "eps, L, fixed variance", 7.67, 13.51),
        Cell("eps-simple", "epsilon", "simple", "fixed_large", "eps, L_simple", 9.46, 3.17),
    )
}

# a grid for one core and an hour: a short chain, for which the linear schedule of the paper ends too early
SETTINGS: dict[str, Any] = {
    "image_size": 8,
    "channels": 1,
    "block_out_channels": (32, 32),
    "attention_resolutions": (),
    "schedule": "cosine",
    "num_train_timesteps": 200,
    "num_steps": 2000,
    "batch_size": 32,
    "learning_rate": 8e-4,
    "precision": "fp32",  # mu-tilde differs from x_t by less than bf16 can tell
    "save_every": 500,
    "sample_every": 2000,
}


@dataclass(frozen=True)
class CellRun:
    """What training a cell came to; the loss is the objective's, `peak` its highest over its median.

    `peak` is that of the second half of the reports: about 1 where training is steady. `diverged_at` is the
    step at which the loss was no number, None where it never was.
    """

    folder: Path
    steps: int
    loss: float
    peak: float
    diverged_at: int | None


def cell_run(config: TrainingConfig) -> CellRun:
    """What the cell's folder says of its training, which has ended."""
    out = Path(config.out)
    losses = [json.loads(line)["loss"] for line in (out / PROGRESS).read_text().splitlines()]
    later = losses[len(losses) // 2 :] or [math.nan]
    return CellRun(
        folder=out,
        steps=_read(out / SETTINGS_FILE)["steps_done"],
        loss=losses[-1] if losses else math.nan,
        peak=max(later) / statistics.median(later),
        diverged_at=_read(out / DIVERGED).get("step"),
    )


def cell_config(cell: Cell, out: Path, settings: Mapping[str, Any]) -> TrainingConfig:
    """The cell's training run, in a folder of its own within `out`."""
    own = {name: getattr(cell, name) for name in ("prediction_type", "objective", "variance_type")}
    return TrainingConfig(**{**settings, **own, "out": str(out / cell.name)})


def train_cell(config: TrainingConfig, stopping: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
    """Trains what is missing of a cell; nothing where it is trained or has diverged.

    Raises UserError where its folder holds a run with other settings.
    """
    out = Path(config.out)
    before = _read(out / SETTINGS_FILE)
    for name, value in _recorded(config).items():
        if before and before.get(name) != value:
            raise UserError(
                f"{out} holds a run with {name} {before.get(name)}, not {value}; give another --out"
            )
    if before.get("steps_done") == config.num_steps or (out / DIVERGED).exists():
        return
    try:
        yield from train(config, stopping=stopping)
    except LossIsNoNumber as error:
        partial = out / f"{DIVERGED}.partial"
        with writing(out):
            partial.write_text(json.dumps({"step": error.step}) + "\n")
            os.replace(partial, out / DIVERGED)


def _recorded(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as a run's folder tells it, without the folder."""
    values = json.loads(json.dumps(asdict(config)))
    del values["out"]
    return values | {"data": placeless(config.data)}


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}
