"""What a run asks of the machine: processes and devices, a number format, trackers, memory."""

__all__ = [
    "PATIENCE",
    "alone_in",
    "enough_memory",
    "is_first_process",
    "keep_freed_memory",
    "mixed_precision",
    "new_accelerator",
]

import contextlib
import ctypes
import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch

from ddpm_app.engine.batching import is_out_of_memory
from ddpm_app.errors import UserError
from ddpm_app.training.checkpoints import writing
from ddpm_app.training.config import TrainingConfig

PATIENCE = timedelta(days=60)  # of processes that wait for one another
# parameters of mallopt(3)
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
MAX_INT = 2**31 - 1
LOCK = ".training.lock"


def is_first_process() -> bool:
    """Whether this process is the one that reports and writes, of those that `accelerate launch` started."""
    return int(os.environ.get("RANK", 0)) == 0


@contextlib.contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Within the block no other run trains into `out`; UserError where one does already."""
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as held:
        if is_first_process():
            with writing(out):
                out.mkdir(parents=True, exist_ok=True)
                try:
                    held.enter_context(FileLock(out / LOCK, timeout=0))
                except Timeout as error:
                    raise UserError(
                        f"another process trains into {out}; stop it first, or give another --out"
                    ) from error
        yield


def new_accelerator(config: TrainingConfig):
    """accelerate's view of processes and devices; UserError where the batch or a tracker does not fit it."""
    from accelerate import Accelerator, InitProcessGroupKwargs

    try:
        accelerator = Accelerator(
            mixed_precision=mixed_precision(config.precision),
            log_with=config.log_with or None,
            project_dir=config.out,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except ValueError as error:  # a tracker or a number format that is not there
        raise UserError(f"{str(error).splitlines()[0]}; choose another precision or log_with") from error
    shares = accelerator.num_processes * config.gradient_accumulation_steps
    if config.batch_size % shares:
        accelerator.wait_for_everyone()  # or the first to leave breaks the others off while they connect
        raise UserError(
            f"batch_size must be a multiple of {shares}, the processes times gradient_accumulation_steps; "
            f"got {config.batch_size}"
        )
    if config.log_with:
        import_tracker(config.log_with)
        accelerator.init_trackers("ddpm", config={k: str(v) for k, v in asdict(config).items()})
    return accelerator


def mixed_precision(precision: str) -> str:
    """accelerate's name; `auto` is bf16 where the processor computes in it: emulated, it is far slower."""
    if precision != "auto":
        return "no" if precision == "fp32" else precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


def import_tracker(name: str) -> None:
    """UserError unless the package of that tracker is installed."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"log_with {name} needs its package: pip install {name}") from error


@contextlib.contextmanager
def enough_memory(config: TrainingConfig) -> Iterator[None]:
    """UserError for what torch says when memory ends."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"a step does not fit in memory; double gradient_accumulation_steps "
            f"({config.gradient_accumulation_steps}) or lower batch_size ({config.batch_size}), and resume"
        ) from error


def keep_freed_memory() -> None:
    """Makes glibc's malloc reuse what this process frees; does nothing where there is no glibc.

    By default the activations of a step, some megabytes each, go back to the kernel one by one, and are
    fetched and cleared anew at the next step: a fifth of a small network's time on a CPU. From now on the
    process keeps the memory of its largest step until it ends.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in (
        (M_MMAP_MAX, 0),
        (M_TRIM_THRESHOLD, MAX_INT),
        (M_TOP_PAD, 2**26),
        (M_ARENA_MAX, 1),  # or each thread would keep a heap of its own
    ):
        mallopt(parameter, value)
