"""The metric `steps` of evaluate: bits/dim at few steps, by reverse variance and by choice of timesteps."""

__all__ = ["measure", "table"]

import argparse
from dataclasses import asdict

from torch import Tensor

from ddpm_app.commands.report import progress, result
from ddpm_app.engine import Engine
from ddpm_app.evaluation import StepsReport, few_steps


def measure(options: argparse.Namespace, engine: Engine, pictures: Tensor, started: float) -> None:
    """Runs the metric and tells it."""
    for report in few_steps(
        engine,
        pictures,
        options.model,
        options.num_terms,
        variance_type=options.variance,
        seed=options.seed,
        precision=options.precision,
    ):
        progress(report.num_images, len(pictures), started)
    result(options, table(report), asdict(report) | {"model": options.model, "data": options.data})


def table(report: StepsReport) -> str:
    """A line for each variance: even spacing -> chosen timesteps, for each number of steps."""
    counts = sorted({row.num_inference_steps for row in report.rows})
    lines = [f"{'bits/dim, even -> chosen':<26}" + "".join(f"{f'S = {steps}':>18}" for steps in counts)]
    for variance in dict.fromkeys(row.variance_type for row in report.rows):
        cells = [
            f"{row.even_bits_per_dim:.3f} -> {row.best_bits_per_dim:.3f}"
            for row in report.rows
            if row.variance_type == variance
        ]
        lines.append(f"{variance:<26}" + "".join(f"{cell:>18}" for cell in cells))
    halves = f"{report.num_images // 2} pictures chose, {report.num_images - report.num_images // 2} measure"
    return "\n".join([*lines, f"timesteps out of {report.num_candidates}; {halves}"])
