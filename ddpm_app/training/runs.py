"""Training runs as processes of their own: a run is its folder, so every visitor and later server sees it.

`start` spawns `python -m ddpm_app train`, which writes training.json, samples/, the model
and the records that `state` reads.
"""

__all__ = ["RunState", "active", "free_folder", "names", "pause", "resume", "start", "state", "stop"]

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import psutil

from ddpm_app.errors import UserError
from ddpm_app.models import BUNDLED, available_models
from ddpm_app.training import TrainingConfig
from ddpm_app.training.checkpoints import PIXELS, SETTINGS, SHEETS, STATE, UPLOADS
from ddpm_app.training.records import LOG, PROGRESS, RUN, Point, complaint, points, read, write
from ddpm_app.training.uploads import keep_uploads

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Status = Literal["idle", "loading", "running", "pausing", "paused", "finished", "failed"]
_starting = threading.Lock()


@dataclass(frozen=True)
class RunState:
    """What a run's folder says of it."""

    out: Path
    status: Status
    num_steps: int  # wanted in all
    steps_saved: int  # of the model in the folder; 0 when there is none
    progress: tuple[Point, ...]
    sheet: Path | None
    asked: bool  # to end before its last step; a run that ends unasked was interrupted
    error: str


def free_folder(checkpoints: Path, name: str) -> Path:
    """The folder for a new run of that name; UserError when it is no name, or is taken."""
    if not NAME.fullmatch(name):
        raise UserError(
            "a model's name is 1 to 64 letters, digits, '.', '-' or '_', "
            f"and begins with a letter or digit; got {name!r}"
        )
    out = checkpoints.resolve() / name
    begun = (out / RUN).exists() and not (out / STATE).exists() and not (out / SETTINGS).exists()
    if name in available_models(BUNDLED) or (out.exists() and not begun):
        raise UserError(f"there is already a model or folder {name}; give another name, or resume its run")
    return out


def start(out: Path, config: TrainingConfig, uploads: Sequence[str | Path] = ()) -> None:
    """Spawns the process that trains into `out`, a free folder; the uploads are kept there as its data.

    Raises UserError while another run in the same checkpoints folder goes on.
    """
    with _starting:
        _refuse_second(out)
        if out.exists():
            shutil.rmtree(out)
        try:
            out.mkdir(parents=True)
            if uploads:
                keep_uploads(uploads, out / UPLOADS)
            _spawn(out, asdict(config), resume=False)
        except BaseException as error:
            shutil.rmtree(out, ignore_errors=True)  # or the name would stay taken
            if not isinstance(error, OSError):
                raise
            raise UserError(
                f"{out.name} could not be started ({error.strerror}); its folder needs room and write access"
            ) from error


def resume(out: Path, **at_most: float) -> None:
    """Spawns the process that goes on from the last save, with the run's own settings.

    One that has failed, of too high a learning rate or for lack of memory, takes `at_most` these.
    """
    with _starting:
        _refuse_second(out)
        record = read(out / RUN)
        if (status := state(out).status) not in ("paused", "failed"):
            raise UserError(f"{out.name} is no run that could go on; start a new one")
        config = moved(record["config"], out)
        if status == "failed":
            config |= {name: min(config[name], value) for name, value in at_most.items()}
        _spawn(out, config, resume=True)


def pause(out: Path) -> None:
    """Asks the process to finish its step, save and exit; a run that has ended is left as it is."""
    _ask(out, "pause")


def stop(out: Path) -> None:
    """Ends the run for good: its model stays, what resuming needs is removed once the process has ended."""
    if process := _ask(out, "stop"):
        threading.Thread(target=_sweep, args=(out, process), daemon=True).start()
    else:
        _sweep(out)


