"""Makes what the page opens with, by the tabs' own handlers: python -m ddpm_app.ui.make_openings.

What no bundled model has a part in takes minutes, and is made anew only where it is named.
"""

__all__ = ["OPENINGS", "WHEN_NAMED", "make"]

import argparse
import inspect
import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from PIL import Image

from ddpm_app.engine import Engine
from ddpm_app.errors import UserError
from ddpm_app.models import BUNDLED, DEFAULT_MODEL
from ddpm_app.pictures import read_recipe, save_png
from ddpm_app.ui.app import build_app
from ddpm_app.ui.openings import FOLDER, keep_tree
from ddpm_app.ui.trees import Tree

DIGITS, HYBRID = "mnist-28", "mnist-28-hybrid"  # the latter has a learned variance
DIGIT = str(min((BUNDLED / DIGITS / "examples").glob("*.png"), default=""))
TRAIN = "train"  # is no endpoint
OPENINGS: dict[str, dict[str, Any]] = {  # what differs from its own settings, by endpoint
    "progressive": {"model": DIGITS, "num_images": 2, "seed": 12},
    "stochastic": {"num_images": 3},
    "branches": {"branches": "850:100 850:101"},
    "interpolate": {"num_images": 7},
    "compare": {"model": DIGITS, "num_images": 4},
    "likelihood": {},
    "compression": {},
    "coding": {"model": DIGITS, "picture": DIGIT},
    "consistency": {"model": DIGITS},
    "reconstruct": {"model": HYBRID, "steps": [10, 200]},  # a guided model does not lead back
    "latent_grid": {"model": DIGITS},
    "variances": {"model": HYBRID},
    "respacing": {"model": HYBRID},
    "bounds": {"model": HYBRID},
    "schedules": {"model": DIGITS, "picture": DIGIT},
    "figure": {"model": DIGITS, "reverse_steps": 100},
    "evaluate": {"model": "exact-shapes", "num_images": 128},  # drawn shapes, as the data is
    TRAIN: {"num_steps": 800, "batch_size": 16},
}
WHEN_NAMED = ("evaluate", TRAIN)
REPORT_EVERY = 10  # steps


def make(tabs: list[str], engine: Engine, folder: Path = FOLDER) -> None:
    """A JSON file for each tab, and its pictures beside it, each with a recipe."""
    demo = build_app(engine, training=False)
    served = {each.api_name: each for each in demo.fns.values()}
    folder.mkdir(exist_ok=True)
    for tab in tabs:
        if tab not in OPENINGS:
            raise UserError(f"there is no opening {tab}; choose among {', '.join(OPENINGS)}")
        for old in folder.glob(f"{tab}[.-]*"):
            old.unlink()
        told = trained(folder) if tab == TRAIN else ran(tab, served[tab], engine, folder)
        (folder / f"{tab}.json").write_text(json.dumps(told) + "\n")


def ran(tab: str, served: Any, engine: Engine, folder: Path) -> dict[str, Any]:
    """What a run of the tab's own handler leaves in its outputs; its pictures come into the folder."""
    wanted = {"model": DEFAULT_MODEL} | OPENINGS[tab]
    engine.model(wanted["model"]).settle()  # so that one backend computes it all
    values = run(served, wanted)
    told_of = {name: value for name, value in OPENINGS[tab].items() if name != "picture"}
    seeds = {name: value for name, value in untouched(served).items() if name == "seed"}
    settings = {"model": wanted["model"]} | seeds | told_of
    told: dict[str, Any] = {"settings": settings, "outputs": {}}
    for tree in (value for value in values.values() if isinstance(value, Tree)):
        return told | keep_tree(tree, folder)
    for place, component in enumerate(served.outputs):
        file = folder / f"{tab}-{place}.png"
        if kept := keep(component, values.get(component), file, settings | {"procedure": tab}):
            told["outputs"][str(place)] = kept
    return told


