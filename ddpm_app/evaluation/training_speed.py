"""Our training step against that of diffusers' unconditional example, each in a process of its own, in turn.

Both train the same network on the same PNG files of random pictures, at the same batch size and precision, on
one device. The other side is the loop of `examples/unconditional_image_generation/train_unconditional.py` in
diffusers with `--use_ema`, since ours averages too: each picture opened and transformed at each visit, AdamW,
a cosine schedule, the loss read back at each step. Left out, in its favour: Arrow table, progress bar, log.
"""

__all__ = ["TrainingSpeed", "compare_training"]

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import mse_loss

from ddpm_app.pictures import to_picture
from ddpm_app.training import TrainingConfig, train
from ddpm_app.training.machine import mixed_precision
from ddpm_app.training.network import build_unet

BATCHES = 8  # in the data set
NEVER = 10**9  # steps
Side = Callable[[TrainingConfig, int], Iterator[object]]  # pauses after each block of so many steps


@dataclass(frozen=True)
class TrainingSpeed:
    """Images per second from the median block of each side; `ratio` is ours over the example's."""

    batch_size: int
    num_steps: int  # timed, of each side
    num_parameters: int
    precision: str
    images_per_second: float
    diffusers_images_per_second: float
    ratio: float


def compare_training(config: TrainingConfig, rounds: int = 3, block: int = 5) -> TrainingSpeed:
    """Both sides warmed up for one block, then `rounds` blocks of steps of each, in turn.

    `config` gives the network and the batch; its data, its folder and its number of steps are not used.
    """
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "data"), Path(folder, "out")
        _save_random_pictures(data, config)
        config = replace(
            config, data=str(data), out=str(out), num_steps=NEVER, save_every=NEVER, sample_every=NEVER
        )
        with _process(_our_blocks, config, block) as ours, _process(_example, config, block) as theirs:
            ours(), theirs()
            times = [(ours(), theirs()) for _ in range(rounds)]
    mine, other = (block * config.batch_size / statistics.median(side) for side in zip(*times, strict=True))
    with torch.device("meta"):  # to count draws no weights
        num_parameters = sum(parameter.numel() for parameter in build_unet(config).parameters())
    precision = mixed_precision(config.precision)
    return TrainingSpeed(
        config.batch_size, rounds * block, num_parameters, precision, mine, other, ratio=mine / other
    )


@contextlib.contextmanager
def _process(side: Side, config: TrainingConfig, block: int) -> Iterator[Callable[[], float]]:
    """A function that has a process of its own do the next block, and returns its seconds."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, side, config, block), daemon=True)
    process.start()
    there.close()  # so that the death of the process ends the wait for its answer

    def next_block() -> float:
        here.send(True)
        return here.recv()

    try:
        yield next_block
    finally:
        here.close()
        process.join()


def _serve(connection: Connection, side: Side, config: TrainingConfig, block: int) -> None:
    blocks = side(config, block)
    with contextlib.suppress(EOFError):  # once the other end is closed
        while connection.recv():
            started = time.perf_counter()
            next(blocks)  # ends with a loss read back, so the device has finished too
            connection.send(time.perf_counter() - started)


def _our_blocks(config: TrainingConfig, block: int) -> Iterator[object]:
    """Our loop, which pauses after each `block` steps."""
    yield from train(config, resume=False, report_every=block)


def _example(config: TrainingConfig, block: int) -> Iterator[object]:
    """The example's loop, which pauses after each `block` steps."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    network: Any = build_unet(config)
    accelerator = Accelerator(mixed_precision=mixed_precision(config.precision))
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(accelerator.mixed_precision, torch.float32)
    ema = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    scheduler: Any = DDPMScheduler(config.num_train_timesteps)
    optimizer = torch.optim.AdamW(
        network.parameters(), 1e-4, betas=(0.95, 0.999), eps=1e-8, weight_decay=1e-6
    )
    loader = torch.utils.data.DataLoader(_Pictures(config), config.batch_size, shuffle=True)
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=NEVER)
    network, optimizer, loader, rate = accelerator.prepare(network, optimizer, loader, rate)
    ema.to(accelerator.device)
    step = 0
    while True:
        for pictures in loader:
            x_0 = pictures.to(dtype)
            noise = torch.randn(x_0.shape, dtype=dtype, device=x_0.device)
            t = torch.randint(config.num_train_timesteps, (len(x_0),), device=x_0.device)
            x_t = scheduler.add_noise(x_0, noise, t)
            with accelerator.accumulate(network):
                loss = mse_loss(network(x_t, t).sample.float(), noise.float())
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                rate.step()
                optimizer.zero_grad()
            ema.step(network.parameters())
            loss.detach().item()
            step += 1
            if step % block == 0:
                yield None


class _Pictures(torch.utils.data.Dataset):
    """Float32 (C, H, W) in [-1, 1], read from disk at each visit; of the right size, so nothing is cut."""

    def __init__(self, config: TrainingConfig) -> None:
        self.files = sorted(Path(config.data).iterdir())
        self.mode = "L" if config.channels == 1 else "RGB"
        self.flip = config.flip

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Tensor:
        with Image.open(self.files[place]) as file:
            picture = file.convert(self.mode)
        if self.flip and torch.rand(1) < 0.5:
            picture = ImageOps.mirror(picture)
        levels = torch.from_numpy(np.atleast_3d(np.array(picture)))
        return levels.permute(2, 0, 1).contiguous().float().div(255).sub(0.5).div(0.5)


def _save_random_pictures(folder: Path, config: TrainingConfig) -> None:
    folder.mkdir()
    generator = torch.Generator().manual_seed(config.seed)
    shape = config.channels, config.image_size, config.image_size
    for place in range(BATCHES * config.batch_size):  # whole batches: the example does not drop the last one
        picture = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        to_picture(picture).save(folder / f"{place:05d}.png")
