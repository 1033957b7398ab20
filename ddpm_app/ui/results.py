"""The block in which a tab shows its images: status, live sheet, gallery to pick from, downloads."""

__all__ = ["LOADING", "Results", "Update", "crisp", "lines", "results", "status_line"]

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from gradio.components import Component
from PIL import Image
from torch import Tensor

from ddpm_app.engine import SampleRequest
from ddpm_app.pictures import save_png, to_picture
from ddpm_app.ui.code import code_block, spelled
from ddpm_app.ui.files import new_folder
from ddpm_app.ui.forms import UNTOLD, Form, Told
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.sessions import bar

Update = dict[Component, Any]  # what a handler yields: new values; every other component stays as it is
LOADING = bar("Loading the model", 0, unfinished=True)


@dataclass(frozen=True)
class Results:
    """The components of the block."""

    status: gr.HTML
    sheet: gr.Image
    gallery: gr.Gallery
    sheet_file: gr.DownloadButton
    zip_file: gr.DownloadButton
    link: gr.Button
    code: gr.State  # the run as code
    picked: gr.State  # the place in the gallery that "Send to" takes
    send_row: gr.Row  # where app.py puts the buttons that send it

    @property
    def outputs(self) -> list[Component]:
        """What a handler may change, the status line first."""
        return [self.status, self.sheet, *self.pickable]

    @property
    def pickable(self) -> list[Component]:
        """What is filled at the end of a run."""
        return [self.gallery, self.sheet_file, self.zip_file, self.code]

    def share(self, form: Form, **instead: Component) -> None:
        """Lets the link be copied that says what this form's controls show, or others `instead`."""
        copies_link(self.link, form, **instead)

    def preview(self, status: str, picture: Image.Image) -> Update:
        """A live frame."""
        file = save_png(picture, new_folder() / "preview.png", compress=False)
        return {self.status: status, self.sheet: str(file)}

    def finished(
        self,
        status: str,
        picture: Image.Image,
        images: Tensor,
        captions: Sequence[str],
        requests: Sequence[SampleRequest],
        *,
        told: Told = UNTOLD,
        procedure: str = "",
        others: Sequence[str] = (),
    ) -> Update:
        """The end of a run: every image a PNG with the recipe of its own request, the sheet and a ZIP of all.

        The recipes also carry what the whole run was `told`, by which it can be replayed.

        `requests` has one entry for each row of equally many images; the sheet carries the first. The ZIP
        also takes the `others`, files made before.
        """
        folder = new_folder()
        procedure = procedure or type(requests[0]).__name__.removesuffix("Request").lower()
        run = {"procedure": procedure} | told.recipe
        sheet_file = save_png(picture, folder / "sheet.png", requests[0].recipe() | run)
        files = []
        for count, (image, caption) in enumerate(zip(images, captions, strict=True)):
            request, place = requests[count * len(requests) // len(images)], count % requests[0].num_images
            own = request.recipe() | run | {"image": place, "caption": caption}
            if type(request) is SampleRequest:  # an image from noise is made again alone by its own seed
                own |= {"procedure": "sample", "seed": request.seeds[place], "num_images": 1, "image": 0}
            files.append(save_png(to_picture(image), folder / f"{count:05d}.png", own))
        archive = folder / "images.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as pack:
            for file in [sheet_file, *files, *map(Path, others)]:
                pack.write(file, file.name)
        gallery = [(str(file), caption) for file, caption in zip(files, captions, strict=True)]
        return {
            self.status: status,
            self.sheet: str(sheet_file),
            self.gallery: gr.Gallery(gallery, visible=True, selected_index=None),
            self.sheet_file: gr.DownloadButton(value=str(sheet_file), interactive=True),
            self.zip_file: gr.DownloadButton(value=str(archive), interactive=True),
            self.code: spelled(requests, told),
        }


def results(
    label: str,
    sheet: str | None = None,
    status: str | gr.HTML = "",
    beneath: Component | None = None,
    *,
    enlarged: bool = False,
) -> Results:
    """Builds the block in the current column.

    `sheet` is a file to show before anything has run; `status` the line's words, or a line elsewhere;
    `beneath` is rendered right under the sheet; `enlarged` is as for `crisp`.
    """
    line = status_line(status) if isinstance(status, str) else status
    image = crisp(label, sheet, enlarged=enlarged)
    if beneath is not None:
        beneath.render()
    gallery = gr.Gallery(
        label="Pick one",
        columns=8,
        format="png",
        object_fit="contain",
        interactive=False,
        elem_classes="pixels picks late",
        visible=False,
    )
    with gr.Row(elem_classes="late"):
        sheet_file = gr.DownloadButton("Sheet as PNG", size="sm", interactive=False, min_width=90)
        zip_file = gr.DownloadButton("All as ZIP", size="sm", interactive=False, min_width=90)
        link = link_button()
    code = code_block()
    send_row = gr.Row(elem_classes="send late")
    picked = gr.State(0)
    gallery.select(_place, outputs=picked, queue=False, api_visibility="private")
    gallery.change(lambda: 0, outputs=picked, queue=False, api_visibility="private")
    return Results(line, image, gallery, sheet_file, zip_file, link, code, picked, send_row)


def lines(points: pd.DataFrame, colour: str) -> gr.LinePlot:
    """The points for a plot with a line for each value in that column.

    Where these are others than before, only another legend makes the page draw them all.
    """
    return gr.LinePlot(points, colors_in_legend=list(dict.fromkeys(points[colour])))


def status_line(html: str) -> gr.HTML:
    """Where `bar` puts its words."""
    return gr.HTML(html, label="Status", elem_classes="statusline")


def crisp(
    label: str, value: str | None = None, *, small: bool = False, enlarged: bool = False, late: bool = False
) -> gr.Image:
    """A picture of ours: PNG at its own size, enlarged by the browser without smoothing.

    One that is `enlarged` already, and has words in it, may be smoothed; a `late` one comes at a run's end.
    """
    classes = {"pixels": not enlarged, "sheet": True, "small": small, "late": late}
    return gr.Image(
        value,
        label=label,
        format="png",
        type="pil",
        interactive=False,
        elem_classes=[name for name, holds in classes.items() if holds],
        alt_text=label,
        buttons=["download", "fullscreen"],
    )


def _place(event: gr.SelectData) -> int:
    return event.index
