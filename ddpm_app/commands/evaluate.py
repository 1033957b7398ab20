"""Measure a model: its samples against data (fid), or what pictures cost it in bits per dimension.

With --metric fid the samples lie in --out, where a run that was killed goes on, and beside them report.json
and scorecard.md. `accelerate launch -m ddpm_app evaluate ...` spreads the drawing over processes.
"""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

from ddpm_app.commands import scoring
from ddpm_app.commands.metrics import METRICS
from ddpm_app.commands.report import add_model_arguments, loaded, progress, result
from ddpm_app.engine import Engine
from ddpm_app.engine.checks import MAX_SEED, whole
from ddpm_app.errors import UserError
from ddpm_app.training.data import SOURCES, load_images

NUM_PICTURES = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, on which pictures, and how closely."""
    add_model_arguments(parser)
    parser.add_argument(
        "--metric",
        default="nll",
        choices=[*METRICS, scoring.METRIC],
        help="the bound, DDPM's table 4, DDIM's table 2, few steps, a real code; or samples against the data",
    )
    parser.add_argument("--data", required=True, help=SOURCES)
    parser.add_argument(
        "--num-images",
        type=int,
        default=argparse.SUPPRESS,
        help=f"the first so many pictures (default: {NUM_PICTURES}); "
        f"with {scoring.METRIC}, samples drawn (default: {scoring.NUM_SAMPLES})",
    )
    parser.add_argument(
        "--num-terms",
        type=int,
        default=100,
        help="nll, rate-distortion: timesteps measured for each picture, 1000 for all; coding: steps of the "
        "chain; steps: candidate timesteps; reconstruction: the most steps",
    )
    parser.add_argument("--variance", default="auto", help="auto, fixed_small, ...; analytic for samples")
    scoring.add_arguments(parser.add_argument_group(f"with --metric {scoring.METRIC}"))


def run(options: argparse.Namespace) -> None:
    """The metric's means over the pictures, or the scorecard of samples."""
    if options.metric == scoring.METRIC:
        return scoring.run(options)
    if strange := [name for name in scoring.OWN if hasattr(options, name)]:
        raise UserError(
            f"--{strange[0].replace('_', '-')} is for --metric {scoring.METRIC} alone; of "
            f"{options.metric} the timesteps are --num-terms"
        )
    num_images = getattr(options, "num_images", NUM_PICTURES)
    if num_images < 1:
        raise UserError(f"--num-images must be at least 1; got {num_images}")
    whole("seed", options.seed, 0, MAX_SEED)
    engine = Engine(options.device, Path(options.checkpoints))
    channels, edge = loaded(engine, options).square()
    images = load_images(options.data, edge, channels, limit=num_images)
    pictures = images.pixels
    if images.left_out:
        print(images.left_out, file=sys.stderr)
    measure, tell = METRICS[options.metric]
    started = time.perf_counter()
    for report in measure(
        engine,
        pictures,
        options.model,
        options.num_terms,
        variance_type=options.variance,
        seed=options.seed,
        precision=options.precision,
    ):
        progress(report.num_images, len(pictures), started)
    names = ("metric", "model", "data", "num_terms", "variance", "seed", "precision")
    asked = {name: getattr(options, name) for name in names}
    result(options, tell(report), asked | asdict(report))
