"""Pictures to start from: the visitor's, an example of the chosen model, or one that it draws now."""

__all__ = [
    "OWN_STEPS",
    "beginnings",
    "examples",
    "follow_model",
    "offer_examples",
    "own_or_given",
    "picture_input",
]

import filecmp
from collections.abc import Callable, Iterable
from pathlib import Path

import gradio as gr
from gradio.components import Component
from torch import Tensor

from ddpm_app.engine import CancelToken, SampleRequest
from ddpm_app.pictures import read_picture
from ddpm_app.ui.controls import Shared, Shelf
from ddpm_app.ui.files import unpacked

OWN_STEPS = 20  # in which a model draws a picture of its own to start from


def picture_input(label: str, value: str | None = None) -> gr.Image:
    """A picture from the visitor, handed on as a file that `read_picture` opens, with its own words."""
    image = gr.Image(
        value,
        type="filepath",
        sources=["upload", "clipboard"],
        image_mode=None,
        format="png",
        label=label,
        height=180,
        elem_classes=["pixels", "picture"],
    )
    # Gradio would open the file here and answer a text file or a bomb with no sentence at all; a handler must
    # answer this component with values, since an update (gr.skip too) would make it anew without this line
    image.preprocess = (  # type: ignore[method-assign]
        lambda payload: (payload.path or unpacked(str(payload.url))) if payload else None
    )
    return image


def own_or_given(
    shared: Shared, model: str, files: list[str | None], seed: int, token: CancelToken
) -> list[Tensor]:
    """The pictures in `files`, uint8 (C, H, W) as the model takes them; for None, one of its own."""
    chosen = shared.engine.model(model)
    image_shape, steps = chosen.image_shape, min(OWN_STEPS, len(chosen.diffusion))
    given = [read_picture(file, image_shape) if file else None for file in files]
    missing = sum(picture is None for picture in given)
    if missing:
        request = SampleRequest(
            model=model, sampler="sde-dpmsolver++", num_inference_steps=steps, num_images=missing, seed=seed
        )
        *_, last = shared.engine.run(request, token)
        own = iter(last.images)
    return [next(own) if picture is None else picture for picture in given]


def examples(shared: Shared, model: str | None = None) -> list[str]:
    """Files of pictures that the model drew, where it comes with some; of the page's first one if None."""
    model = model or str(shared.model.value)
    known = model in shared.engine.available_models()
    folder = shared.engine.checkpoints / model / "examples"
    return [str(file) for file in sorted(folder.glob("*.png"))] if known else []


def offer_examples(shared: Shared, image: gr.Image, first: int = 0) -> None:
    """The examples to click on for this input; gr.Examples would update it, which makes it anew."""
    rows = [[file] for file in examples(shared)]
    offered = gr.Dataset(components=[image], samples=rows, type="index", label="Examples", visible=bool(rows))
    shared.shelves.append(Shelf(offered, image, first))
    offered.click(
        lambda model, place: dict(enumerate(examples(shared, model))).get(place),  # or it was just chosen
        [shared.model, offered],
        image,
        queue=False,
        api_visibility="private",
    )


def beginnings(shared: Shared, model: str) -> dict[Component, str | None]:
    """What each picture input that does not begin empty begins with, where the model is this one."""
    own = dict(enumerate(examples(shared, model)))
    filled = [shelf for shelf in shared.shelves if shelf.image.constructor_args.get("value")]
    return {shelf.image: own.get(shelf.first) for shelf in filled}


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
    events: list[Callable] = [shared.model.input, *(click.success for click in shared.choices)]
    for chosen in events:
        chosen(begin, [shared.model, *images], images, **silent)


def _among(picture: str, files: Iterable[str]) -> bool:
    """Whether it is one of the files; one that is no longer kept is none."""
    return Path(picture).is_file() and any(filecmp.cmp(picture, file, shallow=False) for file in files)
