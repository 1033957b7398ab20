"""DDPM's table 2 at small scale: every cell drawn from and measured in the same way.

Samples are ancestral, over the whole chain. Where the paper has Inception's features, those of a small
classifier stand here that learned from the same data: the figures compare the cells with each other and with
real pictures, and with nothing else. Source: Ho, Jain and Abbeel (2020), section 4.2.
"""

__all__ = ["CellReport", "How", "Judge", "contact_sheet", "measure_cell", "new_judge"]

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.errors import UserError
from ddpm_app.evaluation.classifier import Classifier, trained_on
from ddpm_app.evaluation.draws import begin, collect, draw, missing
from ddpm_app.evaluation.nll import negative_log_likelihood
from ddpm_app.evaluation.quality import Features, Quality, quality, some
from ddpm_app.pictures import sheet
from ddpm_app.training.ablation import CELLS, CellRun, cell_run
from ddpm_app.training.checkpoints import AGAIN, writing
from ddpm_app.training.config import TrainingConfig
from ddpm_app.training.data import load_images
from ddpm_app.training.labels import MOST, called, load_labelled

DRAWN, REPORT = "ablation", "report.json"  # a folder, and a file in it
SHOWN, ENLARGED, WORDS = 16, 4, 190  # of the contact sheet; the width of its words in pixels


@dataclass(frozen=True)
class How:
    """What is measured: so many samples, and the bound of so many pictures at `num_terms` timesteps each."""

    num_samples: int
    num_pictures: int
    num_terms: int
    seed: int


@dataclass(frozen=True, eq=False)
class Judge:
    """What the samples are held against: a classifier and its features of the data.

    `pictures` uint8 (N, C, H, W) are those whose bound is measured, named `about`; `real` is the quality that
    pictures from the same place have, as many as there are samples.
    """

    classifier: Classifier
    data: Features
    pictures: Tensor
    about: str
    real: Quality


@dataclass(frozen=True)
class CellReport:
    """A cell's training and what came of it; nothing is measured of a cell that has diverged."""

    cell: str
    run: CellRun
    bits_per_dim: float | None = None
    standard_error: float | None = None
    terms_measured: int | None = None  # of each picture; unknown of a cell measured by an older version
    quality: Quality | None = None


def new_judge(config: TrainingConfig, held_out: str, how: How) -> Judge:
    """A classifier taught by the data of a cell; UserError where that tells no classes.

    The bound is measured on pictures drawn at random, of those learned from where nothing is held out.
    """
    labelled = load_labelled(config.data, config.image_size, config.channels)
    classifier = trained_on(labelled)
    source, count = held_out or config.data, max(how.num_samples, how.num_pictures)
    pictures = labelled.pixels
    if held_out:
        size, channels = config.image_size, config.channels
        pictures = load_images(held_out, size, channels, limit=MOST, flag="--held-out").pixels
        if len(pictures) < 2:
            raise UserError(f"--held-out {held_out} has one picture; give at least 2")
    pictures = pictures[some(len(pictures), count)]  # the first may all be of one class
    data = classifier(labelled.pixels)
    real = quality(classifier(pictures[: how.num_samples]), data)
    about = called(source) + (", held out" if held_out else ", learned from")
    return Judge(classifier, data, pictures[: how.num_pictures], about, real)


def measure_cell(
    engine: Engine, config: TrainingConfig, judge: Judge, how: How, told: Callable[[str], None] = print
) -> CellReport:
    """The report of a cell whose training has ended; what its folder already tells is not measured again."""
    run = cell_run(config)
    name = run.folder.name
    if run.diverged_at is not None:
        return CellReport(name, run)
    pictures = hashlib.sha256(judge.pictures.numpy().tobytes()).hexdigest()[:12]
    asked = {**asdict(how), "judge": judge.classifier.fingerprint, "pictures": pictures}
    file = run.folder / DRAWN / REPORT
    known = json.loads(file.read_text()) if file.exists() else {}
    if known.get("asked") != asked:
        told(f"{name}: drawing {how.num_samples} samples")
        drawn = samples(engine, config, how)
        told(f"{name}: measuring the bound of {len(judge.pictures)} pictures")
        *_, bound = negative_log_likelihood(
            engine, judge.pictures, str(run.folder), how.num_terms, seed=how.seed
        )
        known = {
            "asked": asked,
            "bits_per_dim": bound.bits_per_dim,
            "standard_error": bound.standard_error,
            "terms_measured": bound.terms_measured,
            "quality": asdict(quality(judge.classifier(drawn), judge.data)),
        }
        partial = file.with_name(REPORT + ".partial")
        with writing(file.parent, AGAIN):
            partial.write_text(json.dumps(known, indent=2) + "\n")
            os.replace(partial, file)
    bits = known["bits_per_dim"], known["standard_error"], known.get("terms_measured")
    return CellReport(name, run, *bits, Quality(**known["quality"]))


def samples(engine: Engine, config: TrainingConfig, how: How) -> Tensor:
    """Ancestral samples uint8 (N, C, H, W) over the whole chain; sample k has seed + k in every cell.

    They are kept in the cell's folder, so that those which are drawn are not drawn again.
    """
    steps = config.num_train_timesteps
    request = SampleRequest(model=config.out, sampler="ddpm", num_inference_steps=steps, seed=how.seed)
    folder = Path(config.out, DRAWN)
    begin(folder, request, engine.checkpoints)
    for _ in draw(engine, request, folder, missing(folder, how.num_samples)):
        pass
    return collect(folder, how.num_samples)


def contact_sheet(reports: Sequence[CellReport]) -> Image.Image:
    """A row of samples of the same seeds for each cell that has any, its name before it."""
    rows: list[tuple[str, Image.Image]] = []
    for report in reports:
        if report.quality:
            count = min(SHOWN, report.quality.num_images)
            row = sheet(collect(report.run.folder / DRAWN, count), columns=SHOWN)
            larger = row.width * ENLARGED, row.height * ENLARGED
            rows.append((report.cell, row.resize(larger, Image.Resampling.NEAREST)))
    height = max(drawn.height for _, drawn in rows) + ENLARGED
    ground = Image.new("RGB", (WORDS + rows[0][1].width, height * len(rows)), "white")
    pen, font = ImageDraw.Draw(ground), ImageFont.load_default(14)
    for place, (name, drawn) in enumerate(rows):
        pen.text((8, (place + 0.5) * height), CELLS[name].words, "black", font, anchor="lm")
        ground.paste(drawn, (WORDS, place * height), drawn)
    return ground
