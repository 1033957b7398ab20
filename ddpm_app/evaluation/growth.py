"""How time and memory grow with the work: images, steps and image size, each row in a process of its own.

Beside the engine's time stands that of the bare network on the same images, called as often: their ratio must
not grow. The networks have random weights, which cost what trained ones do.
"""

__all__ = ["GROWTH", "GrowthReport", "Work", "measure_growth"]

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import torch

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.training import TrainingConfig
from ddpm_app.training.checkpoints import save_pipeline
from ddpm_app.training.network import build_unet
from ddpm_app.training.presets import PRESETS

MEGABYTE = 2**20
SMALL = {"block_out_channels": (32, 64, 128), "attention_resolutions": (8, 7)}
CHURCH = next(settings for name, settings in PRESETS.items() if "256" in name)


@dataclass(frozen=True)
class Work:
    """A run of `num_steps` reverse steps; `large` takes the 113M parameters of google/ddpm-church-256."""

    num_images: int = 4
    num_steps: int = 4
    image_size: int = 32
    large: bool = False


GROWTH = (
    *(Work(num_images=num_images) for num_images in (1, 4, 16, 64, 256)),
    *(Work(num_images=1, num_steps=num_steps) for num_steps in (10, 100, 1000)),
    *(Work(num_images=1, image_size=size) for size in (28, 64, 128, 256)),
    Work(num_images=1, num_steps=2, image_size=256, large=True),
)


@dataclass(frozen=True)
class GrowthReport:
    """Seconds of the run and of the bare network's calls, and how much memory each added at most, in MB."""

    work: Work
    num_parameters: int
    seconds: float
    network_seconds: float
    memory: float
    network_memory: float

    @property
    def ratio(self) -> float:
        """The engine's time over the bare network's."""
        return self.seconds / self.network_seconds


def measure_growth(rows: Sequence[Work], device: str = "auto") -> Iterator[GrowthReport]:
    """A report for each row, as it is measured."""
    for work in rows:
        sides = []
        for bare in (True, False):  # each in a fresh process, whose peak memory is its own
            with get_context("spawn").Pool(1) as pool:
                sides.append(pool.apply(measured, (work, device, bare)))
        (network_seconds, network_memory, num_parameters), (seconds, memory, _) = sides
        yield GrowthReport(work, num_parameters, seconds, network_seconds, memory, network_memory)


def measured(work: Work, device: str, bare: bool) -> tuple[float, float, int]:
    """Seconds and megabytes of the run, or of the bare network's calls, and the number of parameters."""
    with tempfile.TemporaryDirectory() as folder:
        config = network_of(work)
        save_pipeline(Path(folder, "model"), build_unet(config), config, 0)
        engine = Engine(device, Path(folder))
        model = engine.model("model")
        model.settle()  # or a faster runtime, compiled meanwhile, would be in the figures
    request = SampleRequest(
        model="model", sampler="ddpm", num_inference_steps=work.num_steps, num_images=work.num_images
    )
    x_t, t = torch.randn(work.num_images, *model.image_shape, device=model.device), torch.tensor([500])

    def network() -> None:
        with torch.inference_mode():
            for _ in range(work.num_steps):
                model.denoiser(x_t, t.to(model.device).expand(len(x_t)))

    def run() -> None:
        for _ in engine.run(request):
            pass

    engine_warm = replace(request, num_inference_steps=1, num_images=1)
    for _ in engine.run(engine_warm):
        pass
    with peak_memory(model.device) as memory:
        started = time.perf_counter()
        network() if bare else run()
        if model.device.type != "cpu":
            torch.accelerator.synchronize(model.device)
        seconds = time.perf_counter() - started
    return seconds, memory[0], model.num_parameters


def network_of(work: Work) -> TrainingConfig:
    """The settings of the network that does this work."""
    return TrainingConfig("", "", **(CHURCH if work.large else SMALL) | {"image_size": work.image_size})


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float]]:
    """A list whose one number is, after the block, the most MB that it held beyond those held before it."""
    peak = [0.0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak[0] = (torch.cuda.max_memory_allocated(device) - before) / MEGABYTE
        return
    process, over = psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not over.wait(0.005):
            peak[0] = max(peak[0], (process.memory_info().rss - before) / MEGABYTE)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
