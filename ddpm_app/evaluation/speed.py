"""The engine against diffusers' own pipelines: same checkpoint, same noise, in turn within one process."""

__all__ = ["SpeedReport", "compare_with_diffusers"]

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.samplers import generators
from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.errors import UserError
from ddpm_app.evaluation.peak import flops_per_image, peak_flops
from ddpm_app.models.catalogue import locate
from ddpm_app.models.exact import EXACT_MODELS
from ddpm_app.models.model import arithmetic


@dataclass(frozen=True)
class SpeedReport:
    """Medians over the rounds in seconds; `ratio` is diffusers' time over ours, round by round."""

    num_images: int
    num_inference_steps: int
    seconds: float
    diffusers_seconds: float
    ratio: float
    largest_difference: int  # uint8 levels between the two results
    peak_share: float  # floating point operations a second of our run, over those of a matrix product alike


def compare_with_diffusers(engine: Engine, request: SampleRequest, rounds: int = 3) -> SpeedReport:
    """Both sides warmed up, then timed in turn.

    Both visit the leading timesteps: with trailing ones diffusers adds noise after its last step. UserError
    for a number of steps that does not divide T, where the two visit different timesteps, and for a model
    without weights.
    """
    if request.sampler not in ("ddpm", "ddim"):
        raise UserError("diffusers' pipelines sample with ddpm or ddim; choose one of them")
    model = engine.model(request.model, request.precision)
    if request.model in EXACT_MODELS:
        raise UserError(f"{request.model} has no weights that diffusers could load; choose another model")
    if reason := unlike_diffusers(model.diffusion, request.sampler):
        raise UserError(f"diffusers' pipelines cannot sample {request.model}: {reason}")
    if len(model.diffusion) % request.num_inference_steps:
        raise UserError(
            f"num_inference_steps must divide {len(model.diffusion)}, the length of this model's chain, "
            f"since diffusers visits other timesteps otherwise; got {request.num_inference_steps}"
        )
    model.settle()
    request = replace(request, timestep_spacing="leading")
    pipeline, settings = diffusers_pipeline(engine, request)

    def theirs() -> np.ndarray:
        pictures = pipeline(
            batch_size=request.num_images,
            generator=generators(request.seeds),
            num_inference_steps=request.num_inference_steps,
            output_type="np",
            **settings,
        ).images
        return (pictures * 255).round().astype(np.int16)

    def ours() -> np.ndarray:
        *_, last = engine.run(request)
        return last.images.permute(0, 2, 3, 1).numpy().astype(np.int16)

    difference = int(np.abs(ours() - theirs()).max())
    times = [(_seconds(ours, model.device), _seconds(theirs, model.device)) for _ in range(rounds)]
    flops = (
        request.num_inference_steps * request.num_images * flops_per_image(pipeline.unet, model.image_shape)
    )
    seconds = statistics.median(mine for mine, _ in times)
    return SpeedReport(
        request.num_images,
        request.num_inference_steps,
        seconds,
        statistics.median(other for _, other in times),
        statistics.median(other / mine for mine, other in times),
        difference,
        flops / seconds / peak_flops(model.device, arithmetic(model.device, request.precision)),
    )


def unlike_diffusers(diffusion: GaussianDiffusion, sampler: str) -> str:
    """Why diffusers draws nothing or something else from a chain like this; empty where it does the same."""
    if diffusion.prediction_type == "posterior_mean":
        return "they know no prediction of mu-tilde; choose another model"
    if diffusion.variance_type == "learned":
        return "they take the logarithm of the variance for the variance itself; choose another model"
    if diffusion.variance_type == "learned_range" and sampler == "ddim":
        return "their DDIM takes no learned variance; choose --sampler ddpm"
    return ""


def diffusers_pipeline(engine: Engine, request: SampleRequest) -> tuple[Any, dict[str, Any]]:
    """The pipeline that draws the request's images from leading timesteps, and what its call wants beside."""
    from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler
    from diffusers.utils import logging

    logging.disable_progress_bar()  # of loading, which diffusers would write into any log
    try:
        pipeline: Any = DDPMPipeline.from_pretrained(locate(request.model, engine.checkpoints))
    except (AttributeError, OSError, ValueError) as error:  # a folder without its index, a network of ours
        raise UserError(f"diffusers cannot load {request.model}; choose another model") from error
    config, settings = pipeline.scheduler.config, {}
    if request.sampler == "ddpm":
        pipeline.scheduler = DDPMScheduler.from_config(config, timestep_spacing="leading")
    else:
        scheduler = DDIMScheduler.from_config(config, timestep_spacing="leading")
        pipeline = DDIMPipeline(pipeline.unet, scheduler)
        settings = {"eta": request.eta, "use_clipped_model_output": True}
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(engine.model(request.model, request.precision).device), settings


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
