"""Pictures written as one message of bits, and read from it again without loss, by bits-back coding."""

__all__ = ["build"]

import math
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.engine import CodingReport, CodingRequest
from ddpm_app.engine.checks import whole
from ddpm_app.evaluation import png_bits
from ddpm_app.pictures import sheet
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.code import code_block, measured
from ddpm_app.ui.controls import SEEDS_ALIKE, VARIANCES, Shared, explain, requested
from ddpm_app.ui.files import picture_file
from ddpm_app.ui.givens import examples, offer_examples, own_or_given, picture_input
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Update, crisp, status_line
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""No ideal lengths here: the bits are written. Each $x_t$ is read *out of* the message by $q$ and
written back by $p_\theta$. What stays is the bound; the first picture has to borrow its random bits.

$$\begin{gathered} \text{bits} = \textstyle\sum_t \log_2 q(x_t | x_{t-1}) \\
{} - \textstyle\sum_t \log_2 p_\theta(x_{t-1} | x_t) - \log_2 p(x_T) \end{gathered}$$"""
HEADERS = ["pictures", "net, bits/dim", "bound", "PNG", "message, bytes", "PNG files, bytes"]
MOST = 16  # pictures
GROUND = 128  # of the last line of a message's picture, beyond its bits


def build(shared: Shared) -> None:
    """Lays the experiment out and wires it."""

    @spoken
    def coding(
        model: str,
        num_images: int,
        num_inference_steps: int,
        variance_type: str,
        seed: int,
        request: gr.Request,
        picture: str | None = None,
    ) -> Iterator[Update]:
        """Packs the pictures one on the other and unpacks them; a line for each says what it took."""
        others: list[str | None] = [None] * (whole("num_images", num_images, 1, MOST) - 1)
        with shared.sessions.run(request, "coding") as run:
            yield from loading(shared, status, run, model)
            run.clock.start()
            pictures = own_or_given(shared, model, [picture, *others], seed, run.token)
            laid = sheet(torch.stack(pictures))
            yield {given: picture_file(laid, "pictures")}
            wanted = requested(CodingRequest, locals(), pictures=tuple(pictures))
            written = 0
            for report in shared.engine.measure(wanted, run.token):
                grown = len(report.packed) > written
                if grown or run.clock.due(report.step, report.num_steps):
                    written = len(report.packed)
                    yield {status: run.clock.line()} | (drawn(report, pictures) if grown else {})
        begun = {"picture": pictures[0]} if picture else {}
        told = shared.forms["coding"].told(locals(), **begun)
        recipe = {"procedure": "coding"} | told.recipe
        yield {
            status: run.clock.finished(*summary(report, pictures)),
            given: picture_file(laid, "pictures", recipe),
            **drawn(report, pictures, recipe),
            code: measured(told),
        }

    def drawn(
        report: CodingReport, pictures: Sequence[Tensor], recipe: dict[str, Any] | None = None
    ) -> Update:
        bits = picture_file(bits_drawn(report.message), "message", recipe)
        return {message: bits, rows: table(report, pictures)}

    explain(ABOUT, "coding")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Write the bits")
            picture = picture_input(
                "First picture (empty: the model's own)", next(iter(examples(shared)), None)
            )
            offer_examples(shared, picture)
            num_images = gr.Slider(1, MOST, value=4, step=1, label="Pictures, the others the model's own")
            steps = gr.Slider(2, 1000, value=25, step=1, label="Steps for each picture")
            variance = gr.Dropdown(VARIANCES, value="fixed_small", label="Reverse variance")
            seed = gr.Number(7, label="Seed", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press Write the bits: the message grows here, picture by picture", 0))
            with gr.Row():
                given = crisp("The pictures", small=True)
                message = crisp("The message, a pixel for each bit", small=True)
            rows = gr.Dataframe(headers=HEADERS, label="What the pictures take", interactive=False)
            link = link_button()
            code = code_block()
    inputs = [shared.model, num_images, steps, variance, seed, picture]
    outputs = [status, given, message, rows, code]
    copies_link(link, buttons.wire(shared, "coding", coding, inputs, outputs, CodingRequest))


def bits_drawn(message: bytes) -> Image.Image:
    """The message as a square of black and white, a pixel for each bit, read line by line."""
    bits = 255 * np.unpackbits(np.frombuffer(message, np.uint8))
    edge = math.isqrt(max(len(bits) - 1, 0)) + 1
    square = np.full(edge * math.ceil(len(bits) / edge), GROUND, np.uint8)
    square[: len(bits)] = bits
    return Image.fromarray(square.reshape(-1, edge))


def table(report: CodingReport, pictures: Sequence[Tensor]) -> pd.DataFrame:
    """A line for each number of pictures: what the newest adds, and what all take by then."""
    dimensions, files, lines = pictures[0].numel(), 0, []
    for count, (packed, picture) in enumerate(zip(report.packed, pictures, strict=False), 1):
        png = png_bits(picture)
        files += png // 8
        each = (f"{bits / dimensions:.3f}" for bits in (packed.net_bits, packed.bound_bits, png))
        lines.append([str(count), *each, f"{packed.num_bytes:,}", f"{files:,}"])
    return pd.DataFrame(lines, columns=HEADERS)


def summary(report: CodingReport, pictures: Sequence[Tensor]) -> tuple[str, str]:
    """How many came back, and what was borrowed for that."""
    count, dimensions = len(pictures), pictures[0].numel()
    net = sum(each.net_bits for each in report.packed) / (count * dimensions)
    return (
        f"{report.num_exact} of {count} pictures came back bit for bit",
        f"{net:.3f} bits/dim each; {report.borrowed_bits:,} bits were borrowed once, and are in the message",
    )
