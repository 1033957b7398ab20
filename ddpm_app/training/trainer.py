"""One process's side of a training run: pictures, network and averaged weights; a step, a save, a look.

Everything random in step k follows from (seed, k), so a resumed run goes on exactly where it stopped. Several
processes, as `accelerate launch` starts them, each take their share of the same batch.
"""

__all__ = ["LossIsNoNumber", "Trainer"]

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.losses import LOSSES, TimestepSampler
from ddpm_app.core.schedules import SCHEDULES
from ddpm_app.errors import UserError
from ddpm_app.training.batches import STRIDE, Batch, training_batch
from ddpm_app.training.card import CardFacts, write_card
from ddpm_app.training.checkpoints import (
    PIXELS,
    STATE,
    TrainingState,
    load_state,
    save_pipeline,
    save_state,
    writing,
)
from ddpm_app.training.config import PLACES, TrainingConfig
from ddpm_app.training.data import fingerprint, load_images
from ddpm_app.training.gradients import Gradients
from ddpm_app.training.guidance import Guidance
from ddpm_app.training.machine import enough_memory, keep_freed_memory, new_accelerator
from ddpm_app.training.network import build_unet
from ddpm_app.training.reports import held_out_loss, save_samples
from ddpm_app.training.sources import hub_dataset, placeless

MAX_HELD_OUT = 512


class LossIsNoNumber(UserError):
    """Training has diverged at `step`, counted from 1; the last save is of step `saved`, 0 where none is."""

    def __init__(self, step: int, saved: int) -> None:
        mend = f"resume, from step {saved}, with" if saved else "begin again, with --no-resume and"
        super().__init__(f"the loss is no longer a number at step {step}; {mend} a lower learning_rate")
        self.step = step


