"""One picture noised by the linear and by the cosine schedule (Nichol and Dhariwal 2021, figures 3 and 5)."""

__all__ = ["build"]

import gradio as gr
import torch

from ddpm_app.core.schedules import SCHEDULES
from ddpm_app.engine import ForwardRequest
from ddpm_app.errors import UserError
from ddpm_app.ui.buttons import linked, refusals_kept
from ddpm_app.ui.code import code_block, measured
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, explain
from ddpm_app.ui.figures import figure
from ddpm_app.ui.files import picture_file
from ddpm_app.ui.givens import examples, offer_examples, own_or_given, picture_input
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.openings import open_with
from ddpm_app.ui.results import Update, crisp, status_line
from ddpm_app.ui.sessions import bar, spoken
from ddpm_app.ui.tabs.forward import curves

ABOUT = r"""The linear schedule drowns a small picture early and spends its last steps on noise alone; the
cosine schedule takes the picture away evenly.

$$\begin{gathered} \bar\alpha_t = \tfrac{f(t)}{f(0)}, \quad s = 0.008 \\
f(t) = \cos^2\Bigl(\tfrac{t/T + s}{1 + s} \cdot \tfrac{\pi}{2}\Bigr) \end{gathered}$$"""
SHARE = "ᾱ"


def build(shared: Shared) -> None:
    """Lays the experiment out and wires it."""

    @spoken
    def schedules(
        model: str, chosen: list[str], seed: int, request: gr.Request, picture: str | None = None
    ) -> Update:
        """One picture at t = 0, 125, ..., 1000 by the same noise, a row for each schedule."""
        some(chosen)
        with shared.sessions.run(request, "schedules") as run:
            (x_0,) = own_or_given(shared, model, [picture], seed, run.token)
            wanted = [ForwardRequest(picture=x_0, schedule=name, seed=seed) for name in chosen]
            rows = torch.cat([shared.engine.forward(each) for each in wanted])
        steps = wanted[0].diffusion_steps
        drawing = figure(
            list(rows), chosen, {f"t = {step}": 1 for step in steps}, (x_0.shape[1], x_0.shape[2])
        )
        recipe = {"procedure": "schedules", "schedules": chosen, "diffusion_steps": steps, "seed": seed}
        told = shared.forms["schedules"].told(locals(), picture=x_0)
        return {
            status: bar(f"{len(chosen)} schedules, the same noise", 1),
            shown: picture_file(drawing, "schedules", recipe | told.recipe),
            code: measured(told),
        }

    explain(ABOUT, "schedules")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            start = gr.Button("Add noise", variant="primary")
            picture = picture_input("Picture (empty: the model's own)", next(iter(examples(shared)), None))
            offer_examples(shared, picture)
            chosen = gr.CheckboxGroup(list(SCHEDULES), value=["linear", "cosine"], label="Schedules")
            seed = gr.Number(7, label="Seed of the noise", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press the button: a row for each schedule appears here", 0))
            shown = crisp("One picture, noised further from left to right", enlarged=True)
            gr.LinePlot(
                curves(SHARE),
                x="t",
                y=SHARE,
                color="schedule",
                title="Share of the picture left, ᾱ (figure 5)",
                height=300,
            )
            link = link_button()
            code = code_block()
    inputs, outputs = [shared.model, chosen, seed, picture], [status, shown, code]
    form = linked(shared, "schedules", schedules, inputs, start, chosen=some)
    copies_link(link, form)
    open_with("schedules", outputs, str(start.value))
    gr.on(
        [start.click, form.go.change],
        refusals_kept(schedules, status),
        inputs,
        outputs,
        api_name="schedules",
        show_progress="hidden",
        concurrency_id="device",
    )


def some(chosen: list[str]) -> None:
    """UserError unless there is a schedule to draw, and each but once."""
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"choose at least one schedule of {', '.join(SCHEDULES)}, each once")
