"""Pictures that the chosen model drew, to start from; another model brings its own."""

__all__ = ["Shelf", "examples", "follow_model", "offer_examples"]

import filecmp
from collections.abc import Iterable
from dataclasses import dataclass

import gradio as gr

from ddpm_app.models import DEFAULT_MODEL
from ddpm_app.ui.controls import Shared


@dataclass(frozen=True)
class Shelf:
    """Examples for one picture input, which begins with the one at place `first` or stays empty."""

    offered: gr.Dataset
    image: gr.Image
    first: int


def examples(shared: Shared, model: str = DEFAULT_MODEL) -> list[str]:
    """Files of pictures that the model drew, where it is one that comes with some."""
    known = model in shared.engine.available_models()
    folder = shared.engine.checkpoints / model / "examples"
    return [str(file) for file in sorted(folder.glob("*.png"))] if known else []


def offer_examples(shared: Shared, image: gr.Image, first: int = 0) -> None:
    """The examples to click on for this input; gr.Examples would update it, which makes it anew."""
    rows = [[file] for file in examples(shared)]
    offered = gr.Dataset(components=[image], samples=rows, type="index", label="Examples", visible=bool(rows))
    shared.shelves.append(Shelf(offered, image, first))
    offered.click(
        lambda model, place: examples(shared, model)[place],
        [shared.model, offered],
        image,
        queue=False,
        api_visibility="private",
    )


def follow_model(shared: Shared) -> None:
    """Once all tabs are built: a model that is chosen has its examples on every shelf.

    Where the visitor chooses it, they take the place of another model's too; a replay brings its own.
    """
    images = [shelf.image for shelf in shared.shelves]

    def offer(model: str) -> list[gr.Dataset]:
        own = [[file] for file in examples(shared, model)]
        return [gr.Dataset(samples=own, visible=bool(own)) for _ in shared.shelves]

    def begin(model: str, *given: str | None) -> list[str | None]:
        own = dict(enumerate(examples(shared, model)))
        others = [file for name in shared.engine.available_models() for file in examples(shared, name)]
        return [
            own.get(shelf.first)
            if picture and _among(picture, others) and not _among(picture, own.values())
            else picture
            for shelf, picture in zip(shared.shelves, given, strict=True)
        ]

    silent: dict = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    shared.model.change(offer, shared.model, [shelf.offered for shelf in shared.shelves], **silent)
    shared.model.input(begin, [shared.model, *images], images, **silent)


def _among(picture: str, files: Iterable[str]) -> bool:
    return any(filecmp.cmp(picture, file, shallow=False) for file in files)
