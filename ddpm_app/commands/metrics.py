"""What `evaluate` can measure: for each metric how it is measured, and how it is told."""

__all__ = ["METRICS"]

import math
from collections.abc import Callable

from ddpm_app.core.compression import paper_row
from ddpm_app.core.inversion import TABLE_2
from ddpm_app.evaluation import (
    CodingSummary,
    NllReport,
    RateDistortionReport,
    ReconstructionReport,
    StepsReport,
    bits_back,
    few_steps,
    negative_log_likelihood,
    rate_distortion,
    reconstruction,
)
from ddpm_app.pictures import counted


def known(value: float, error: float | None, digits: int = 3) -> str:
    """The value with its standard error, where that is known."""
    told = f"{value:.{digits}f}"
    return told if error is None or math.isnan(error) else f"{told} +- {error:.{digits}f}"


def bound(report: NllReport) -> str:
    """The mean over the pictures, split as in equation 5."""
    return (
        f"{known(report.bits_per_dim, report.standard_error)} bits/dim, {counted(report.num_images)}, "
        f"L_T {report.prior_bpd:.2g}, L_1..T-1 {report.vb_bpd:.3f}, L_0 {report.decoder_bpd:.3f} "
        f"({report.terms_measured} timesteps each)"
    )


def rates(report: RateDistortionReport) -> str:
    """The rows of table 4 beside the paper's own, which are of another model and other pictures."""
    head = f"{'reverse steps':>13}  {'rate, bits/dim':>20}  {'RMSE, 0..255':>18}    DDPM on CIFAR-10"
    length = max(row.reverse_steps for row in report.rows)
    rows = [
        f"{row.reverse_steps:>13}  {known(row.rate_bpd, row.rate_standard_error, 5):>20}"
        f"  {known(row.rmse, row.rmse_standard_error):>18}    "
        + "  ".join(f"{value:>8.5f}" for value in paper_row(row.reverse_steps, length))
        for row in report.rows
    ]
    last = (
        f"{counted(report.num_images)}, {report.terms_measured} timesteps each; "
        f"L_0, {report.decoder_bpd:.3f} bits/dim more, makes them exact. "
        "Ideal code lengths: no bits are written."
    )
    return "\n".join([head, *rows, last])


def bounds_at_few_steps(report: StepsReport) -> str:
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
    choosing = (report.num_images + 1) // 2
    halves = f"{counted(choosing)} chose, {report.num_images - choosing} measure"
    return "\n".join([*lines, f"timesteps out of {report.num_candidates}; {halves}"])


def errors(report: ReconstructionReport) -> str:
    """The rows of DDIM's table 2 beside the paper's own, which are of another model and other pictures."""
    head = f"{'steps':>6}  {'MSE on [0, 1]':>20}    DDIM on CIFAR-10"
    rows = [
        f"{row.num_inference_steps:>6}  {known(row.mse, row.standard_error, 6):>20}"
        f"    {TABLE_2.get(row.num_inference_steps, '')}"
        for row in report.rows
    ]
    return "\n".join([head, *rows, f"{counted(report.num_images)} encoded and drawn again"])


def bits_written(report: CodingSummary) -> str:
    """What a picture adds to a message, beside the bound and PNG; and what the first one alone takes."""
    lines = [
        f"{counted(report.num_images)} in {report.num_inference_steps} steps, "
        f"{report.num_exact} of them unpacked bit for bit",
        f"{'net':>10} {report.net_bpd:.3f} bits/dim, the bound of this chain {report.bound_bpd:.3f}",
        f"{'PNG':>10} {report.png_bpd:.3f} bits/dim",
        f"{'borrowed':>10} {report.borrowed_bits} bits, once; the whole message is {report.num_bytes} bytes, "
        f"the first picture alone {report.first_num_bytes}",
    ]
    return "\n".join(lines)


METRICS: dict[str, tuple[Callable, Callable]] = {
    "nll": (negative_log_likelihood, bound),
    "rate-distortion": (rate_distortion, rates),
    "reconstruction": (reconstruction, errors),
    "steps": (few_steps, bounds_at_few_steps),
    "coding": (bits_back, bits_written),
}
