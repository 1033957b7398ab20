"""Thousands of samples in a folder, in chunks that are whole at any moment.

Image k has seed + k, whoever draws it, and a chunk always holds the same k: an evaluation that was killed, or
is spread over processes, ends with the samples of one that was not. The folder belongs to one request.
"""

__all__ = ["ALONE", "CHUNK", "Drawing", "Processes", "begin", "collect", "draw", "launched", "missing"]

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm_app.engine import CancelToken, Engine, SampleRequest
from ddpm_app.engine.checks import later_seed
from ddpm_app.errors import UserError
from ddpm_app.evaluation.checkpoint import weights_hash
from ddpm_app.training.machine import PATIENCE

CHUNK = 64
REQUEST = "request.json"


@dataclass(frozen=True)
class Processes:
    """This process among those that draw together; `wait` returns when all have come to it."""

    rank: int
    count: int
    wait: Callable[[], None]


ALONE = Processes(0, 1, lambda: None)


def launched(device: str) -> tuple[Processes, str]:
    """This process among those that `accelerate launch` started, and its device."""
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return ALONE, device
    from accelerate import PartialState

    cpu = device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    own = str(state.device) if device == "auto" and not cpu else device
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone), own


@dataclass(frozen=True)
class Drawing:
    """How many of `num_images`, this process's share, are drawn, and the chunk at work, uint8."""

    done: int
    num_images: int
    images: Tensor


def begin(folder: Path, request: SampleRequest, checkpoints: Path) -> None:
    """Makes `folder` for samples of that request; UserError when it holds those of another one."""
    wanted = request.recipe() | {"num_images": CHUNK, "weights": weights_hash(request.model, checkpoints)}
    file = folder / REQUEST
    if file.exists():
        try:
            held = json.loads(file.read_text())
        except ValueError:
            held = {}
        different = [name for name in wanted if held.get(name) != wanted[name]]
        if different:
            raise UserError(
                f"--out holds samples drawn with another {' and '.join(different)}; "
                "give another folder, or the same settings"
            )
        return
    partial = folder / f"{REQUEST}.partial"
    with _told():
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(wanted, indent=2) + "\n")
        os.replace(partial, file)


def missing(folder: Path, num_images: int) -> list[tuple[int, int]]:
    """(first k, how many) of each chunk of the images that is not in the folder, or not long enough."""
    chunks = [(first, min(CHUNK, num_images - first)) for first in range(0, num_images, CHUNK)]
    return [(first, count) for first, count in chunks if _length(_file(folder, first)) < count]


def draw(
    engine: Engine,
    request: SampleRequest,
    folder: Path,
    chunks: Sequence[tuple[int, int]],
    cancel: CancelToken | None = None,
) -> Iterator[Drawing]:
    """Draws the chunks, one Drawing for each reverse step."""
    engine.model(request.model, request.precision).settle()  # so that one backend draws them all
    done, total = 0, sum(count for _, count in chunks)
    for first, count in chunks:
        own = replace(request, seed=later_seed(request.seed, first), num_images=count)
        for frame in engine.run(own, cancel):
            part = count * frame.step // frame.num_steps
            if frame.step == frame.num_steps:
                _save(_file(folder, first), frame.images)
            yield Drawing(done + part, total, frame.images)
        done += count


def collect(folder: Path, num_images: int) -> Tensor:
    """The images, uint8 (N, C, H, W), once none is missing."""
    files = [_file(folder, first) for first in range(0, num_images, CHUNK)]
    return torch.cat([torch.from_numpy(np.load(file)) for file in files])[:num_images]


def _file(folder: Path, first: int) -> Path:
    return folder / f"{first:08d}.npy"


def _length(file: Path) -> int:
    """How many images the file holds; 0 when it is none."""
    try:
        return len(np.load(file, mmap_mode="r"))
    except (EOFError, OSError, ValueError):
        return 0


def _save(file: Path, images: Tensor) -> None:
    partial = file.with_suffix(".partial")
    with _told():
        with partial.open("wb") as opened:
            np.save(opened, images.numpy())
        os.replace(partial, file)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the samples could not be written ({error.strerror}); make room and give the same command again"
        ) from error
