"""Likelihood: the bound on -log p(x_0) of one picture, in bits per dimension (eq. 5)."""

__all__ = ["build"]

from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.engine import LikelihoodReport, LikelihoodRequest
from ddpm_app.pictures import heat_map, sheet
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.code import code_block, measured
from ddpm_app.ui.controls import SEEDS_ALIKE, VARIANCES, Shared, explain, requested
from ddpm_app.ui.files import picture_file
from ddpm_app.ui.givens import examples, offer_examples, own_or_given, picture_input
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Update, crisp, status_line
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""How many bits would this picture cost if the model had to send it? The bound adds up what each
reverse step still has to tell; most of it is detail too fine to see.

$$L = L_T + \sum_{t>1} L_{t-1} + L_0$$"""


def build(shared: Shared) -> gr.Image:
    """Lays the tab out and wires it; the image is where a picture may be sent."""

    @spoken
    def likelihood(
        model: str,
        num_terms: int,
        variance_type: str,
        seed: int,
        request: gr.Request,
        picture: str | None = None,
        num_draws: int = 4,
    ) -> Iterator[Update]:
        """Measures the bound's terms one by one; the table and the curve grow while it works."""
        with shared.sessions.run(request, "likelihood") as run:
            yield from loading(shared, status, run, model)
            run.clock.start()
            (x_0,) = own_or_given(shared, model, [picture], seed, run.token)
            wanted = requested(LikelihoodRequest, locals(), picture=x_0)
            told = shared.forms["likelihood"].told(locals(), picture=x_0)
            recipe = {"procedure": "likelihood"} | told.recipe
            for report in shared.engine.likelihood(wanted, run.token):
                if run.clock.due(report.step, report.num_steps):
                    yield shown(run.clock.line(), report, x_0, recipe)
            length = len(shared.engine.model(model).diffusion)
        done = run.clock.finished(
            f"{report.bits_per_dim:.3f} bits/dim",
            f"{report.step} of {length} timesteps measured; in the map the brightest pixel costs "
            f"{report.bits_per_pixel.max():.3g} bits, the mean one {report.bits_per_pixel.mean():.3g}",
        )
        yield shown(done, report, x_0, recipe) | {code: measured(told)}

    def shown(line: str, report: LikelihoodReport, x_0: Tensor, recipe: dict[str, Any]) -> Update:
        heat = picture_file(beside_its_bits(x_0, report), "bits-per-pixel", recipe)
        return {status: line, terms: table(report), plot: curve(report), where: heat}

    explain(ABOUT, "likelihood")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Measure")
            picture = picture_input("Picture (empty: the model's own)", next(iter(examples(shared)), None))
            offer_examples(shared, picture)
            num_terms = gr.Slider(2, 1000, value=50, step=1, label="Timesteps measured")
            num_draws = gr.Slider(
                1,
                16,
                value=4,
                step=1,
                label="Draws of the noise at each",
                info="many calm the map; one leaves the noise out of ±",
            )
            variance = gr.Dropdown(VARIANCES, value="auto", label="Reverse variance")
            seed = gr.Number(7, label="Seed", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press Measure: the bound and its terms appear here", 0))
            terms = gr.Dataframe(
                headers=["part", "bits/dim"],
                label="The bound",
                interactive=False,
                wrap=True,  # or a phone would show no number
                column_widths=["65%", "35%"],
            )
            where = crisp("The picture, and its bits per pixel: black is 0, pale yellow the most", small=True)
            plot = gr.LinePlot(
                x="t", y="log10 bits/dim", title="Each term over t, log10 of bits/dim", height=300
            )
            link = link_button()
            code = code_block()
    inputs = [shared.model, num_terms, variance, seed, picture, num_draws]
    outputs = [status, terms, plot, where, code]
    copies_link(link, buttons.wire(shared, "likelihood", likelihood, inputs, outputs, LikelihoodRequest))
    return picture


def table(report: LikelihoodReport) -> pd.DataFrame:
    """The bound and its three parts, with their standard errors."""

    def known(bits: float, error: float) -> str:
        return f"{bits:.3f} ± {error:.3f}" if error else f"{bits:.3f}"

    return pd.DataFrame(
        [
            ["L_T: what the noise still knows", f"{report.prior_bpd:.2e}"],
            ["L_1 + ... + L_{T-1}: the reverse steps", known(report.vb_bpd, report.vb_error)],
            ["L_0: the last step, pixel by pixel", known(report.decoder_bpd, report.decoder_error)],
            ["bits/dim", known(report.bits_per_dim, report.standard_error)],
        ],
        columns=["part", "bits/dim"],
    )


def beside_its_bits(x_0: Tensor, report: LikelihoodReport) -> Image.Image:
    """The picture and the heat map of what each of its pixels costs, the dearest at full heat."""
    bits = report.bits_per_pixel
    return sheet(torch.stack([x_0.expand(3, -1, -1), heat_map((bits / bits.max()).float())]), columns=2)


def curve(report: LikelihoodReport) -> pd.DataFrame:
    """The measured terms over the paper's t."""
    rows = sorted(zip(report.timesteps, report.terms, strict=True))
    frame = pd.DataFrame(rows, columns=["t", "bits"])
    logarithm = np.log10(frame["bits"].clip(lower=1e-12))
    return pd.DataFrame({"t": frame["t"] + 1, "log10 bits/dim": logarithm.round(3)})
