"""A grid of pictures on the sphere between the x_T of four seeds (Song et al. 2020, section 5.3)."""

__all__ = ["build"]

from collections.abc import Iterator

import gradio as gr
import torch

from ddpm_app.engine import SlerpGridRequest, visits
from ddpm_app.engine.ddim import MAX_EDGE
from ddpm_app.pictures import counted, sheet
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, explain, spans_chain
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Results, Update, results
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""The corners are four seeds; every place between them has an $x_T$ of its own on the sphere that
joins theirs, at the angle $\theta$. Since $x_T$ alone decides the picture, neighbours resemble each other.

$$x_T^{(\lambda)} = \frac{\sin((1 - \lambda)\theta)}{\sin\theta}\,x_T
+ \frac{\sin(\lambda\theta)}{\sin\theta}\,x_T'$$"""


def build(shared: Shared) -> Results:
    """Lays the experiment out and wires it."""

    @spoken
    def latent_grid(
        model: str, edge: int, num_inference_steps: int, seed: int, request: gr.Request
    ) -> Iterator[Update]:
        """Draws the square between seed, seed + 1, seed + 2 and seed + 3 by deterministic DDIM."""
        wanted = SlerpGridRequest(model=model, edge=edge, num_inference_steps=num_inference_steps, seed=seed)
        with shared.sessions.run(request, "latent_grid") as run:
            loaded = yield from loading(shared, shown.status, run, model)
            run.clock.start()
            for frame in shared.engine.run(wanted, run.token):
                if run.clock.due(frame.step, frame.num_steps):
                    yield shown.preview(run.clock.line(), sheet(frame.images, columns=wanted.edge))
        done = run.clock.finished(
            counted(wanted.num_images), f"visited {visits(wanted, loaded)}, computed by {loaded.backend}"
        )
        weights = torch.linspace(0, 1, wanted.edge).tolist()
        captions = [f"{down:.2f}, {across:.2f}" for down in weights for across in weights]
        picture = sheet(frame.images, columns=wanted.edge)
        told = shared.forms["latent_grid"].told(locals())
        yield shown.finished(
            done, picture, frame.images, captions, [wanted], told=told, procedure="latent_grid"
        )

    explain(ABOUT, "latent_grid")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Draw the grid")
            edge = gr.Slider(2, MAX_EDGE, value=6, step=1, label="Pictures along each side")
            steps = spans_chain(shared, gr.Slider(1, 1000, value=20, step=1, label="Reverse steps"))
            seed = gr.Number(7, label="First of four seeds", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            shown = results(
                "Four seeds at the corners",
                status=bar("Press Draw the grid: all pictures appear out of noise together", 0),
            )
    inputs = [shared.model, edge, steps, seed]
    shown.share(buttons.wire(shared, "latent_grid", latent_grid, inputs, shown.outputs, SlerpGridRequest))
    return shown
