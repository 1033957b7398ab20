"""Sample: images from pure noise (algorithm 2)."""

__all__ = ["build"]

from collections.abc import Iterator

import gradio as gr

from ddpm_app.engine import SampleRequest
from ddpm_app.models import DEFAULT_MODEL
from ddpm_app.pictures import sheet
from ddpm_app.ui.controls import Shared, chain_controls, explain, run_buttons
from ddpm_app.ui.results import Results, finished, note, preview, results
from ddpm_app.ui.sessions import Clock, bar, spoken

ABOUT = r"""Every picture starts as pure noise, and each reverse step takes a little of it away
until an image is left. You watch $x_t$ on its way to $x_0$.

$$x_{t-1} = \mu_\theta(x_t, t) + \sigma_t z, \qquad z \sim \mathcal N(0, I)$$"""


def build(shared: Shared) -> Results:
    """Lays the tab out and wires it."""

    @spoken
    def sample(
        model: str,
        num_images: int,
        sampler: str,
        num_inference_steps: int,
        eta: float,
        variance_type: str,
        seed: int,
        timestep_spacing: str,
        precision: str,
        request: gr.Request,
    ) -> Iterator[tuple]:
        """Draws images from noise; the last update has them all with their recipes."""
        wanted = SampleRequest(
            model=model,
            sampler=sampler,
            num_inference_steps=num_inference_steps,
            eta=eta,
            variance_type=variance_type,
            timestep_spacing=timestep_spacing,
            num_images=num_images,
            seed=seed,
            precision=precision,
        )
        clock = Clock()
        with shared.sessions.run(request, "sample") as token:
            yield note(bar("Loading the model", 0))
            shared.engine.model(model, precision)
            clock.start()
            for frame in shared.engine.run(wanted, token):
                if clock.due(frame.step, frame.num_steps):
                    yield preview(clock.line(), sheet(frame.images))
        if token.cancelled:
            yield note(clock.stopped())
            return
        done = clock.finished(f"{wanted.num_images} pictures")
        captions = [f"seed {own}" for own in wanted.seeds]
        yield finished(done, sheet(frame.images), frame.images, captions, [wanted])

    explain(ABOUT)
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            start = run_buttons(shared, "sample", "Generate")
            num_images = gr.Slider(1, 64, value=16, step=1, label="Images")
            chain = chain_controls(shared, "ddim", 50)
        with gr.Column(scale=2, min_width=300):
            made_before = shared.engine.checkpoints / DEFAULT_MODEL / "samples.png"
            shown = results(
                "Sheet",
                str(made_before) if made_before.exists() else None,
                bar(f"Made earlier by {DEFAULT_MODEL}: press Generate for new ones", 0),
            )
    start.click(
        sample,
        [shared.model, num_images, *chain.inputs],
        shown.outputs,
        api_name="sample",
        show_progress="hidden",
        concurrency_id="device",
    )
    return shown
