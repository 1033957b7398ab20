"""Pictures encoded as x_T by DDIM run upwards, and drawn from it again (Song et al. 2020, table 2)."""

__all__ = ["build"]

from collections.abc import Iterator, Sequence

import gradio as gr
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.core.diffusion import Spacing
from ddpm_app.core.images import from_uint8
from ddpm_app.core.inversion import TABLE_2, reconstruction_error
from ddpm_app.engine import Frame, ReconstructRequest
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.code import code_block, measured
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, explain
from ddpm_app.ui.figures import figure
from ddpm_app.ui.files import picture_file
from ddpm_app.ui.givens import offer_examples, own_or_given, picture_input
from ddpm_app.ui.grids import step_counts, steps_control, within_chain
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Update, crisp, status_line
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""Run upwards, DDIM turns a picture into the very noise $x_T$ that it can be drawn from; run down
again, it gives the picture back. More and shorter steps follow the curve more closely, and the error falls.

$$\begin{gathered} \bar x_{t+1} = \bar x_t + (\bar\sigma_{t+1} - \bar\sigma_t)\,\epsilon_\theta(x_t, t) \\
\bar x = \tfrac{x}{\sqrt{\bar\alpha}}, \;\;
\bar\sigma = \sqrt{\tfrac{1 - \bar\alpha}{\bar\alpha}} \end{gathered}$$"""
OWN_PICTURES = 4
HEADERS = ["S", "this model", "the paper, CIFAR-10"]
SPACINGS: list[tuple[str, Spacing]] = [
    ("from the lowest t, as in the paper", "leading"),
    ("up to T", "trailing"),
]


def build(shared: Shared) -> gr.Image:
    """Lays the experiment out and wires it; the image is where a picture may be sent."""

    @spoken
    def reconstruct(
        model: str,
        steps: list[int],
        timestep_spacing: str,
        seed: int,
        request: gr.Request,
        picture: str | None = None,
    ) -> Iterator[Update]:
        """Encodes and reconstructs at each number of steps, a row each; the table has the errors."""
        counts = step_counts(steps)
        whole_way, before = 2 * sum(counts), 0
        done: list[Frame] = []
        with shared.sessions.run(request, "reconstruct") as run:
            within_chain(counts, (yield from loading(shared, status, run, model)))
            run.clock.start()
            files: list[str | None] = [picture] if picture else [None] * OWN_PICTURES
            pictures = own_or_given(shared, model, files, seed, run.token)
            for count in counts:
                wanted = ReconstructRequest(
                    model=model,
                    pictures=tuple(pictures),
                    num_inference_steps=count,
                    timestep_spacing=timestep_spacing,
                    seed=seed,
                )
                for frame in shared.engine.run(wanted, run.token):
                    if run.clock.due(before + frame.step, whole_way):
                        drawing = rows(pictures, [*done, frame], counts)
                        yield {status: run.clock.line(), shown: picture_file(drawing, "preview")}
                before += 2 * count
                done.append(frame)
                yield {table: errors(pictures, done, counts)}
        begun = {"picture": pictures[0]} if picture else {}
        told = shared.forms["reconstruct"].told(locals(), **begun)
        recipe = wanted.recipe() | {"procedure": "reconstruct", "steps": counts} | told.recipe
        yield {
            status: run.clock.finished(f"{len(counts) * len(pictures)} reconstructions"),
            shown: picture_file(rows(pictures, done, counts), "reconstructed", recipe),
            table: errors(pictures, done, counts),
            code: measured(told),
        }

    explain(ABOUT, "reconstruct")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Encode")
            picture = picture_input(f"Picture (empty: {OWN_PICTURES} of the model's own)")
            offer_examples(shared, picture)
            steps = steps_control([10, 20, 50])
            spacing = gr.Dropdown(SPACINGS, value="leading", label="Which timesteps are visited")
            seed = gr.Number(7, label="Seed of the model's own", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press Encode: pictures turn into noise and come back", 0))
            shown = crisp("Encoded as x_T, and drawn from it again", enlarged=True)
            table = gr.Dataframe(
                headers=HEADERS, label="Mean squared error, pixels in [0, 1]", interactive=False
            )
            link = link_button()
            code = code_block()
    inputs = [shared.model, steps, spacing, seed, picture]
    outputs = [status, shown, table, code]
    copies_link(link, buttons.wire(shared, "reconstruct", reconstruct, inputs, outputs, steps=step_counts))
    return picture


def rows(pictures: Sequence[Tensor], frames: Sequence[Frame], counts: Sequence[int]) -> Image.Image:
    """The pictures, and under them for each number of steps their x_T and what came back of them."""
    tiles: list[Tensor | None] = [*[None] * len(pictures), *pictures]
    for frame in frames:
        if frame.shared is None:  # still on its way up
            tiles += [*frame.images, *[None] * len(pictures)]
        else:
            tiles += [*frame.shared_images, *frame.images]
    labels = ["picture", *(f"S = {count}" for count in counts)]
    blocks = {"x_T": len(pictures), "drawn from x_T": len(pictures)}
    return figure(tiles, labels, blocks, (pictures[0].shape[1], pictures[0].shape[2]))


def errors(pictures: Sequence[Tensor], frames: Sequence[Frame], counts: Sequence[int]) -> pd.DataFrame:
    """The error at each number of steps so far, beside that of the paper where it has one."""
    x_0 = from_uint8(torch.stack(list(pictures)))
    means = [reconstruction_error(x_0, frame.x_t.cpu()).mean().item() for frame in frames]
    lines = [
        (count, f"{mean:.5f}", f"{TABLE_2[count]:g}" if count in TABLE_2 else "")
        for count, mean in zip(counts, means, strict=False)
    ]
    return pd.DataFrame(lines, columns=HEADERS)
