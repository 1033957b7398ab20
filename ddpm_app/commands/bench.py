"""Time the engine against diffusers' pipelines on the same checkpoint and the same noise."""

import argparse
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
    parser.add_argument("--steps", type=int, default=20, help="how many timesteps are visited")
    parser.add_argument("--num-images", type=int, nargs="+", default=[1, 16], help="one or more batch sizes")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of each side, in turn")


def run(options: argparse.Namespace) -> None:
    """A row for each batch size."""
    if options.rounds < 1:
        raise UserError(f"--rounds must be at least 1; got {options.rounds}")
    engine = Engine(options.device, Path(options.checkpoints))
    backend = engine.model(options.model, options.precision).backend
    reports = []
    for num_images in options.num_images:
        request = SampleRequest(
            model=options.model,
            sampler=options.sampler,
            num_inference_steps=options.steps,
            num_images=num_images,
            seed=options.seed,
            precision=options.precision,
        )
        reports.append(compare_with_diffusers(engine, request, options.rounds))
    lines = [f"{options.model}, {options.sampler}, {options.steps} steps, {backend}"]
    for report in reports:
        ms, other = (1000 * value / options.steps for value in (report.seconds, report.diffusers_seconds))
        lines.append(
            f"{report.num_images:4d} images: {ms:8.1f} ms a step, diffusers {other:8.1f}, "
            f"ratio {report.ratio:.2f}, largest difference {report.largest_difference} levels"
        )
    rows = [asdict(report) for report in reports]
    result(options, "\n".join(lines), {"model": options.model, "backend": backend, "rows": rows})
