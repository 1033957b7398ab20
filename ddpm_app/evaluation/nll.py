"""The variational bound of a model over a data set, in bits per dimension (section 4.3, table 1)."""

__all__ = ["NllReport", "negative_log_likelihood"]

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ddpm_app.engine import Engine, LikelihoodReport, LikelihoodRequest
from ddpm_app.engine.checks import later_seed


@dataclass(frozen=True)
class NllReport:
    """Means over the pictures so far, in bits/dim; `standard_error` is that of the mean over pictures.

    `terms` are the means of L_{t-1}, and of L_0 at t = 0, over the pictures that were measured at that t.
    """

    num_images: int
    terms_measured: int
    bits_per_dim: float
    prior_bpd: float
    vb_bpd: float
    decoder_bpd: float
    standard_error: float
    terms: dict[int, float]


def negative_log_likelihood(
    engine: Engine,
    pictures: Tensor,
    model: str,
    num_terms: int,
    *,
    variance_type: str = "auto",
    seed: int = 0,
    precision: str = "exact",
) -> Iterator[NllReport]:
    """One report after each of the pictures uint8 (N, C, H, W), each measured at `num_terms` timesteps."""
    reports: list[LikelihoodReport] = []
    for place, picture in enumerate(pictures):
        request = LikelihoodRequest(
            model=model,
            picture=picture,
            num_terms=num_terms,
            variance_type=variance_type,
            seed=later_seed(seed, place),
            precision=precision,
        )
        *_, last = engine.likelihood(request)
        reports.append(last)
        totals = [report.bits_per_dim for report in reports]
        yield NllReport(
            num_images=len(reports),
            terms_measured=reports[-1].step,
            bits_per_dim=statistics.fmean(totals),
            prior_bpd=statistics.fmean(report.prior_bpd for report in reports),
            vb_bpd=statistics.fmean(report.vb_bpd for report in reports),
            decoder_bpd=statistics.fmean(report.decoder_bpd for report in reports),
            standard_error=statistics.stdev(totals) / len(totals) ** 0.5 if len(totals) > 1 else float("nan"),
            terms=_curve(reports),
        )


def _curve(reports: list[LikelihoodReport]) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for report in reports:
        for t, term in zip(report.timesteps, report.terms, strict=True):
            found.setdefault(t, []).append(term)
    return {t: statistics.fmean(found[t]) for t in sorted(found)}
