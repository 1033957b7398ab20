"""What a training run tells while it works: progress, a sheet of samples, the loss of held-out pictures."""

__all__ = ["Progress", "begin_log", "held_out_loss", "log", "save_samples"]

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import from_uint8, to_uint8
from ddpm_app.core.losses import loss_simple
from ddpm_app.core.samplers import SAMPLERS, Denoiser, reverse
from ddpm_app.pictures import save_png, sheet
from ddpm_app.training.checkpoints import SAMPLES, SHEETS, writing
from ddpm_app.training.records import PROGRESS

SAMPLE_STEPS = 50
NUM_SAMPLES = 16
BATCH = 64


@dataclass(frozen=True)
class Progress:
    """Where a run stands; `loss` is the objective's, averaged over the steps since the last report.

    `held_out_loss` is L_simple, every t alike, of the averaged weights, whatever the objective.
    """

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    images_per_second: float
    seconds_left: float
    held_out_loss: float | None = None


def begin_log(out: Path, step: int) -> None:
    """Leaves of an earlier log what lies no later than `step`, where the run goes on."""
    file, partial = out / PROGRESS, out / (PROGRESS + ".partial")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step]
        partial.write_text("".join(kept))
        os.replace(partial, file)


def log(out: Path, progress: Progress) -> None:
    """Adds a line to the run's log."""
    with writing(out), (out / PROGRESS).open("a") as file:
        file.write(json.dumps(asdict(progress)) + "\n")


@torch.no_grad()
def save_samples(
    out: Path,
    diffusion: GaussianDiffusion,
    denoiser: Denoiser,
    shape: Sequence[int],
    step: int,
    at_once: int = NUM_SAMPLES,
) -> None:
    """A sheet of images of that shape, always of the same seeds: `samples/step-*.png` and `samples.png`."""
    fixed = diffusion.with_variance("fixed_large")  # ddim takes none; a learned one may be of single steps
    chain = fixed.respaced(min(SAMPLE_STEPS, len(diffusion)), "trailing")
    images = []
    for first in range(0, NUM_SAMPLES, at_once):
        seeds = range(first, min(first + at_once, NUM_SAMPLES))
        *_, last = reverse(chain, denoiser, SAMPLERS["ddim"], seeds=seeds, shape=shape)
        images.append(to_uint8(last.x_t))
    picture = sheet(torch.cat(images))
    recipe = {"sampler": "ddim", "num_inference_steps": len(chain), "seed": 0, "training_steps": step}
    with writing(out):
        (out / SHEETS).mkdir(exist_ok=True)
        save_png(picture, out / SHEETS / f"step-{step:07d}.png", recipe)
        save_png(picture, out / SAMPLES, recipe)


@torch.no_grad()
def held_out_loss(
    diffusion: GaussianDiffusion, denoiser: Denoiser, pixels: Tensor, at_once: int = BATCH
) -> float:
    """L_simple of the pictures, each at a timestep and with noise of its own, the same at every call."""
    at_once = min(at_once, BATCH)
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(0, len(diffusion) - 1, len(pixels)).long()
    total = 0.0
    for part, places in zip(pixels.split(at_once), t.split(at_once), strict=True):
        x_0 = from_uint8(part)
        noise = torch.randn(x_0.shape, generator=generator)
        total += loss_simple(diffusion, denoiser, x_0, places, noise).sum().item()
    return total / len(pixels)
