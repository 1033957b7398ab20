"""What a tab shows before anybody has run anything: a result made earlier, stored in `opening/`.

`python -m ddpm_app.ui.make_openings` makes them again.
"""

__all__ = ["FOLDER", "begin", "keep_tree", "open_tree", "open_with", "told_earlier"]

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
import torch
from gradio.components import Component
from gradio.data_classes import GradioModel, GradioRootModel
from gradio.processing_utils import move_files_to_cache, save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from ddpm_app.engine import BranchRequest
from ddpm_app.pictures import fit, read_recipe, save_png
from ddpm_app.ui.sessions import bar
from ddpm_app.ui.trees import Branch, Tree, read_paths, spelled

FOLDER = Path(__file__).with_name("opening")


def open_with(tab: str, outputs: Sequence[Component], button: str) -> None:
    """Puts what was made earlier for the tab into its outputs, the first its status line; else nothing."""
    file = FOLDER / f"{tab}.json"
    if not file.exists():
        return
    stored = json.loads(file.read_text())
    for place, value in stored["outputs"].items():
        component = outputs[int(place)]
        if component.get_block_name() == value["kind"]:
            begin(component, _read(value))
    begin(outputs[0], told_earlier(stored["settings"], button))


def told_earlier(settings: dict[str, Any], button: str) -> str:
    """The status line over something made earlier."""
    detail = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if name != "model"
    )
    return bar(f"Made earlier by {settings['model']}: press {button} for your own", 0, detail)


def begin(component: Component, value: Any) -> None:
    """Gives the component this value for a start, as if it had been built with it."""
    made = component.postprocess(value)
    if isinstance(made, GradioModel | GradioRootModel):
        made = made.model_dump()
    component.value = move_files_to_cache(made, component, postprocess=True, keep_in_cache=True)
    if isinstance(component, gr.Image) and isinstance(component.value, dict):
        component.keep_in_cache.add(component.value["path"])


def keep_tree(tree: Tree, folder: Path) -> dict[str, Any]:
    """A tree as JSON and a picture for each branch, with every third of the moments that it keeps."""
    moments = {*tree.branches[0].t[::3], *(branch.t[0] for branch in tree.branches), 0}
    told = []
    for place, branch in enumerate(tree.branches):
        columns = [column for column, t in enumerate(branch.t) if t in moments]
        with Image.open(branch.file) as strip:
            edge, tiles = (
                strip.width // len(branch.t),
                [strip.crop(box) for box in _columns(strip, columns, len(branch.t))],
            )
        drawn = Image.new("RGB", (edge * len(tiles), tiles[0].height))
        for column, tile in enumerate(tiles):
            drawn.paste(tile, (column * edge, 0))
        t = [branch.t[column] for column in columns]
        file = folder / f"branches-{place}.png"
        save_png(drawn, file, read_recipe(branch.file) | {"t": t})
        told.append({"path": spelled(branch.path), "t": t, "file": file.name})
    return {"trunk": tree.trunk.recipe(), "T": tree.num_train_timesteps, "branches": told}


def open_tree() -> Tree | None:
    """The tree made earlier, without its x_t: a fork walks to its own first."""
    file = FOLDER / "branches.json"
    if not file.exists():
        return None
    told = json.loads(file.read_text())
    tree = Tree(BranchRequest(**told["trunk"]), told["T"])
    branches = []
    for each in told["branches"]:
        with Image.open(FOLDER / each["file"]) as strip:
            boxes = _columns(strip, range(len(each["t"])), len(each["t"]))
            half = strip.height // 2
            tiles = [strip.crop((left, half, right, strip.height)) for left, _, right, _ in boxes]
        guesses = torch.stack([fit(tile, (half, half), 3) for tile in tiles])
        path = read_paths(each["path"])[0] if each["path"] else ()
        cached = save_file_to_cache(FOLDER / each["file"], get_upload_folder())
        branches.append(Branch(path, tuple(each["t"]), None, guesses, file=cached))
    return tree.grown(branches)


def _columns(strip: Image.Image, columns: Iterable[int], count: int) -> list[tuple[int, int, int, int]]:
    edge = strip.width // count
    return [(edge * column, 0, edge * (column + 1), strip.height) for column in columns]


def _read(value: dict[str, Any]) -> Any:
    if "file" in value:
        return str(FOLDER / value["file"])
    if "rows" in value:
        return pd.DataFrame(value["rows"], columns=value["columns"])
    return value["value"]
