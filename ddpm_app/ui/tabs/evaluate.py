"""Evaluate: samples held against a data set, as in table 1, on features that need no network."""

__all__ = ["build"]

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ddpm_app.engine import SampleRequest, command_line
from ddpm_app.errors import UserError, one_of
from ddpm_app.pictures import save_png, sheet
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.code import code_block, measured
from ddpm_app.ui.controls import Shared, chain_controls, explain, requested
from ddpm_app.ui.files import new_folder
from ddpm_app.ui.forms import Told
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Update, crisp, status_line
from ddpm_app.ui.sessions import Clock, bar, spoken

ABOUT = r"""How good are the samples? Many are drawn and held against a data set, by what a network sees in
both. Every figure stands with its conditions: change one, and it is another figure.

$$\text{FID} = \|m - m'\|^2 + \operatorname{tr}\bigl(C + C' - 2\,(C C')^{1/2}\bigr)$$"""
SHAPES = "shapes"
SOURCES = {"Built-in shapes": SHAPES, "Upload": "upload", "On this machine or the Hub": "path"}
MOST_SAMPLES = 1024
MOST_CALLS = 128 * 50  # of the network on a picture, where strangers may ask
MOST_PICTURES = 10_000  # of the data
MOST_OF_STRANGERS = 2_000
MOST_PIXELS = 4e8  # of what strangers give, decoded: some seconds
UPLOADED = "the uploaded pictures"
SHOWN = 64


def build(shared: Shared, *, local: bool) -> None:
    """Lays the tab out and wires it; only a `local` page, not a public one, has folders and large runs."""

    @spoken
    def evaluate(
        model: str,
        source: str,
        path: str,
        num_images: int,
        sampler: str,
        num_inference_steps: int,
        eta: float,
        variance_type: str,
        seed: int,
        timestep_spacing: str,
        precision: str,
        request: gr.Request,
        uploads: list[str] | None = None,
        rederive_eps: bool = True,
    ) -> Iterator[Update]:
        """Draws samples and measures them against data; the last update has the scorecard."""
        from ddpm_app.evaluation.draws import collect
        from ddpm_app.evaluation.samples import SAMPLES, Evaluation, evaluate_samples
        from ddpm_app.evaluation.scorecard import Scorecard, as_markdown, as_values

        wanted = requested(SampleRequest, locals(), num_images=1)
        refuse_excess(num_images, num_inference_steps, local)
        folder = new_folder()
        refuse_parquet(uploads, local)
        data = data_of(one_of("source", source, offered.values()), folder, uploads, path)
        asked = Evaluation(
            request=wanted,
            num_images=num_images,
            data=data,
            out=folder / "evaluation",
            limit=MOST_PICTURES if local else MOST_OF_STRANGERS,
            called=UPLOADED if source == "upload" else "",
            most_pixels=math.inf if local else MOST_PIXELS,
        )
        with shared.sessions.run(request, "evaluate") as run:
            loaded = yield from loading(shared, status, run, model, precision)
            limits = shared.engine.limits  # of the whole run, whose samples are drawn a few at a time
            limits.check(limits.share(num_images * num_inference_steps, loaded))
            whole, what = Clock(), ""
            for at in evaluate_samples(shared.engine, asked, run.token):
                run.token.check()
                if isinstance(at, Scorecard):
                    card = at
                    continue
                if at.what != what:
                    what = at.what
                    run.clock.start()
                if run.clock.due(at.done, at.total):
                    line = run.clock.line(place(at)) if at.done else bar(place(at), 0, unfinished=True)
                    yield {status: line} | ({} if at.images is None else {shown: sheet(at.images)})
        report = folder / "report.json"
        report.write_text(json.dumps(as_values(card), indent=2) + "\n")
        told = shared.forms["evaluate"].told(locals())
        run_of = {} if source == "upload" else told.recipe  # what was uploaded travels in no recipe
        some = min(SHOWN, num_images)
        picture = sheet(collect(asked.out / SAMPLES, some))
        file = save_png(picture, folder / "samples.png", wanted.recipe() | {"num_images": some} | run_of)
        yield {
            status: whole.finished(f"{num_images} samples measured", card.visits),
            shown: str(file),
            scorecard: as_markdown(card),
            download: gr.DownloadButton(value=str(report), interactive=True),
            code: measured(told, command(wanted, num_images, told) if data == SHAPES else ""),
        }

    offered = {label: kind for label, kind in SOURCES.items() if local or kind != "path"}
    explain(ABOUT, "evaluate")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Evaluate")
            source, uploads, path = data_form(offered, local)
            num_images = gr.Slider(
                32,
                MOST_SAMPLES,
                value=128,
                step=32,
                label="Samples",
                info="N: compare only runs of the same N",
            )
            chain = chain_controls(shared, "sde-dpmsolver++", 20)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press Evaluate: the samples, then their scorecard appear here", 0))
            shown = crisp("Samples", small=True)
            scorecard = gr.Markdown(elem_classes="scorecard late")
            with gr.Row(elem_classes="late"):
                download = gr.DownloadButton("Report as JSON", size="sm", interactive=False, min_width=90)
                link = link_button()
            code = code_block()
    inputs = [shared.model, source, path, num_images, *chain.inputs, uploads, chain.rederive_eps]
    outputs = [status, shown, scorecard, download, code]
    copies_link(link, buttons.wire(shared, "evaluate", evaluate, inputs, outputs))


