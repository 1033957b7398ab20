"""Measure a model on pictures: the bound on the negative log likelihood in bits per dimension."""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

from ddpm_app.commands import steps
from ddpm_app.commands.report import add_model_arguments, progress, result
from ddpm_app.engine import Engine
from ddpm_app.errors import UserError
from ddpm_app.evaluation import negative_log_likelihood
from ddpm_app.training.data import SOURCES, load_images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, on which pictures, and how closely."""
    add_model_arguments(parser)
    parser.add_argument(
        "--metric", default="nll", choices=["nll", "steps"], help="the variational bound; that at few steps"
    )
    parser.add_argument("--data", required=True, help=SOURCES)
    parser.add_argument("--num-images", type=int, default=16, help="the first so many pictures")
    parser.add_argument("--num-terms", type=int, default=100, help="timesteps measured for each picture")
    parser.add_argument("--variance", default="auto", help="auto, fixed_small, fixed_large, ...")


def run(options: argparse.Namespace) -> None:
    """The mean over the pictures, split as in equation 5."""
    if options.num_images < 1:
        raise UserError(f"--num-images must be at least 1; got {options.num_images}")
    engine = Engine(options.device, Path(options.checkpoints))
    channels, height, _ = engine.model(options.model, options.precision).image_shape
    images = load_images(options.data, height, channels, limit=options.num_images)
    pictures = images.pixels
    if images.left_out:
        print(images.left_out, file=sys.stderr)
    started = time.perf_counter()
    if options.metric == "steps":
        return steps.measure(options, engine, pictures, started)
    for report in negative_log_likelihood(
        engine,
        pictures,
        options.model,
        options.num_terms,
        variance_type=options.variance,
        seed=options.seed,
        precision=options.precision,
    ):
        progress(report.num_images, len(pictures), started)
    result(
        options,
        f"{report.bits_per_dim:.3f} +- {report.standard_error:.3f} bits/dim, {report.num_images} pictures, "
        f"L_T {report.prior_bpd:.2g}, L_1..T-1 {report.vb_bpd:.3f}, L_0 {report.decoder_bpd:.3f} "
        f"({options.num_terms} timesteps each)",
        asdict(report) | {"model": options.model, "data": options.data, "num_terms": options.num_terms},
    )
