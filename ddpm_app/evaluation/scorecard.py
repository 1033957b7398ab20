"""A scorecard: what was measured, under which conditions, and beside it what the papers measured.

A figure never stands without its conditions, and one that is not of Inception's features never in a table
with published ones.
"""

__all__ = ["Scorecard", "as_markdown", "as_values", "caveats"]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ddpm_app.core.analytic import ANALYTIC
from ddpm_app.engine import SampleRequest
from ddpm_app.engine.requests import AUTO
from ddpm_app.evaluation.nll import NllReport
from ddpm_app.evaluation.published import PUBLISHED, Published
from ddpm_app.evaluation.quality import NEIGHBOURS, Quality

PUBLISHED_SAMPLES = 50_000
MEASURES = ("FID", "Inception Score", "precision", "recall")
Row = Sequence[str]


@dataclass(frozen=True)
class Scorecard:
    """The samples' quality, and that of as many of the data's own pictures, with every condition.

    `own` compares them with the rest of the data, and is None where they would be more than a half of it;
    `notes` are the model's own.
    """

    request: SampleRequest
    averaging: str
    notes: tuple[str, ...]
    visits: str
    data: str
    extractor: str
    published_features: bool
    samples: Quality
    own: Quality | None
    nll: NllReport | None
    cut: bool = False  # the data, after so many pictures


def as_values(card: Scorecard) -> dict[str, Any]:
    """The scorecard as JSON holds it; how many samples were drawn stands in `samples`, not in `request`."""
    values = asdict(card)
    del values["request"]["num_images"]
    return values


def as_markdown(card: Scorecard) -> str:
    """The scorecard as a text with tables."""
    score = "FID" if card.published_features else "FID on these features"
    parts = [
        f"## {card.request.model}: {card.samples.num_images:,} samples",
        _table(("", score, *MEASURES[1:]), _measured(card)),
        "\n".join(f"- {sentence}" for sentence in caveats(card)),
        _table(("condition", ""), _conditions(card)),
        *([] if card.nll is None else [_likelihood(card.nll, card.request.variance_type)]),
        *_beside(card),
    ]
    return "\n\n".join(parts) + "\n"


def caveats(card: Scorecard) -> list[str]:
    """What keeps the figures from being more than they are."""
    told, count = [], card.samples.num_images
    if not card.published_features:
        told.append(f"**FID on features of {card.extractor}: not comparable with any published FID.**")
    if count < PUBLISHED_SAMPLES:
        told.append(
            f"N = {count:,}: the fewer the samples, the larger the FID; published figures have "
            f"{PUBLISHED_SAMPLES:,}. Compare only runs of the same N."
        )
    if card.own is not None:
        told.append(
            "The second row has the same measures of as many pictures of the data itself, against the "
            "others: what a perfect model would score."
        )
    if card.samples.inception_score_deviation is None:
        told.append("The Inception Score is of one split, since ten would be too small.")
    return told


def _measured(card: Scorecard) -> list[Row]:
    rows: list[Row] = [("samples", *_numbers(card.samples))]
    return rows if card.own is None else [*rows, ("the data's own pictures", *_numbers(card.own))]


def _numbers(found: Quality) -> Row:
    spread = found.inception_score_deviation
    score = f"{found.inception_score:.2f}" + ("" if spread is None else f" ± {spread:.2f}")
    return f"{found.fid:.4g}", score, f"{found.precision:.3f}", f"{found.recall:.3f}"


def _conditions(card: Scorecard) -> list[Row]:
    request, samples = card.request, card.samples
    return [
        ("samples", f"{samples.num_images:,}, seeds {request.seed} and on"),
        ("data", f"{card.data}, {'the first ' if card.cut else ''}{samples.num_reference:,} pictures"),
        ("features", card.extractor),
        ("precision and recall", f"{NEIGHBOURS} neighbours, {samples.num_compared:,} pictures of each"),
        ("model's weights", card.averaging),
        *(("noted of the model", note) for note in card.notes),
        ("sampler", _process(request)),
        ("steps", card.visits),
        ("arithmetic", request.precision),
        ("pixels", "rounded to 8 bits"),
    ]


def _process(request: SampleRequest) -> str:
    parts = [request.sampler]
    if request.sampler == "ddim":
        parts.append(f"eta {request.eta:g}" + ("" if request.rederive_eps else ", ε as the network gives it"))
    if request.sampler == "ddpm":
        parts.append(f"variance {request.variance_type}")
    if request.langevin_steps:
        parts.append(f"{request.langevin_steps} Langevin steps at r = {request.langevin_snr:g}")
    return ", ".join(parts)


def _likelihood(nll: NllReport, variance: str) -> str:
    error = "" if nll.num_images == 1 else f" ± {nll.standard_error:.3f}"
    told = "as the model says" if variance in (AUTO, ANALYTIC) else variance
    return (
        f"**NLL** ≤ {nll.bits_per_dim:.3f}{error} bits/dim, the first {nll.num_images} of the data, "
        f"{nll.terms_measured} timesteps each, variance {told}. The papers, on CIFAR-10: DDPM "
        f"{PUBLISHED[0].bits_per_dim} (test), Improved DDPM 2.94; other pictures cost other bits."
    )


def _beside(card: Scorecard) -> list[str]:
    """The papers' figures: under the measured row where they are of the same features, else apart."""
    columns = ("", "data", "sampler, steps", "N", "FID", "Inception Score")
    if not card.published_features:
        return [
            "### Published, with the features of Inception v3",
            "Another scale: none of these can be held against the table above.",
            _table(columns, [_row(each) for each in PUBLISHED if each.source.startswith("DDPM")]),
        ]
    ours, steps = card.samples, card.request.num_inference_steps
    process = f"{_process(card.request)}, {steps} steps"
    first = (card.request.model, card.data, process, f"{ours.num_images:,}", *_numbers(ours)[:2])
    return [
        "### Beside the published figures",
        _table(columns, [[f"**{cell}**" for cell in first], *map(_row, PUBLISHED)]),
    ]


def _row(each: Published) -> Row:
    return each.source, each.data, each.process, f"{PUBLISHED_SAMPLES:,}", f"{each.fid}", each.inception_score


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
