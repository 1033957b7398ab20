"""`evaluate --metric fid`: samples drawn, held against data, and written down as a scorecard."""

__all__ = ["METRIC", "NUM_SAMPLES", "add_arguments", "run"]

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddpm_app.commands.report import known, loaded, progress, result, writable_folder
from ddpm_app.engine import EVERY_SAMPLER, Engine, SampleRequest
from ddpm_app.evaluation.draws import collect, launched
from ddpm_app.evaluation.extractors import FEATURES
from ddpm_app.evaluation.samples import SAMPLES, Evaluation, Stage, evaluate_samples
from ddpm_app.evaluation.scorecard import Scorecard, as_markdown
from ddpm_app.pictures import save_png, sheet
from ddpm_app.training.checkpoints import AGAIN, writing

METRIC = "fid"
NUM_SAMPLES = 1000
SHOWN = 64  # samples on the sheet


def add_arguments(parser: Any) -> None:
    """How the samples are drawn, what looks at them, and where they go."""
    parser.add_argument("--sampler", default="ddpm", choices=EVERY_SAMPLER, help="the reverse step")
    parser.add_argument("--steps", type=int, default=1000, help="how many timesteps are visited")
    parser.add_argument("--eta", type=float, default=0.0, help="ddim only: 0 deterministic, 1 like ddpm")
    parser.add_argument("--spacing", default="auto", help="auto, leading, trailing or linspace")
    parser.add_argument("--features", default="auto", help=FEATURES)
    parser.add_argument("--nll-images", type=int, default=0, help="pictures whose bits/dim are measured too")
    parser.add_argument("--out", default="evaluation", help="the folder of samples, report and scorecard")


def run(options: argparse.Namespace) -> None:
    """FID, Inception Score, precision and recall; and the bound where it was asked for."""
    request = SampleRequest(
        model=options.model,
        sampler=options.sampler,
        num_inference_steps=options.steps,
        eta=options.eta,
        variance_type=options.variance,
        timestep_spacing=options.spacing,
        seed=options.seed,
        precision=options.precision,
    )
    out = writable_folder(options.out)
    asked = Evaluation(
        request=request,
        num_images=getattr(options, "num_images", NUM_SAMPLES),
        data=options.data,
        out=out,
        features=options.features,
        nll_images=options.nll_images,
        num_terms=options.num_terms,
    )
    processes, device = launched(options.device)
    engine = Engine(device, Path(options.checkpoints))
    loaded(engine, options)
    card = followed(evaluate_samples(engine, asked, processes=processes))
    if card is None:  # of several processes the first one speaks
        return
    shown = sheet(collect(out / SAMPLES, min(SHOWN, asked.num_images)))
    values = asdict(card) | {"metric": METRIC, "out": str(out)}
    text = as_markdown(card)
    with writing(out, AGAIN):
        save_png(shown, out / "grid.png", request.recipe())
        (out / "report.json").write_text(json.dumps(known(values), indent=2) + "\n")
        (out / "scorecard.md").write_text(text)
    result(options, f"{text}\nreport.json, scorecard.md, grid.png and the samples are in {out}", values)


def followed(stages: Iterable[Stage | Scorecard]) -> Scorecard | None:
    """The scorecard, where there is one; on the way each stage is told on a terminal."""
    what, began, card = "", 0.0, None
    for at in stages:
        if isinstance(at, Scorecard):
            card = at
            continue
        if at.what != what:
            what, began = at.what, time.perf_counter()
        progress(at.done, at.total, began, what)
    return card
