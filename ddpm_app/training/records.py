"""What a training run leaves in its folder for others to read.

run.json holds what was asked of it, run.log what it says, progress.jsonl a line for each report.
"""

__all__ = ["LOG", "PROGRESS", "RUN", "Point", "complaint", "points", "read", "write"]

import json
import os
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

RUN, LOG, PROGRESS = "run.json", "run.log", "progress.jsonl"
LOG_TAIL = 20_000  # characters in which the reason of a failure is looked for


@dataclass(frozen=True)
class Point:
    """One report of a run; the loss is averaged over the steps since the one before."""

    step: int
    loss: float
    images_per_second: float = 0.0
    seconds_left: float = 0.0
    held_out_loss: float | None = None


def complaint(log: Path) -> str:
    """Why the process ended, when its log says so: the sentence for the user, or a bug's last line."""
    text = log.read_text(errors="replace")[-LOG_TAIL:] if log.exists() else ""
    lines = text.strip().splitlines()
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if told:
        return told[-1]
    if "Traceback (most recent call last)" in text:
        return (
            f"the training program broke off with {lines[-1]}; {log.parent.name}/{log.name} has the details"
        )
    return ""


def points(file: Path) -> tuple[Point, ...]:
    """Every report so far; the file is parsed anew only after it has grown."""
    try:
        stat = file.stat()
    except OSError:
        return ()
    return _parsed(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _parsed(file: Path, changed: int, size: int) -> tuple[Point, ...]:
    known = [field.name for field in fields(Point)]
    points = []
    for line in file.read_text().splitlines():
        try:
            values = json.loads(line)
        except ValueError:  # the line that is being written
            break
        points.append(Point(**{key: values[key] for key in known if key in values}))
    return tuple(points)


def read(file: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing where there is none."""
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return {}


def write(out: Path, record: dict[str, Any]) -> None:
    """run.json of the run in `out`, whole at every moment."""
    partial = out / f"{RUN}.partial"
    partial.write_text(json.dumps(record, indent=2) + "\n")
    os.replace(partial, out / RUN)