def data_form(offered: dict[str, str], local: bool) -> tuple[gr.Radio, gr.File, gr.Textbox]:
    """Where the data comes from: the choice, files, a path."""
    source = gr.Radio(
        list(offered.items()),
        value=SHAPES,
        label="Data to compare with",
        info="what the model learned from, or the figures mean little",
    )
    uploads = gr.File(
        file_count="multiple",
        file_types=["image", ".zip", *([".parquet"] if local else [])],
        label="Pictures, .zip or .parquet files" if local else "Pictures or .zip files",
        height=140,
        visible=False,
    )
    path = gr.Textbox(
        "", label="Where", placeholder="a folder, .zip, .parquet, or owner/name on the Hub", visible=False
    )
    source.change(
        lambda kind: [gr.update(visible=kind == each) for each in ("upload", "path")],
        source,
        [uploads, path],
        queue=False,
        api_visibility="private",
    )
    return source, uploads, path


def data_of(source: str, folder: Path, uploads: list[str] | None, path: str | None) -> str:
    """What `load_images` takes for what was chosen; UserError where it is empty."""
    from ddpm_app.training.uploads import keep_uploads

    if source == "upload" and uploads:
        keep_uploads(uploads, folder / "data")
        return str(folder / "data")
    where = (path or "").replace("\0", "").strip()  # an empty box may be None, and no path holds a zero byte
    if source == "path" and where:
        return str(Path(where).expanduser())
    if source != SHAPES:
        raise UserError("there is nothing to compare with; upload pictures, or name a folder or a data set")
    return source


def command(request: SampleRequest, num_images: int, told: Told) -> str:
    """The `evaluate` command that measures as many samples against the same drawn shapes."""
    own = {"metric": "fid", "data": SHAPES, "num_images": num_images}
    return command_line(request, "evaluation", told.checkpoints, "evaluate", **own)


def refuse_excess(num_images: int, num_inference_steps: int, local: bool) -> None:
    """UserError for more work than this page does for anybody."""
    if num_images > MOST_SAMPLES:
        raise UserError(f"the page draws at most {MOST_SAMPLES} samples; the command `evaluate` draws more")
    if not local and num_images * num_inference_steps > MOST_CALLS:
        raise UserError(
            f"samples times steps may be {MOST_CALLS:,} on a public page; "
            f"got {num_images * num_inference_steps:,}: take fewer of either"
        )


def refuse_parquet(uploads: list[str] | None, local: bool) -> None:
    """UserError for a parquet file of a stranger, of which a few bytes may stand for gigabytes of cells."""
    if not local and any(file.lower().endswith(".parquet") for file in uploads or ()):
        raise UserError("a public page reads no parquet files; upload the pictures, or a .zip of them")


def place(at: Any) -> str:
    """A Stage and how far it is, once it is: a count, or of a total of 1 a share."""
    far = f"{at.done:.0%}" if at.total == 1 else f"{at.done:g} of {at.total:g}"
    return f"{at.what[:1].upper()}{at.what[1:]}" + (f": {far}" if at.done else "")
