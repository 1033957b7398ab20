"""The same seeds in few steps with each reverse variance (Nichol and Dhariwal 2021, section 4)."""

__all__ = ["build"]

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import torch

from ddpm_app.core.analytic import ANALYTIC
from ddpm_app.engine import SampleRequest
from ddpm_app.engine.improved import variance_types
from ddpm_app.models import Model
from ddpm_app.pictures import counted
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, explain
from ddpm_app.ui.grids import StepGrid, step_counts, steps_control
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Results, Update, results
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""A chain that visits few timesteps $\tau_i$ has large $\beta'$, and there the choice of the reverse
variance tells: the large one leaves noise behind. All blocks share their seeds.

$$\beta'_i = 1 - \bar\alpha_{\tau_i} / \bar\alpha_{\tau_{i-1}}$$"""
TITLES = {"fixed_small": "small", "fixed_large": "large", ANALYTIC: "analytic", "learned_range": "learned"}


def kinds_of(loaded: Model) -> list[str]:
    """The variances that are compared, in the order of their blocks."""
    return [kind for kind in TITLES if kind in (*variance_types(loaded), ANALYTIC)]


def build(shared: Shared) -> Results:
    """Lays the experiment out and wires it."""

    @spoken
    def respacing(
        model: str, steps: list[int], num_images: int, seed: int, request: gr.Request
    ) -> Iterator[Update]:
        """Draws the same seeds by DDPM steps with each variance that the model supports, a block each."""
        counts = step_counts(steps)
        plain = SampleRequest(model=model, sampler="ddpm", num_images=num_images, seed=seed)
        with shared.sessions.run(request, "respacing") as run:
            kinds = kinds_of((yield from loading(shared, shown.status, run, model)))
            blocks = {TITLES[kind]: replace(plain, variance_type=kind) for kind in kinds}
            grid = StepGrid(blocks, counts)
            images = yield from grid.drawn(shared, shown, run)
        learned = "" if "learned_range" in kinds else "this model learned no variance: see mnist-28-hybrid"
        yield shown.finished(
            run.clock.finished(counted(len(grid.captions)), learned),
            grid.picture(images),
            torch.cat(images),
            grid.captions,
            grid.requests,
            told=shared.forms["respacing"].told(locals()),
            procedure="respacing",
        )

    explain(ABOUT, "respacing")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Compare variances")
            steps = steps_control([10, 25])
            num_images = gr.Slider(1, 8, value=3, step=1, label="Seeds, a column each")
            seed = gr.Number(7, label="First seed", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            shown = results(
                "Rows: steps S. Blocks: reverse variances",
                status=bar("Press Compare variances: one row after another appears here", 0),
                enlarged=True,
            )
    inputs = [shared.model, steps, num_images, seed]
    shown.share(buttons.wire(shared, "respacing", respacing, inputs, shown.outputs, steps=step_counts))
    return shown