def trained(folder: Path) -> dict[str, Any]:
    """The losses of a short run of the first preset on drawn shapes, and the sheet at its end."""
    from ddpm_app.training import TrainingConfig, train
    from ddpm_app.training.presets import PRESETS

    preset, own = next(iter(PRESETS)), OPENINGS[TRAIN]
    whole = {"save_every": own["num_steps"], "sample_every": own["num_steps"]}
    with TemporaryDirectory() as out:
        config = TrainingConfig("shapes", out, **PRESETS[preset] | own | whole)
        progress = [(at.step, round(at.loss, 5)) for at in train(config, report_every=REPORT_EVERY)]
        (sheet,) = Path(out, "samples").glob("*.png")
        file = folder / f"{TRAIN}-1.png"
        save_small(sheet, file, {"procedure": TRAIN, "preset": preset} | own)
    settings = {"model": preset, "data": "the shapes that this program draws"} | own
    return {"settings": settings, "progress": progress, "sheet": file.name}


def run(served: Any, settings: dict[str, Any]) -> dict[Any, Any]:
    """The last values of an endpoint's outputs, by the tab's own inputs but for `settings`."""
    inputs = untouched(served)
    inputs |= {name: settings[name] for name in inputs.keys() & settings.keys()}
    answer = served.fn(**inputs, request=gr.Request(session_hash="openings"))
    values: dict[Any, Any] = {}
    for update in [answer] if isinstance(answer, dict) else answer:
        values |= update
    return values


def untouched(served: Any) -> dict[str, Any]:
    """What an endpoint's handler gets of its tab as it opens."""
    names = [name for name in inspect.signature(served.fn).parameters if name != "request"]
    return {name: given(each) for name, each in zip(names, served.inputs, strict=True)}


def given(component: Any) -> Any:
    """What a handler gets of a component that nobody has touched."""
    if isinstance(component, gr.Image):
        return component.value["path"] if component.value else None
    return component.value


def keep(component: Any, value: Any, file: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """The value as JSON, a picture as `file`; None for what a page does not open with."""
    kind = component.get_block_name()
    if isinstance(value, pd.DataFrame):
        return {"kind": kind, "columns": list(value.columns), "rows": value.round(6).to_numpy().tolist()}
    if isinstance(value, dict):  # what a script draws
        return {"kind": kind, "value": value}
    if isinstance(component, gr.Markdown) and isinstance(value, str):
        return {"kind": kind, "value": value.strip()}
    if not isinstance(component, gr.Image) or not isinstance(value, str):
        return None
    with suppress(UserError):  # some pictures tell nothing of themselves
        recipe = recipe | read_recipe(value)
    save_small(value, file, recipe)
    return {"kind": kind, "file": file.name}


def save_small(picture: str | Path, file: Path, recipe: dict[str, Any]) -> None:
    """The same pixels as a smaller PNG, gray or by a palette where that does, with that recipe alone."""
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGBA"))
    colours, places = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    drawn = Image.fromarray(pixels)
    if len(colours) <= 256:
        drawn = Image.fromarray(places.reshape(pixels.shape[:2]).astype(np.uint8), "P")
        drawn.putpalette(colours.tobytes(), "RGBA")
    elif (colours[:, 0] == colours[:, 1]).all() and (colours[:, 1] == colours[:, 2]).all():
        drawn = drawn.convert("LA")
    elif (pixels[..., 3] == 255).all():
        drawn = drawn.convert("RGB")
    save_png(drawn, file, recipe)


def main() -> None:
    """Every opening that a bundled model made, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tabs", nargs="*", help=f"which ones; all but {' and '.join(WHEN_NAMED)} without any")
    options = parser.parse_args()
    try:
        make(options.tabs or [tab for tab in OPENINGS if tab not in WHEN_NAMED], Engine())
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    size = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{len(list(FOLDER.iterdir()))} files in {FOLDER}, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
