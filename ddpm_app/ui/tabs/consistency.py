"""The same x_T at several numbers of steps (Song et al. 2020, figure 5), with DDPM beside it."""

__all__ = ["build"]

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import torch

from ddpm_app.engine import SampleRequest
from ddpm_app.pictures import counted
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.controls import SAMPLING_VARIANCES, SEEDS_ALIKE, Shared, explain
from ddpm_app.ui.grids import StepGrid, step_counts, steps_control
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Results, Update, results
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""Each column starts from one $x_T$. DDIM with $\eta = 0$ follows the same path in few steps or in
many, so the picture stays and only its details settle; DDPM's fresh noise leads elsewhere every time.

$$\begin{gathered} x_{t-1} = \sqrt{\bar\alpha_{t-1}}\,\hat x_0
+ \sqrt{1 - \bar\alpha_{t-1} - \sigma_t^2}\;\epsilon_\theta + \sigma_t z \\
\sigma_t = \eta \tilde\beta_t^{1/2} \end{gathered}$$"""
NOTHING = "nothing"
BESIDE = [("nothing", NOTHING), *((f"DDPM, {label}", name) for label, name in SAMPLING_VARIANCES)]


def build(shared: Shared) -> Results:
    """Lays the experiment out and wires it."""

    @spoken
    def consistency(
        model: str,
        steps: list[int],
        num_images: int,
        eta: float,
        beside: str,
        seed: int,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Draws the same seeds at each number of steps, a row each; the table compares the rows."""
        ddim = SampleRequest(model=model, num_images=num_images, eta=eta, seed=seed)
        blocks = {f"DDIM, eta = {eta:g}": ddim}
        if beside != NOTHING:
            blocks["DDPM"] = replace(ddim, sampler="ddpm", variance_type=beside)
        grid = StepGrid(blocks, step_counts(steps))
        with shared.sessions.run(request, "consistency") as run:
            loaded = yield from loading(shared, shown.status, run, model)
            images = yield from grid.drawn(shared, shown, run)
        done = run.clock.finished(counted(len(grid.captions)), f"computed by {loaded.backend}")
        yield shown.finished(
            done,
            grid.picture(images),
            torch.cat(images),
            grid.captions,
            grid.requests,
            told=shared.forms["consistency"].told(locals()),
            procedure="consistency",
        ) | {table: grid.distances(images)}

    explain(ABOUT, "consistency")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Compare steps")
            steps = steps_control([10, 20, 50])
            num_images = gr.Slider(1, 8, value=4, step=1, label="Seeds, a column each")
            eta = gr.Slider(0, 1, value=0, step=0.05, label="eta of DDIM", info="0 is deterministic")
            beside = gr.Dropdown(BESIDE, value="auto", label="Beside it")
            seed = gr.Number(7, label="First seed", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            shown = results(
                "Rows: steps S. Columns: seeds",
                status=bar("Press Compare steps: one row after another appears here", 0),
                enlarged=True,
            )
            table = gr.Dataframe(
                headers=["S", "DDIM", "DDPM"],
                label="RMSE (0 to 255) between each row and the last",
                interactive=False,
                elem_classes="late",
            )
    inputs = [shared.model, steps, num_images, eta, beside, seed]
    outputs = [*shown.outputs, table]
    shown.share(buttons.wire(shared, "consistency", consistency, inputs, outputs, steps=step_counts))
    return shown
