"""`evaluate --metric fid`: samples drawn, held against data, and written down as a scorecard."""

__all__ = ["METRIC", "NUM_SAMPLES", "OWN", "add_arguments", "run"]

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddpm_app.commands.report import known, loaded, progress, result, writable_folder
from ddpm_app.engine import EVERY_SAMPLER, Engine, SampleRequest
from ddpm_app.evaluation.draws import collect, launched
from ddpm_app.evaluation.extractors import FEATURES
from ddpm_app.evaluation.samples import SAMPLES, Evaluation, Stage, evaluate_samples
from ddpm_app.evaluation.scorecard import Scorecard, as_markdown, as_values
from ddpm_app.pictures import save_png, sheet
from ddpm_app.training.checkpoints import AGAIN, writing

METRIC = "fid"
NUM_SAMPLES = 1000
SHOWN = 64  # samples on the sheet
OWN: dict[str, tuple[Any, str]] = {
    "sampler": ("ddpm", "the reverse step"),
    "steps": (1000, "how many timesteps are visited"),
    "eta": (0.0, "ddim only: 0 deterministic, 1 like ddpm"),
    "rederive_eps": (True, "ddim only: eps follows the clipped x0-hat"),
    "spacing": ("auto", "auto, leading, trailing or linspace"),
    "features": ("auto", FEATURES),
    "nll_images": (0, "pictures whose bits/dim are measured too"),
    "out": ("evaluation", "the folder of samples, report and scorecard"),
}


def add_arguments(parser: Any) -> None:
    """How the samples are drawn, what looks at them, and where they go."""
    for name, (default, text) in OWN.items():
        kind: dict[str, Any] = {"type": type(default)}
        if isinstance(default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif name == "sampler":
            kind = {"choices": EVERY_SAMPLER}
        parser.add_argument(
            "--" + name.replace("_", "-"),
            default=argparse.SUPPRESS,
            help=f"{text} (default: {default})",
            **kind,
        )


def run(options: argparse.Namespace) -> None:
    """FID, Inception Score, precision and recall; and the bound where it was asked for."""
    options = argparse.Namespace(**{name: default for name, (default, _) in OWN.items()} | vars(options))
    request = SampleRequest(
        model=options.model,
        sampler=options.sampler,
        num_inference_steps=options.steps,
        eta=options.eta,
        rederive_eps=options.rederive_eps,
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
    some = min(SHOWN, asked.num_images)
    shown = sheet(collect(out / SAMPLES, some))
    values = as_values(card) | {"metric": METRIC, "out": str(out)}
    text = as_markdown(card)
    with writing(out, AGAIN):
        save_png(shown, out / "grid.png", request.recipe() | {"num_images": some})
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
