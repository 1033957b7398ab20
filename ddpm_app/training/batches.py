"""What a step learns from. Everything follows from (seed, step) and the loss history, nothing else."""

__all__ = ["Batch", "epoch_order", "training_batch"]

import functools
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ddpm_app.core.images import from_uint8
from ddpm_app.core.losses import TimestepSampler
from ddpm_app.training.config import TrainingConfig

STRIDE = 1_000_003  # between the seeds of neighbouring steps and epochs


@dataclass(frozen=True)
class Batch:
    """x_0 and noise (B, C, H, W), t (B,), and the weight of each image's loss (B,)."""

    x_0: Tensor
    t: Tensor
    noise: Tensor
    weight: Tensor

    def __len__(self) -> int:
        """The number of images."""
        return len(self.t)

    def parts(self, count: int) -> list["Batch"]:
        """Up to `count` batches of nearly equal size, in order."""
        chunks = (getattr(self, each.name).tensor_split(min(count, len(self))) for each in fields(self))
        return [Batch(*values) for values in zip(*chunks, strict=True)]

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return Batch(*(getattr(self, each.name).to(device, non_blocking=True) for each in fields(self)))


def training_batch(config: TrainingConfig, pixels: Tensor, timesteps: TimestepSampler, step: int) -> Batch:
    """The whole batch of training step `step`, whichever process takes which share of it."""
    generator = torch.Generator().manual_seed(config.seed + STRIDE * (step + 1))
    places = torch.arange(step * config.batch_size, (step + 1) * config.batch_size)
    epochs = places // len(pixels)
    picks = torch.cat(
        [
            epoch_order(len(pixels), config.seed, int(epoch))[places[epochs == epoch] % len(pixels)]
            for epoch in epochs.unique()
        ]
    )
    x_0 = from_uint8(pixels[picks])
    if config.flip:
        mirrored = torch.rand(config.batch_size, generator=generator) < 0.5
        x_0 = torch.where(mirrored.view(-1, 1, 1, 1), x_0.flip(-1), x_0)
    t, weight = timesteps.draw(config.batch_size, generator)
    return Batch(x_0, t, torch.randn(x_0.shape, generator=generator), weight)


@functools.lru_cache(maxsize=2)
def epoch_order(num_images: int, seed: int, epoch: int) -> Tensor:
    """The order in which epoch `epoch` visits the images: a permutation that depends on nothing else."""
    return torch.randperm(num_images, generator=torch.Generator().manual_seed(seed + STRIDE * epoch))
