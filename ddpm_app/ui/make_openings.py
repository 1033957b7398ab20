"""Makes what the page opens with, by the tabs' own handlers: python -m ddpm_app.ui.make_openings."""

__all__ = ["OPENINGS", "make"]

import argparse
import inspect
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image

from ddpm_app.engine import Engine
from ddpm_app.errors import UserError
from ddpm_app.models import DEFAULT_MODEL
from ddpm_app.pictures import read_recipe, save_png
from ddpm_app.ui.app import build_app
from ddpm_app.ui.openings import FOLDER, keep_tree
from ddpm_app.ui.trees import Tree

HYBRID = "mnist-28-hybrid"  # the one with a learned variance
OPENINGS: dict[str, dict[str, Any]] = {  # what differs from its own settings, by endpoint
    "progressive": {"num_images": 1, "num_inference_steps": 100},
    "stochastic": {"num_images": 3},
    "branches": {"branches": "550:100 550:101"},
    "interpolate": {"num_images": 7},
    "likelihood": {},
    "compression": {},
    "consistency": {"num_images": 1},
    "variances": {"model": HYBRID},
    "bounds": {"model": HYBRID},
    "figure": {"name": "Figure 5", "reverse_steps": 100},
}


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
        wanted = {"model": DEFAULT_MODEL} | OPENINGS[tab]
        values = run(served[tab], wanted)
        settings = {"model": wanted["model"], "seed": 7} | OPENINGS[tab]
        told: dict[str, Any] = {"settings": settings, "outputs": {}}
        for tree in (value for value in values.values() if isinstance(value, Tree)):
            told |= keep_tree(tree, folder)
        for place, component in enumerate(served[tab].outputs) if "trunk" not in told else ():
            file = folder / f"{tab}-{place}.png"
            if kept := keep(component, values.get(component), file, settings | {"procedure": tab}):
                told["outputs"][str(place)] = kept
        (folder / f"{tab}.json").write_text(json.dumps(told) + "\n")


def run(served: Any, settings: dict[str, Any]) -> dict[Any, Any]:
    """The last values of an endpoint's outputs, by the tab's own inputs but for `settings`."""
    names = [name for name in inspect.signature(served.fn).parameters if name != "request"]
    inputs = {
        name: settings[name] if name in settings else given(component)
        for name, component in zip(names, served.inputs, strict=True)
    }
    values: dict[Any, Any] = {}
    for update in served.fn(**inputs, request=gr.Request(session_hash="openings")):
        values |= update
    return values


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
    if not isinstance(component, gr.Image) or not isinstance(value, str):
        return None
    with Image.open(value) as picture:
        picture.load()
    with suppress(UserError):  # some pictures tell nothing of themselves
        recipe = recipe | read_recipe(value)
    picture.info.clear()
    save_png(picture, file, recipe)
    return {"kind": kind, "file": file.name}


def main() -> None:
    """Every opening, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tabs", nargs="*", help="which ones; all without any")
    options = parser.parse_args()
    try:
        make(options.tabs or list(OPENINGS), Engine())
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    size = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{len(list(FOLDER.iterdir()))} files in {FOLDER}, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
