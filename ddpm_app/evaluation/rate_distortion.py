"""Rate and distortion of a model's lossy code over a data set (section 4.3, table 4)."""

__all__ = ["RateDistortionReport", "Row", "rate_distortion"]

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ddpm_app.core.compression import tenths
from ddpm_app.engine import CompressionReport, CompressionRequest, Engine, Received
from ddpm_app.engine.checks import later_seed


@dataclass(frozen=True)
class Row:
    """Means over the pictures after so many reverse steps, with the standard errors of the means."""

    reverse_steps: int
    rate_bpd: float
    rate_standard_error: float
    rmse: float
    rmse_standard_error: float


@dataclass(frozen=True)
class RateDistortionReport:
    """Table 4 over the pictures so far; `decoder_bpd` is L_0, the bits still missing at its first row."""

    num_images: int
    terms_measured: int
    rows: tuple[Row, ...]
    decoder_bpd: float


def rate_distortion(
    engine: Engine,
    pictures: Tensor,
    model: str,
    num_terms: int,
    *,
    variance_type: str = "auto",
    seed: int = 0,
    precision: str = "exact",
) -> Iterator[RateDistortionReport]:
    """One report after each of the pictures uint8 (N, C, H, W); picture k is sent with seed + k."""
    reports: list[CompressionReport] = []
    for place, picture in enumerate(pictures):
        request = CompressionRequest(
            model=model,
            picture=picture,
            num_terms=num_terms,
            variance_type=variance_type,
            seed=later_seed(seed, place),
            precision=precision,
        )
        *_, last = engine.compress(request)
        reports.append(last)
        T = last.num_train_timesteps
        yield RateDistortionReport(
            num_images=len(reports),
            terms_measured=last.step,
            rows=tuple(_row(T - t, [_at(t, report) for report in reports]) for t in tenths(T)),
            decoder_bpd=statistics.fmean(report.received[-1].term_bpd for report in reports),
        )


def _at(t: int, report: CompressionReport) -> Received:
    return next(received for received in report.received if received.t == t)


def _row(reverse_steps: int, received: Sequence[Received]) -> Row:
    rates, distances = [each.rate_bpd for each in received], [each.rmse for each in received]
    return Row(reverse_steps, *_mean_and_error(rates), *_mean_and_error(distances))


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error, which is not known of one value."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return statistics.fmean(values), error