def state(out: Path) -> RunState:
    """The run in `out` as it is on disk now."""
    record = read(out / RUN)
    progress = points(out / PROGRESS)
    config, wanted = record.get("config", {}), record.get("wanted", "")
    num_steps = config.get("num_steps", 0)
    steps_saved = read(out / SETTINGS).get("steps_done", 0)
    error = ""
    status: Status = "paused"
    if not record:
        status = "idle"
    elif _process(out, record):
        begun = (out / PROGRESS).exists() and (out / PROGRESS).stat().st_mtime >= record["started"]
        status = "pausing" if wanted else "running" if begun else "loading"
    elif wanted == "stop" or steps_saved >= num_steps:
        status = "finished"
    elif error := complaint(out / LOG):
        status = "failed"
    sheet = max((out / SHEETS).glob("*.png"), default=None)
    return RunState(out, status, num_steps, steps_saved, progress, sheet, bool(wanted), error)


def names(checkpoints: Path) -> list[str]:
    """The runs in a checkpoints folder, the one started last first."""
    files = sorted(checkpoints.glob(f"*/{RUN}"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [file.parent.name for file in files]


def active(checkpoints: Path) -> str:
    """The name of the run whose process lives; empty when there is none."""
    folders = [checkpoints / name for name in names(checkpoints)]
    return next((out.name for out in folders if _process(out, read(out / RUN))), "")


def _refuse_second(out: Path) -> None:
    if other := active(out.parent):
        raise UserError(f"{other} is at work; pause or stop it, and wait until it has saved")


def _spawn(out: Path, config: dict[str, Any], *, resume: bool) -> None:
    """Detached from this process and of low priority, so that the page stays quick and may go."""
    command = [sys.executable, "-u", "-m", "ddpm_app", "train", *_flags(config)]
    command.append("--resume" if resume else "--no-resume")
    started = time.time()
    with (out / LOG).open("w") as log:
        child = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    psutil.Process(child.pid).nice(10 if os.name == "posix" else psutil.BELOW_NORMAL_PRIORITY_CLASS)
    try:
        write(out, {"pid": child.pid, "started": started, "config": config, "wanted": ""})
    except OSError:
        child.kill()  # which nobody would find again
        child.wait()
        raise
    threading.Thread(target=child.wait, daemon=True).start()  # leaves no zombie


def moved(config: dict[str, Any], out: Path) -> dict[str, Any]:
    """The settings of a run whose folder lies at `out` now, with the uploads in it."""
    uploads = str(Path(config["out"]) / UPLOADS)
    data = {"data": str(out / UPLOADS)} if config["data"] == uploads else {}
    return config | {"out": str(out)} | data


def _flags(config: dict[str, Any]) -> list[str]:
    """The command's words for every field that differs from its default."""
    words: list[str] = []
    for field in fields(TrainingConfig):
        flag, value = "--" + field.name.replace("_", "-"), config.get(field.name, field.default)
        if isinstance(value, list):
            value = tuple(value)
        if field.default is not MISSING and value == field.default:
            continue
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:
            words.append(f"{flag}={value}")
    return words


def _ask(out: Path, wanted: str) -> psutil.Process | None:
    """The process, after it was told to end."""
    record = read(out / RUN)
    process = _process(out, record)
    if process or wanted == "stop":
        write(out, record | {"wanted": wanted})
    if process:
        process.terminate()
    return process


def _sweep(out: Path, process: psutil.Process | None = None) -> None:
    if process:
        process.wait()
    (out / STATE).unlink(missing_ok=True)
    for pictures in (UPLOADS, PIXELS):
        shutil.rmtree(out / pictures, ignore_errors=True)


def _process(out: Path, record: dict[str, Any]) -> psutil.Process | None:
    """The run's process while it lives; another that got its number later does not train into `out`."""
    try:
        process, place = psutil.Process(record["pid"]), record["config"]["out"]
        own = Path(place).resolve() == out.resolve()  # not a copy of the folder
        return process if own and f"--out={place}" in process.cmdline() else None
    except (KeyError, psutil.Error):
        return None