class Trainer:
    """One process's side of a training run."""

    def __init__(self, config: TrainingConfig, resume: bool) -> None:
        self.config = config
        # as they are told in what may be published: asked now, while the places are certainly there
        places: dict[str, Any] = {place: placeless(getattr(config, place)) for place in PLACES}
        self.named = replace(config, **places)
        self.hub_dataset = hub_dataset(config.data)
        self.accelerator = accelerator = new_accelerator(config)
        self.main = accelerator.is_main_process
        if accelerator.device.type == "cpu":
            keep_freed_memory()
        pixels = Path(config.out, PIXELS)
        self.pixels = self._pictures(config.data, pixels / "data")
        self.held_out = None
        if config.held_out:
            held_out = pixels / "held_out"
            self.held_out = self._pictures(config.held_out, held_out, MAX_HELD_OUT, "--held-out")
        self.diffusion = GaussianDiffusion(
            SCHEDULES[config.schedule](config.num_train_timesteps),
            config.prediction_type,  # type: ignore[arg-type]  # checked by the config
            config.variance_type,  # type: ignore[arg-type]
        )
        self.state = self._state(resume)
        self.saved = self.state.step  # the step of the state on disk
        self._agree()
        with enough_memory(config):
            self.network, self.optimizer = accelerator.prepare(self.state.network, self.state.optimizer)
            self.state.ema.to(accelerator.device)
            self.guidance = Guidance(config, self.diffusion, accelerator.device) if config.guide else None
        self.gradients = Gradients(accelerator, self.network, self.losses, config.gradient_accumulation_steps)

    def advance(self) -> float:
        """One step of the optimizer; returns its loss. On a loss that is no number nothing is changed."""
        config, state = self.config, self.state
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, state.step)
        whole = training_batch(config, self.pixels, state.timesteps, state.step)
        share = whole.parts(self.accelerator.num_processes)[self.accelerator.process_index]
        seed = config.seed + STRIDE * (state.step + 1) + 1 + self.accelerator.process_index
        draws = global_randomness(seed) if config.dropout else contextlib.nullcontext()
        with enough_memory(config), draws:
            own = self.gradients.add(share.to(self.accelerator.device))
        losses = self.accelerator.gather(own).float().cpu()
        loss = (losses * whole.weight).mean().item()
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), config.max_grad_norm or math.inf)
        scaled = self.accelerator.scaler is not None  # which leaves out a step whose gradient is no number
        if not math.isfinite(loss) or not (scaled or math.isfinite(norm)):
            saved = self.saved
            if not saved:  # else an earlier state is worth more than this one, which leads here again
                self.save(loss)
            raise LossIsNoNumber(state.step + 1, saved)
        with enough_memory(config):  # the first step makes the optimizer's own tensors
            self.optimizer.step()
        self.optimizer.zero_grad()
        state.ema.step(state.network.parameters())
        state.timesteps.record(whole.t, losses)
        state.step += 1
        return loss

    def losses(self, batch: Batch) -> Tensor:
        """The unweighted objective of each image, (B,)."""
        config = self.config
        weighing = {"min_snr_gamma": config.min_snr_gamma} if config.min_snr_gamma else {}
        with self.accelerator.autocast():
            batch = self.guidance(batch) if self.guidance else batch
            return LOSSES[config.objective](
                self.diffusion, self._denoiser, batch.x_0, batch.t, batch.noise, **weighing
            )

    def save(self, loss: float) -> None:
        """Writes model and card, then the state: a finished one never stands beside an older model."""
        if self.main:
            config, out, state = self.config, Path(self.config.out), self.state
            with state.averaged():
                save_pipeline(out, state.network, self.named, state.step)
            save_state(out, state, self.named)
            facts = CardFacts(
                steps_done=state.step,
                seconds=state.seconds,
                loss=loss,
                num_images=len(self.pixels),
                num_parameters=sum(parameter.numel() for parameter in state.network.parameters()),
                held_out_loss=state.held_out_loss,
                num_held_out=0 if self.held_out is None else len(self.held_out),
                hub_dataset=self.hub_dataset,
            )
            with writing(out):
                write_card(out, config, facts)
        self.saved = self.state.step
        self.accelerator.wait_for_everyone()

    def look(self) -> None:
        """Draws a sheet of samples with the averaged weights, and measures the loss of held-out pictures."""
        if not self.main:
            return
        config, device = self.config, self.accelerator.device
        shape = (config.channels, config.image_size, config.image_size)
        parts = self.accelerator.num_processes * config.gradient_accumulation_steps
        at_once = config.batch_size // parts  # as in a step, which is known to fit

        def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
            return self.state.network(x_t.to(device), t.to(device)).sample.float().cpu()

        with self.state.averaged(), enough_memory(config):
            save_samples(Path(config.out), self.diffusion, denoiser, shape, self.state.step, at_once)
            if self.held_out is not None:
                self.state.held_out_loss = held_out_loss(self.diffusion, denoiser, self.held_out, at_once)

    def anywhere(self, flag: bool) -> bool:
        """Whether any of the processes says so."""
        if self.accelerator.num_processes == 1:
            return flag
        flags = self.accelerator.gather(torch.tensor([flag], device=self.accelerator.device))
        return bool(flags.any())

    def _state(self, resume: bool) -> TrainingState:
        """Where the run goes on: as it was saved, else at its beginning."""
        from diffusers.training_utils import EMAModel

        config, out = self.config, Path(self.config.out)
        begun = resume and (out / STATE).exists()
        with global_randomness(config.seed):
            # what the run itself has written is there even where the model it began with no longer is
            own = str(out.resolve()) if begun and config.init_from else config.init_from
            unet = build_unet(replace(config, init_from=own))
        state = TrainingState(
            unet,
            EMAModel(
                unet.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75, foreach=True
            ),
            torch.optim.Adam(unet.parameters(), lr=config.learning_rate, fused=True),
            TimestepSampler(config.num_train_timesteps, config.timestep_sampling == "importance"),
            self.accelerator.scaler,
        )
        if resume:
            load_state(out, state, self.named)
        pictures = fingerprint(self.pixels)
        if state.pictures not in ("", pictures):
            self.accelerator.print(
                f"the pictures are no longer those of the first {state.step} steps; "
                "the run goes on with what is there now"
            )
        state.pictures = pictures
        if self.held_out is None:  # whatever an earlier part of the run had
            state.held_out_loss = None
        return state

    def _denoiser(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.network(x_t, t).sample

    def _agree(self) -> None:
        """UserError unless all processes go on from the same step."""
        accelerator = self.accelerator
        steps = accelerator.gather(torch.tensor([self.state.step], device=accelerator.device)).tolist()
        if len(set(steps)) > 1:
            raise UserError(
                f"the processes found --out at the steps {', '.join(map(str, steps))}; "
                "give all of them the same --out, on a disk that they share"
            )

    def _pictures(self, source: str, cache: Path, limit: int | None = None, flag: str = "--data") -> Tensor:
        size, channels = self.config.image_size, self.config.channels
        with self.accelerator.main_process_first():
            images = load_images(source, size, channels, cache, limit, flag=flag)
        if images.left_out:
            self.accelerator.print(images.left_out)
        return images.pixels


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then cosine decay to `final_learning_rate` of the peak at the last step."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    lowest = config.final_learning_rate
    decay = lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * step / config.num_steps))
    return config.learning_rate * warm * decay


@contextlib.contextmanager
def global_randomness(seed: int) -> Iterator[None]:
    """Within the block torch's global generators, which initial weights and dropout use, start at `seed`."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        yield
