"""An evaluation from end to end: samples into a folder, features of them and of the data, a scorecard."""

__all__ = ["Evaluation", "Stage", "evaluate_samples"]

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddpm_app.core.analytic import ANALYTIC
from ddpm_app.engine import CancelToken, Engine, SampleRequest, visits
from ddpm_app.engine.checks import MAX_STEPS, whole
from ddpm_app.engine.improved import variance_types
from ddpm_app.engine.requests import AUTO
from ddpm_app.errors import UserError, one_of
from ddpm_app.evaluation.checkpoint import averaging
from ddpm_app.evaluation.classifier import save_classifier
from ddpm_app.evaluation.draws import ALONE, Processes, begin, collect, draw, missing
from ddpm_app.evaluation.extractors import Extractor, chosen, features_of
from ddpm_app.evaluation.nll import NllReport, negative_log_likelihood
from ddpm_app.evaluation.quality import Features, Quality, quality, some
from ddpm_app.evaluation.scorecard import Scorecard
from ddpm_app.models import Model
from ddpm_app.pictures import counted
from ddpm_app.training.data import Bounds, ImageSet, load_images
from ddpm_app.training.labels import called

MOST_SAMPLES = 1_000_000
FEWEST = 8  # of samples, and of pictures of the data
SAMPLES, PIXELS, CLASSIFIER = "samples", "pixels", "features.safetensors"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated: `num_images` samples of the request, image k with seed + k, against `data`.

    Beside them the bound of the first `nll_images` pictures of the data at `num_terms` timesteps each. Of
    what a stranger gives no more than `most_pixels` are decoded, and `called` is told instead of its place.
    """

    request: SampleRequest
    num_images: int
    data: str
    out: Path
    features: str = "auto"
    limit: int | None = None  # of the data, its first so many pictures
    nll_images: int = 0
    num_terms: int = 100
    called: str = ""
    most_pixels: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_images", whole("num_images", self.num_images, FEWEST, MOST_SAMPLES))
        object.__setattr__(self, "nll_images", whole("nll_images", self.nll_images, 0, MOST_SAMPLES))
        whole("num_terms", self.num_terms, 2, MAX_STEPS)

    @property
    def about(self) -> str:
        """What the scorecard calls the data."""
        return self.called or called(self.data)


@dataclass(frozen=True)
class Stage:
    """What is being done, and how far it is; the pictures at work while samples are drawn."""

    what: str
    done: float
    total: float
    images: Tensor | None = None


def evaluate_samples(
    engine: Engine,
    asked: Evaluation,
    cancel: CancelToken | None = None,
    processes: Processes = ALONE,
) -> Iterator[Stage | Scorecard]:
    """Stages, and at the end the scorecard, of the first of the processes alone.

    What is drawn already is not drawn again. Data and features are looked at before, since they may be wrong.
    """
    folder, main = asked.out / SAMPLES, processes.rank == 0
    model = engine.model(asked.request.model, asked.request.precision)
    steps = visits(asked.request, model)  # of more steps than the chain has nothing is begun
    if asked.nll_images:  # nor where the bound would be refused at the very end
        one_of("variance", _variance_of_bound(asked.request), [AUTO, *variance_types(model)])
    if main:
        begin(folder, asked.request, engine.checkpoints)
    processes.wait()
    chunks = missing(folder, asked.num_images)
    processes.wait()  # or one would be drawn before another process has seen that it is missing
    if main:
        yield Stage("reading the data", 0, 1)
        images, extractor = yield from _prepared(asked, model, cancel)
    for step, num_steps in engine.measuring(asked.request, cancel):
        yield Stage("measuring the variance", step, num_steps)
    for at in draw(engine, asked.request, folder, chunks[processes.rank :: processes.count], cancel):
        yield Stage("drawing samples", at.done, at.num_images, at.images)
    processes.wait()
    if not main:
        return
    ours = yield from _features("features of the samples", extractor, collect(folder, asked.num_images))
    theirs = yield from _features("features of the data", extractor, images.pixels)
    yield Scorecard(
        request=asked.request,
        averaging=averaging(asked.request.model, engine.checkpoints),
        notes=model.notes,
        visits=steps,
        data="; ".join(filter(None, [asked.about, images.left_out])),
        extractor=extractor.name,
        published_features=extractor.published,
        samples=quality(ours, theirs),
        own=_own(theirs, asked.num_images),
        nll=(yield from _bound(engine, asked, images.pixels[: asked.nll_images])),
        cut=len(images.pixels) == asked.limit,
    )


def _prepared(
    asked: Evaluation, model: Model, cancel: CancelToken | None
) -> Generator[Stage, None, tuple[ImageSet, Extractor]]:
    """The data and the extractor, once they are known to be of use."""
    channels, size = model.square()
    bounds = Bounds(asked.most_pixels, (cancel or CancelToken()).check, asked.called)
    images = load_images(asked.data, size, channels, asked.out / PIXELS, asked.limit, bounds=bounds)
    if (count := len(images.pixels)) < FEWEST:
        where = asked.called or asked.data
        raise UserError(f"{where}: {counted(count)}, too few to compare with; give at least {FEWEST}")
    for found in chosen(asked.features, asked.data, images, model.device):
        if isinstance(found, Extractor):
            extractor = found
        else:
            yield Stage("training a classifier for its features", found, 1)
    if extractor.classifier is not None:
        save_classifier(extractor.classifier, asked.out / CLASSIFIER)
    return images, extractor


def _variance_of_bound(request: SampleRequest) -> str:
    """That of the samples, but for the analytic one, which is of samples alone."""
    return AUTO if request.variance_type == ANALYTIC else request.variance_type


def _features(what: str, extractor: Extractor, pictures: Tensor) -> Generator[Stage, None, Features]:
    for found in features_of(extractor, pictures):
        if isinstance(found, Features):
            features = found
        else:
            yield Stage(what, found, len(pictures))
    return features


def _own(data: Features, count: int) -> Quality | None:
    """What `count` pictures of the data score against the others; None where those would be fewer."""
    if 2 * count > len(data):
        return None
    chosen = some(len(data), count)  # in an order of its own: the score's splits must not be classes
    others = torch.ones(len(data), dtype=torch.bool)
    others[chosen] = False
    return quality(data[chosen], data[others])


def _bound(engine: Engine, asked: Evaluation, pictures: Tensor) -> Generator[Stage, None, NllReport | None]:
    """The bound of the pictures; None of none."""
    report, request = None, asked.request
    for report in negative_log_likelihood(
        engine,
        pictures,
        request.model,
        asked.num_terms,
        variance_type=_variance_of_bound(request),
        seed=request.seed,
        precision=request.precision,
    ):
        yield Stage("measuring bits/dim", report.num_images, len(pictures))
    return report
