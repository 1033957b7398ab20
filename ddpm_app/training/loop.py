"""The training loop (algorithm 1 of the DDPM paper): L_simple, Adam, averaged weights.

Everything random in step k follows from (seed, k) alone, so a resumed run goes on exactly where it stopped.
"""

__all__ = ["TrainingConfig", "train"]

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion, PredictionType
from ddpm_app.core.images import from_uint8
from ddpm_app.core.losses import loss_simple
from ddpm_app.core.schedules import SCHEDULES
from ddpm_app.errors import UserError, one_of
from ddpm_app.training.checkpoints import load_state, save_pipeline, save_state
from ddpm_app.training.data import epoch_order, load_images


@dataclass(frozen=True)
class TrainingConfig:
    """What to learn from, with which network, and how long."""

    data: str
    out: str
    image_size: int = 32
    channels: int = 3
    block_out_channels: tuple[int, ...] = (32, 64, 128, 128)
    layers_per_block: int = 1
    attention_resolutions: tuple[int, ...] = (8, 4)
    dropout: float = 0.0
    schedule: str = "linear"
    num_train_timesteps: int = 1000
    prediction_type: str = "epsilon"
    variance_type: str = "fixed_large"
    num_steps: int = 20_000
    batch_size: int = 64
    learning_rate: float = 3e-4
    warmup_steps: int = 200
    final_learning_rate: float = 0.1  # of learning_rate, reached by cosine decay
    ema_decay: float = 0.999
    max_grad_norm: float = 1.0
    flip: bool = False
    seed: int = 0
    save_every: int = 500

    def __post_init__(self) -> None:
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("prediction_type", self.prediction_type, get_args(PredictionType))
        one_of("variance_type", self.variance_type, ["fixed_small", "fixed_large"])
        if self.channels not in (1, 3):
            raise UserError(f"channels must be 1 or 3; got {self.channels}")
        if not self.block_out_channels or any(width < 1 or width % 32 for width in self.block_out_channels):
            raise UserError(f"block_out_channels must be multiples of 32; got {self.block_out_channels}")
        shrink = 2 ** (len(self.block_out_channels) - 1)
        if self.image_size % shrink:
            raise UserError(
                f"image_size must be a multiple of {shrink} for this network; got {self.image_size}"
            )
        for name in ("image_size", "num_steps", "batch_size", "save_every", "num_train_timesteps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("learning_rate", "final_learning_rate", "ema_decay", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must be a number in 0..1; got {getattr(self, name)}")


@dataclass(frozen=True)
class Progress:
    """Where a training run stands; `loss` is averaged over the steps since the last report."""

    step: int
    num_steps: int
    loss: float
    images_per_second: float


def train(config: TrainingConfig, *, resume: bool = True, report_every: int = 50) -> Iterator[Progress]:
    """Trains and saves into `config.out`, yielding Progress; an interrupted run resumes from its last save.

    Raises UserError when the data cannot be read, or the loss is no longer a number.
    """
    from accelerate import Accelerator
    from diffusers.training_utils import EMAModel

    accelerator = Accelerator(mixed_precision=_fast_precision())
    images = load_images(config.data, config.image_size, config.channels, Path(config.out))
    pixels = images.pixels
    if images.left_out:
        accelerator.print(images.left_out)
    betas = SCHEDULES[config.schedule](config.num_train_timesteps)
    diffusion = GaussianDiffusion(betas, config.prediction_type, config.variance_type)  # type: ignore[arg-type]
    with global_randomness(config.seed):
        unet = build_unet(config)
    ema = EMAModel(unet.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    optimizer = torch.optim.Adam(unet.parameters(), lr=config.learning_rate)
    step = load_state(Path(config.out), unet, ema, optimizer, config) if resume else 0
    unet, optimizer = accelerator.prepare(unet, optimizer)
    ema.to(accelerator.device)

    losses, since = [], time.perf_counter()
    while step < config.num_steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        x_0, t, noise = (value.to(accelerator.device) for value in training_batch(config, pixels, step))
        with accelerator.autocast(), global_randomness(config.seed + 1_000_003 * (step + 1) + 1):
            loss = loss_simple(diffusion, lambda x_t, t: unet(x_t, t).sample, x_0, t, noise).mean()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(unet.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(unet.parameters())
        losses.append(loss.detach())
        step += 1
        reporting = step % report_every == 0 or step == config.num_steps
        saving = step % config.save_every == 0 or step == config.num_steps
        if reporting or saving:
            mean = torch.stack(losses).mean().item()
            if not math.isfinite(mean):  # before it is saved, so that the last state on disk is a good one
                raise UserError(
                    f"the loss is no longer a number at step {step}; lower learning_rate and resume"
                )
        if saving:
            network = accelerator.unwrap_model(unet)
            with averaged_weights(ema, network):
                save_pipeline(Path(config.out), network, config, asdict(config) | {"steps_done": step})
            # last, so that a state that says finished never stands beside an older model
            save_state(Path(config.out), network, ema, optimizer, step)
        if reporting:
            rate = len(losses) * config.batch_size / (time.perf_counter() - since)
            yield Progress(step, config.num_steps, mean, rate)
            losses, since = [], time.perf_counter()


def build_unet(config: TrainingConfig):
    """A diffusers UNet2DModel with attention where the picture has shrunk to `attention_resolutions`."""
    from diffusers import UNet2DModel

    depth = len(config.block_out_channels)
    attends = [config.image_size // 2**level in config.attention_resolutions for level in range(depth)]
    return UNet2DModel(
        sample_size=config.image_size,
        in_channels=config.channels,
        out_channels=config.channels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        norm_num_groups=8,
        attention_head_dim=32,
        dropout=config.dropout,
    )


def training_batch(config: TrainingConfig, pixels: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """x_0 (B, C, H, W), t (B,) and noise of training step `step`, which follow from (seed, step) alone."""
    generator = torch.Generator().manual_seed(config.seed + 1_000_003 * (step + 1))
    first = step * config.batch_size
    places = torch.arange(first, first + config.batch_size)
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
    t = torch.randint(config.num_train_timesteps, (config.batch_size,), generator=generator)
    return x_0, t, torch.randn(x_0.shape, generator=generator)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then cosine decay to `final_learning_rate` of the peak at the last step."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    lowest = config.final_learning_rate
    decay = lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * step / config.num_steps))
    return config.learning_rate * warm * decay


@contextlib.contextmanager
def global_randomness(seed: int) -> Iterator[None]:
    """Within the block torch's global generators, which initial weights and dropout use, start at `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def averaged_weights(ema, network) -> Iterator[None]:
    """Within the block `network` has the averaged weights."""
    ema.store(network.parameters())
    ema.copy_to(network.parameters())
    try:
        yield
    finally:
        ema.restore(network.parameters())


def _fast_precision() -> str:
    """bf16 where the processor computes in it, else full precision: emulated, it is many times slower."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"
