"""Time the engine, its server or the training, beside diffusers where it has the like; compare samplers."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddpm_app.commands.report import add_model_arguments, result
from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.errors import UserError
from ddpm_app.evaluation import compare_with_diffusers
from ddpm_app.evaluation.growth import GROWTH, measure_growth
from ddpm_app.evaluation.load import measure_load
from ddpm_app.evaluation.server import measure_start, measure_visitors, serving
from ddpm_app.evaluation.solvers import compare_solvers
from ddpm_app.models.catalogue import locate
from ddpm_app.models.exact import EXACT_MODELS

Report = tuple[list[str], dict[str, Any]]  # lines for people, values for machines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is timed, and the work that it does."""
    parser.add_argument("what", nargs="?", default="sampling", choices=[*BENCHES], help="what is timed")
    add_model_arguments(parser)
    parser.add_argument("--sampler", default="ddpm", choices=["ddpm", "ddim"], help="the reverse step")
    parser.add_argument("--steps", type=int, help="reverse steps, 20; training steps in a block, 5")
    parser.add_argument(
        "--num-images",
        type=int,
        nargs="+",
        help="batch sizes: 1 and 16 in sampling, 64 in training; 16 a visitor",
    )
    parser.add_argument("--visitors", type=int, nargs="+", default=[1, 2, 4, 8], help="at one moment")
    parser.add_argument("--data", help="pictures to hold the samples of each of the solvers against")
    parser.add_argument(
        "--rounds", type=int, default=3, help="timed rounds of each side, in turn; sheets a visitor"
    )


def run(options: argparse.Namespace) -> None:
    """A line for each row that was measured."""
    for name in ("steps", "rounds"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1; got {value}")
    for name in ("visitors", "num_images"):
        if min(getattr(options, name) or [1]) < 1:
            raise UserError(
                f"--{name.replace('_', '-')} must be at least 1; got {min(getattr(options, name))}"
            )
    lines, values = BENCHES[options.what](options)
    result(options, "\n".join(lines), values)


def sampling(options: argparse.Namespace) -> Report:
    """Our engine and diffusers' pipelines, from the same noise."""
    steps = options.steps or 20
    engine = Engine(options.device, Path(options.checkpoints))
    reports = []
    for num_images in options.num_images or [1, 16]:
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
            f"{report.num_images:4d} images: {ms:8.1f} ms a step, "
            f"{report.num_images / report.seconds:7.2f} images/s, {report.peak_share:4.0%} of peak; "
            f"diffusers in float32 {other:8.1f} ms, ratio {report.ratio:.2f}, "
            f"largest difference {report.largest_difference} levels"
        )
    rows = [asdict(report) for report in reports]
    return lines, {"model": options.model, "backend": backend, "rows": rows}


def training(options: argparse.Namespace) -> Report:
    """Our training step and that of diffusers' example, on the same network and batch."""
    from ddpm_app.evaluation.training_speed import compare_training
    from ddpm_app.training import TrainingConfig

    sizes = options.num_images or [64]
    configs = [TrainingConfig("", "", batch_size=size, seed=options.seed) for size in sizes]
    reports = [compare_training(config, options.rounds, options.steps or 5) for config in configs]
    lines = [f"training, {reports[0].num_parameters:,} parameters, mixed precision {reports[0].precision}"]
    lines += [
        f"{report.batch_size:4d} images a step: {report.images_per_second:8.1f} images/s, "
        f"diffusers' example {report.diffusers_images_per_second:8.1f}, ratio {report.ratio:.2f}"
        for report in reports
    ]
    return lines, {"rows": [asdict(report) for report in reports]}


def start(options: argparse.Namespace) -> Report:
    """From the start command to the page, and from the first click to the first sheet."""
    reports = [measure_start(_server(options), _sheet(options)) for _ in range(options.rounds)]
    lines = [
        f"the page answers after {report.page_seconds:.1f} s; "
        f"the first sheet is done {report.sheet_seconds:.1f} s after the first click"
        for report in reports
    ]
    return lines, {"rows": [asdict(report) for report in reports]}


