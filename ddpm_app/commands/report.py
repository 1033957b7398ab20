"""What every command says while it works and when it is done."""

__all__ = ["add_model_arguments", "fetching", "known", "loaded", "progress", "result", "writable_folder"]

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from ddpm_app.engine import Engine
from ddpm_app.errors import UserError
from ddpm_app.models import BUNDLED, DEFAULT_MODEL, Model


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model, --checkpoints, --device, --precision and --seed, alike in every command."""
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a name, a folder or owner/repo on the Hub")
    parser.add_argument("--checkpoints", default=str(BUNDLED), help="the folder of named models")
    parser.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:0,cuda:1")
    parser.add_argument("--precision", default="exact", choices=["exact", "fast"], help="float32, or faster")
    parser.add_argument(
        "--seed", type=int, default=0, help="image k has seed + k; seeds 2^32 apart are alike"
    )


def progress(done: float, total: float, started: float, what: str = "") -> None:
    """A line on stderr that overwrites itself, on a terminal only; of a total of 1 the share in percent."""
    if sys.stderr.isatty():
        place = f"{done:.0%}" if total == 1 else f"{done:g} of {total:g}"
        left = f", {(time.perf_counter() - started) / done * (total - done):.0f} s left" if done else ""
        end = "\n" if done == total else ""
        print(f"\r\x1b[K{what and what + ': '}{place}{left}", end=end, file=sys.stderr, flush=True)


def fetching(here: int, size: int) -> None:
    """How much of a model's download is here, on the same line."""
    if sys.stderr.isatty() and size:
        end = "\n" if here == size else ""
        line = f"fetching the model: {here / 1e6:,.1f} of {size / 1e6:,.1f} MB"
        print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)


def loaded(engine: Engine, options: argparse.Namespace) -> Model:
    """The model asked for, after as many lines about its download as it takes."""
    for here, size in engine.loading(options.model, options.precision):
        fetching(here, size)
    return engine.model(options.model, options.precision)


def result(options: argparse.Namespace, sentence: str, values: dict[str, Any]) -> None:
    """The closing sentence, or with --json the values in one line, null for a number that is not known."""
    print(json.dumps(known(values), allow_nan=False) if options.json else sentence)


def known(value: Any) -> Any:
    """The same with None in place of every float that JSON has no word for, however deep."""
    if isinstance(value, dict):
        return {key: known(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [known(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def writable_folder(name: str) -> Path:
    """The folder of that name, made where it is missing; UserError when nothing can be written there."""
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink(missing_ok=True)  # another process of the run may have
    except OSError as error:
        raise UserError(
            f"--out {name} cannot be written to ({error.strerror}); give another folder"
        ) from error
    return folder
