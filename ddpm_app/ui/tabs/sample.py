"""Sample: images from pure noise (algorithm 2)."""

__all__ = ["build"]

from collections.abc import Iterator

import gradio as gr

from ddpm_app.core.langevin import DEFAULT_SNR
from ddpm_app.engine import SampleRequest, visits
from ddpm_app.models import DEFAULT_MODEL
from ddpm_app.pictures import counted, sheet
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.controls import Shared, chain_controls, explain, requested
from ddpm_app.ui.loading import loading, measuring
from ddpm_app.ui.results import Results, Update, results
from ddpm_app.ui.sessions import bar, spoken

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
        rederive_eps: bool,
        langevin_steps: int,
        langevin_snr: float,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Draws images from noise; the last update has them all with their recipes."""
        wanted = requested(SampleRequest, locals())
        with shared.sessions.run(request, "sample") as run:
            loaded = yield from loading(shared, shown.status, run, model, precision)
            yield from measuring(shared, shown.status, run, wanted)
            run.clock.start()
            for frame in shared.engine.run(wanted, run.token):
                if run.clock.due(frame.step, frame.num_steps):
                    yield shown.preview(run.clock.line(), sheet(frame.images))
        done = run.clock.finished(
            counted(wanted.num_images), f"visited {visits(wanted, loaded)}, computed by {loaded.backend}"
        )
        captions = [f"seed {own}" for own in wanted.seeds]
        told = shared.forms["sample"].told(locals())
        yield shown.finished(done, sheet(frame.images), frame.images, captions, [wanted], told=told)

    explain(ABOUT, "sample")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Generate")
            num_images = gr.Slider(1, 64, value=16, step=1, label="Images")
            chain = chain_controls(shared, "sde-dpmsolver++", 20)
            with gr.Accordion("Langevin corrector", open=False):
                langevin_steps = gr.Slider(
                    0,
                    20,
                    value=0,
                    step=1,
                    label="Langevin steps",
                    info="after each reverse step but the last",
                )
                langevin_snr = gr.Slider(
                    0.01, 1, value=DEFAULT_SNR, step=0.01, label="r", info="signal-to-noise ratio of each"
                )
        with gr.Column(scale=2, min_width=300):
            made_before = shared.engine.checkpoints / DEFAULT_MODEL / "samples.png"
            shown = results(
                "Sheet",
                str(made_before) if made_before.exists() else None,
                bar(f"Made earlier by {DEFAULT_MODEL}: press Generate for new ones", 0),
            )
    inputs = [shared.model, num_images, *chain.inputs, chain.rederive_eps, langevin_steps, langevin_snr]
    shown.share(buttons.wire(shared, "sample", sample, inputs, shown.outputs))
    return shown