def visitors(options: argparse.Namespace) -> Report:
    """Visitors who all ask for a sheet at one moment."""
    with serving(_server(options)) as url:
        measure_visitors(url, 1, _sheet(options))  # loads the model
        reports = [measure_visitors(url, count, _sheet(options)) for count in options.visitors]
    lines = [
        f"{report.visitors:3d} visitors: previews after {report.first_preview_seconds:.2f} to "
        f"{report.last_preview_seconds:.2f} s, all done after {report.seconds:.1f} s, "
        f"{report.images_per_second:.2f} images/s"
        for report in reports
    ]
    return lines, {"model": options.model, "rows": [asdict(report) for report in reports]}


def load(options: argparse.Namespace) -> Report:
    """Visitors of a public page who ask for several sheets each, one after another."""
    alone, reports = Engine(options.device, Path(options.checkpoints)), []
    settings = _sheet(options) | {"model": options.model}
    for count in options.visitors:
        with serving([*_server(options), "--public"]) as url:
            reports.append(measure_load(url, count, options.rounds, settings, alone))
    lines = [
        f"{report.visitors:3d} visitors: {report.served} runs served, {report.refused} refused, "
        f"{report.mixed_up} mixed up, in {report.seconds:.1f} s; the server's memory "
        f"{report.memory_before:.0f} MB after a quarter of them, {report.memory_after:.0f} MB at the end"
        for report in reports
    ]
    return lines, {"model": options.model, "rows": [asdict(report) for report in reports]}


def growth(options: argparse.Namespace) -> Report:
    """Time and memory against images, steps and image size, with random weights."""
    lines, rows = [], []
    for report in measure_growth(GROWTH, options.device):
        work = report.work
        rows.append(asdict(report) | {"ratio": report.ratio})
        lines.append(
            f"{work.num_images:4d} images of {work.image_size:3d} x {work.image_size:<3d}, "
            f"{work.num_steps:4d} steps, {report.num_parameters / 1e6:6.1f}M: {report.seconds:8.2f} s, "
            f"{report.ratio:.2f} times the bare network's; "
            f"{report.memory:5.0f} MB, its own {report.network_memory:5.0f}"
        )
    return lines, {"rows": rows}


def solvers(options: argparse.Namespace) -> Report:
    """Every sampler at few steps beside a long DDIM run, and beside pictures of the data."""
    from ddpm_app.training.data import load_images

    request = SampleRequest(
        model=options.model,
        num_images=(options.num_images or [16])[0],
        seed=options.seed,
        precision=options.precision,
    )
    engine = Engine(options.device, Path(options.checkpoints))
    pictures = None
    if options.data:
        channels, edge = engine.model(options.model, options.precision).square()
        pictures = load_images(options.data, edge, channels, limit=2000).pixels
    rows = [asdict(report) for report in compare_solvers(engine, request, options.steps or 20, pictures)]
    lines = [f"{options.model}, {options.steps or 20} steps, {request.num_images} pictures"]
    for row in rows:
        known = [f"{key} {value:.2f}" for key, value in row.items() if isinstance(value, float)]
        lines.append(f"{row['sampler']:16s} {', '.join(known)}")
    return lines, {"model": options.model, "rows": rows}


BENCHES: dict[str, Callable[[argparse.Namespace], Report]] = {
    bench.__name__: bench for bench in (sampling, solvers, training, start, visitors, load, growth)
}


def _server(options: argparse.Namespace) -> list[str]:
    if options.model not in EXACT_MODELS:
        locate(options.model, Path(options.checkpoints))  # or the server would start without it
    return ["--model", options.model, "--device", options.device, "--checkpoints", str(options.checkpoints)]


def _sheet(options: argparse.Namespace) -> dict[str, Any]:
    sheet = {
        "num_images": (options.num_images or [16])[0],
        "sampler": options.sampler,
        "num_inference_steps": options.steps or 20,
        "precision": options.precision,
    }
    SampleRequest(**sheet)  # or every visitor would be refused
    return sheet
