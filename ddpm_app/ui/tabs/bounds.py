"""Bits per dimension under ever fewer steps (Nichol and Dhariwal 2021, section 4)."""

__all__ = ["build"]

import math
from collections.abc import Iterator

import gradio as gr
import pandas as pd

from ddpm_app.engine import BoundsReport, BoundsRequest
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.code import code_block, measured
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, explain
from ddpm_app.ui.givens import offer_examples, own_or_given, picture_input
from ddpm_app.ui.grids import step_counts, steps_control
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Update, lines, status_line
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""The bound on one picture, all $S$ terms of it, when the chain visits fewer timesteps. The better
the variance fits such long steps, the fewer bits they cost.

$$\begin{gathered} L(S) = L_T + \textstyle\sum_{i=2}^{S} L_{i-1} + L_0 \\
L_{i-1} = D_{\mathrm{KL}}\bigl(q(x_{\tau_{i-1}} | x_{\tau_i}, x_0) \,\|\,
p_\theta(x_{\tau_{i-1}} | x_{\tau_i})\bigr)
\end{gathered}$$"""
X, Y = "log10 S", "bits/dim"


def build(shared: Shared) -> None:
    """Lays the experiment out and wires it."""

    @spoken
    def bounds(
        model: str, steps: list[int], seed: int, request: gr.Request, picture: str | None = None
    ) -> Iterator[Update]:
        """Measures the bound under each number of steps, with every variance that the model supports."""
        counts = step_counts(steps)
        with shared.sessions.run(request, "bounds") as run:
            yield from loading(shared, status, run, model)
            run.clock.start()
            (x_0,) = own_or_given(shared, model, [picture], seed, run.token)
            wanted = BoundsRequest(model=model, picture=x_0, steps=tuple(counts), seed=seed)
            complete = 0
            for report in shared.engine.measure(wanted, run.token):
                if run.clock.due(report.step, report.num_steps) or len(report.bounds) > complete:
                    complete = len(report.bounds)
                    yield {status: run.clock.line(), **drawn(report)}
        told = shared.forms["bounds"].told(locals(), picture=x_0)
        yield {
            status: run.clock.finished(f"{complete} bounds"),
            code: measured(told),
            **drawn(report),
        }

    def drawn(report: BoundsReport) -> Update:
        # a plot that was once given no points would take its numbers for names
        return {table: numbers(report), plot: lines(curves(report), "variance")} if report.bounds else {}

    explain(ABOUT, "bounds")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Measure")
            picture = picture_input("Picture (empty: the model's own)")
            offer_examples(shared, picture)
            steps = steps_control([25, 50, 100, 200])
            seed = gr.Number(7, label="Seed", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press Measure: a row for each number of steps appears here", 0))
            table = gr.Dataframe(
                headers=["S", "fixed_small", "fixed_large"],
                label="bits/dim of the picture",
                interactive=False,
            )
            plot = gr.LinePlot(x=X, y=Y, color="variance", title="bits/dim over log10 S", height=300)
            link = link_button()
            code = code_block()
    inputs = [shared.model, steps, seed, picture]
    outputs = [status, table, plot, code]
    copies_link(link, buttons.wire(shared, "bounds", bounds, inputs, outputs, steps=step_counts))


def numbers(report: BoundsReport) -> pd.DataFrame:
    """A row for each number of steps, a column for each variance."""
    rows: dict[int, dict[str, int | str]] = {}
    for bound in report.bounds:
        row = rows.setdefault(bound.num_inference_steps, {"S": bound.num_inference_steps})
        row[bound.variance_type] = f"{bound.bits_per_dim:.3f}"
    return pd.DataFrame(list(rows.values()))


def curves(report: BoundsReport) -> pd.DataFrame:
    """The same as points."""
    points = [
        {
            X: round(math.log10(bound.num_inference_steps), 3),
            Y: round(bound.bits_per_dim, 4),
            "variance": bound.variance_type,
        }
        for bound in report.bounds
    ]
    return pd.DataFrame(points)
