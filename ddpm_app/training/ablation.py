"""DDPM's table 2 as training runs: what the network predicts, times the objective that teaches it.

All runs of a grid have one network, one seed, one order of pictures and one length; a cell changes nothing but
what the table's rows and columns say. Source: Ho, Jain and Abbeel (2020), section 4.2.
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
from ddpm_app.training.loop import LossIsNoNumber
from ddpm_app.training.reports import LOG

DIVERGED = "diverged.json"
PLACES = ("data", "out", "held_out")  # a run's settings name them without their folders


@dataclass(frozen=True)
class Cell:
    """One row of table 2; `inception_score` and `fid` are the paper's own, None where it says "unstable"."""

    name: str
    prediction: str
    objective: str
    changes: Mapping[str, str]
    inception_score: float | None = None
    fid: float | None = None


def _cell(name: str, prediction: str, objective: str, changes: tuple[str, str, str], *paper: float) -> Cell:
    fields = ("prediction_type", "objective", "variance_type")
    return Cell(name, prediction, objective, dict(zip(fields, changes, strict=True)), *paper)


CELLS: dict[str, Cell] = {
    cell.name: cell
    for cell in (
        _cell("mu-learned", "mu", "L, learned variance", ("posterior_mean", "vlb", "learned"), 7.28, 23.69),
        _cell("mu-fixed", "mu", "L, fixed variance", ("posterior_mean", "vlb", "fixed_large"), 8.06, 13.22),
        _cell("mu-mse", "mu", "unweighted MSE", ("posterior_mean", "simple", "fixed_large")),
        _cell("eps-learned", "eps", "L, learned variance", ("epsilon", "vlb", "learned")),
        _cell("eps-fixed", "eps", "L, fixed variance", ("epsilon", "vlb", "fixed_large"), 7.67, 13.51),
        _cell("eps-simple", "eps", "L_simple", ("epsilon", "simple", "fixed_large"), 9.46, 3.17),
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
    "num_steps": 3000,
    "batch_size": 32,
    "learning_rate": 8e-4,
    "precision": "fp32",  # mu-tilde differs from x_t by less than bf16 can tell
    "save_every": 500,
    "sample_every": 3000,
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
    losses = [json.loads(line)["loss"] for line in (out / LOG).read_text().splitlines()]
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
    return TrainingConfig(**{**settings, **cell.changes, "out": str(out / cell.name)})


def train_cell(config: TrainingConfig, stopping: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
    """Trains what is missing of a cell; nothing where it is trained or has diverged.

    Raises UserError where its folder holds a run with other settings.
    """
    out = Path(config.out)
    before = _read(out / SETTINGS_FILE)
    for name, value in _plain(asdict(config)).items():
        if name not in PLACES and before and before.get(name) != value:
            raise UserError(
                f"{out} holds a run with {name} {before.get(name)}, not {value}; give another --out"
            )
    if before.get("steps_done") == config.num_steps or (out / DIVERGED).exists():
        return
    try:
        yield from train(config, stopping=stopping)
    except LossIsNoNumber as error:
        partial = out / f"{DIVERGED}.partial"
        partial.write_text(json.dumps({"step": error.step}) + "\n")
        os.replace(partial, out / DIVERGED)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same as it is read back from JSON."""
    return json.loads(json.dumps(values))


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}
