"""Time the engine, or the training, against diffusers' own; or compare samplers at few steps."""

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
    parser.add_argument(
        "--num-images", type=int, nargs="+", help="batch sizes; 1 and 16, in training 64; with --solvers 16"
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of each side, in turn")
    parser.add_argument("--training", action="store_true", help="training steps of a new network instead")
    parser.add_argument("--solvers", action="store_true", help="every sampler beside a long DDIM run instead")
    parser.add_argument("--data", help="with --solvers: pictures to hold the samples against")


def run(options: argparse.Namespace) -> None:
    """A row for each batch size."""
    steps = (5 if options.training else 20) if options.steps is None else options.steps
    if options.rounds < 1:
        raise UserError(f"--rounds must be at least 1; got {options.rounds}")
    if options.training:
        _training(options, options.num_images or [64], steps)
    elif options.solvers:
        _solvers(options, *(options.num_images or [16])[:1], steps)
    else:
        _sampling(options, options.num_images or [1, 16], steps)


def _sampling(options: argparse.Namespace, batches: Sequence[int], steps: int) -> None:
    engine = Engine(options.device, Path(options.checkpoints))
    backend = engine.model(options.model, options.precision).backend
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


def _solvers(options: argparse.Namespace, num_images: int, steps: int) -> None:
    from ddpm_app.evaluation.solvers import compare_solvers
    from ddpm_app.training.data import load_images

    request = SampleRequest(
        model=options.model, num_images=num_images, seed=options.seed, precision=options.precision
    )
    engine = Engine(options.device, Path(options.checkpoints))
    channels, height, _ = engine.model(options.model, options.precision).image_shape
    pictures = load_images(options.data, height, channels, limit=2000).pixels if options.data else None
    reports = []
    for report in compare_solvers(engine, request, [steps], pictures):
        reports.append(asdict(report))
        if not options.json:
            told = ", ".join(
                f"{name} {value:.2f}" for name, value in list(reports[-1].items())[2:] if value is not None
            )
            print(f"{report.sampler:16s}{report.num_inference_steps:4d} steps: {told}", flush=True)
    result(options, f"{options.model}, {num_images} pictures", {"model": options.model, "rows": reports})
