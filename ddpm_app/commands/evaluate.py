"""Measure a model on pictures: what they cost in bits per dimension, and how that buys likeness."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ddpm_app.commands.report import add_model_arguments, progress, result
from ddpm_app.core.compression import TABLE_4
from ddpm_app.engine import Engine
from ddpm_app.errors import UserError
from ddpm_app.evaluation import NllReport, RateDistortionReport, negative_log_likelihood, rate_distortion
from ddpm_app.training.data import SOURCES, load_images


def bound(report: NllReport) -> str:
    """The mean over the pictures, split as in equation 5."""
    return (
        f"{report.bits_per_dim:.3f} +- {report.standard_error:.3f} bits/dim, {report.num_images} pictures, "
        f"L_T {report.prior_bpd:.2g}, L_1..T-1 {report.vb_bpd:.3f}, L_0 {report.decoder_bpd:.3f} "
        f"({report.terms_measured} timesteps each)"
    )


def table(report: RateDistortionReport) -> str:
    """The rows of table 4 beside the paper's own, which are of another model and other pictures."""
    head = f"{'reverse steps':>13}  {'rate, bits/dim':>20}  {'RMSE, 0..255':>18}    DDPM on CIFAR-10"
    rows = [
        f"{row.reverse_steps:>13}  {row.rate_bpd:>8.5f} +- {row.rate_standard_error:>8.5f}"
        f"  {row.rmse:>8.5f} +- {row.rmse_standard_error:>6.3f}    "
        + "  ".join(f"{value:>8.5f}" for value in TABLE_4.get(row.reverse_steps, ()))
        for row in report.rows
    ]
    last = (
        f"{report.num_images} pictures, {report.terms_measured} timesteps each; "
        f"L_0, {report.decoder_bpd:.3f} bits/dim more, makes them exact. "
        "Ideal code lengths: no bits are written."
    )
    return "\n".join([head, *rows, last])


# name -> how it is measured, and how it is told
METRICS: dict[str, tuple[Callable, Callable]] = {
    "nll": (negative_log_likelihood, bound),
    "rate-distortion": (rate_distortion, table),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, on which pictures, and how closely."""
    add_model_arguments(parser)
    parser.add_argument(
        "--metric", default="nll", choices=list(METRICS), help="the variational bound, or DDPM's table 4"
    )
    parser.add_argument("--data", required=True, help=SOURCES)
    parser.add_argument("--num-images", type=int, default=16, help="the first so many pictures")
    parser.add_argument(
        "--num-terms", type=int, default=100, help="timesteps measured for each picture; 1000 for all"
    )
    parser.add_argument("--variance", default="auto", help="auto, fixed_small, fixed_large, ...")


def run(options: argparse.Namespace) -> None:
    """The metric's means over the pictures."""
    if options.num_images < 1:
        raise UserError(f"--num-images must be at least 1; got {options.num_images}")
    engine = Engine(options.device, Path(options.checkpoints))
    channels, height, _ = engine.model(options.model, options.precision).image_shape
    images = load_images(options.data, height, channels, limit=options.num_images)
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
    asked = {"model": options.model, "data": options.data, "num_terms": options.num_terms}
    result(options, tell(report), asked | asdict(report))
