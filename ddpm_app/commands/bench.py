"""Time the engine, or the training, against diffusers' own on the same network."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ddpm_app.commands.report import add_model_arguments, result
from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.errors import UserError
from ddpm_app.evaluation import compare_with_diffusers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run that both sides do."""
    add_model_arguments(parser)
    parser.add_argument("--sampler", default="ddpm", choices=["ddpm", "ddim"], help="the reverse step")
    parser.add_argument(
        "--steps", type=int, help="timesteps visited, by default 20; with --training 5, a block"
    )
    parser.add_argument("--num-images", type=int, nargs="+", help="batch sizes; 1 and 16, in training 64")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of each side, in turn")
    parser.add_argument("--training", action="store_true", help="training steps of a new network instead")


def run(options: argparse.Namespace) -> None:
    """A row for each batch size."""
    steps = (5 if options.training else 20) if options.steps is None else options.steps
    if options.rounds < 1:
        raise UserError(f"--rounds must be at least 1; got {options.rounds}")
    if options.training:
        _training(options, options.num_images or [64], steps)
    else:
        _sampling(options, options.num_images or [1, 16], steps)


def _sampling(options: argparse.Namespace, batches: Sequence[int], steps: int) -> None:
    engine = Engine(options.device, Path(options.checkpoints))
    reports = []
    for num_images in batches:
        request = SampleRequest(
            model=options.model,
            sampler=options.sampler,
            num_inference_steps=steps,
            num_images=num_images,
            seed=options.seed,
            precision=options.precision,
        )
        reports.append(compare_with_diffusers(engine, request, options.rounds))
    backend = engine.model(options.model, options.precision).backend
    lines = [f"{options.model}, {options.sampler}, {steps} steps, {backend}"]
    for report in reports:
        ms, other = (1000 * value / steps for value in (report.seconds, report.diffusers_seconds))
        lines.append(
            f"{report.num_images:4d} images: {ms:8.1f} ms a step, diffusers {other:8.1f}, "
            f"ratio {report.ratio:.2f}, largest difference {report.largest_difference} levels"
        )
    rows = [asdict(report) for report in reports]
    result(options, "\n".join(lines), {"model": options.model, "backend": backend, "rows": rows})


def _training(options: argparse.Namespace, batches: Sequence[int], steps: int) -> None:
    from ddpm_app.evaluation.training_speed import compare_training
    from ddpm_app.training import TrainingConfig

    if steps < 1:
        raise UserError(f"--steps must be at least 1; got {steps}")
    configs = [TrainingConfig("", "", batch_size=size, seed=options.seed) for size in batches]
    reports = [compare_training(config, options.rounds, steps) for config in configs]
    lines = [f"training, {reports[0].num_parameters:,} parameters, mixed precision {reports[0].precision}"]
    lines += [
        f"{report.batch_size:4d} images a step: {report.images_per_second:8.1f} images/s, "
        f"diffusers' example {report.diffusers_images_per_second:8.1f}, ratio {report.ratio:.2f}"
        for report in reports
    ]
    result(options, "\n".join(lines), {"rows": [asdict(report) for report in reports]})
