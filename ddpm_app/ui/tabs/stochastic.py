"""Stochastic x_0: one frozen x_t, many images (figure 7)."""

__all__ = ["build"]

from collections.abc import Iterator

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.engine import StochasticRequest
from ddpm_app.pictures import heat_map, read_picture, sheet, to_picture
from ddpm_app.ui.controls import (
    Shared,
    chain_controls,
    explain,
    offer_examples,
    picture_input,
    run_buttons,
    spans_chain,
)
from ddpm_app.ui.results import Results, crisp, finished, note, preview, results
from ddpm_app.ui.sessions import Clock, bar, spoken

ABOUT = r"""Stop the chain at one $x_t$ and let it finish many times from there with fresh noise: what all
the pictures share was already decided at $t$. The last tile is the shared $x_t$.

$$x_0^{(k)} \sim p_\theta(x_0 \mid x_t)$$"""
PAPER_STEPS = (1000, 750, 500, 250)


def build(shared: Shared) -> tuple[Results, gr.Image]:
    """Lays the tab out and wires it; the image is where a picture may be sent."""

    @spoken
    def stochastic(
        model: str,
        diffusion_steps: int,
        num_images: int,
        sampler: str,
        num_inference_steps: int,
        eta: float,
        variance_type: str,
        seed: int,
        timestep_spacing: str,
        precision: str,
        request: gr.Request,
        picture: str | None = None,
    ) -> Iterator[tuple]:
        """Draws many x_0 from one x_t, and shows where they differ."""
        clock = Clock()
        with shared.sessions.run(request, "stochastic") as token:
            yield *note(bar("Loading the model", 0)), gr.skip()
            image_shape = shared.engine.model(model, precision).image_shape
            clock.start()
            wanted = StochasticRequest(
                model=model,
                sampler=sampler,
                num_inference_steps=num_inference_steps,
                eta=eta,
                variance_type=variance_type,
                timestep_spacing=timestep_spacing,
                num_images=num_images,
                seed=seed,
                precision=precision,
                diffusion_steps=diffusion_steps,
                picture=None if picture is None else read_picture(picture, image_shape),
            )
            for frame in shared.engine.run(wanted, token):
                if clock.due(frame.step, frame.num_steps):
                    stage = (
                        "one chain down to the frozen x_t" if frame.shared is None else "from the frozen x_t"
                    )
                    tiles = (
                        frame.images
                        if frame.shared is None
                        else with_shared(frame.images, frame.shared_images)
                    )
                    yield (
                        *preview(
                            clock.line(f"{stage}, step {frame.step} of {frame.num_steps}"), sheet(tiles)
                        ),
                        gr.skip(),
                    )
        if token.cancelled:
            yield *note(clock.stopped()), gr.skip()
            return
        captions = [f"x₀ {k + 1}" for k in range(wanted.num_images)]
        picture_sheet = sheet(with_shared(frame.images, frame.shared_images))
        done = clock.finished(f"{wanted.num_images} continuations of one x_t at t = {wanted.diffusion_steps}")
        shown = finished(done, picture_sheet, frame.images, captions, [wanted])
        yield *shown, spread(frame.images)

    explain(ABOUT)
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            start = run_buttons(shared, "stochastic", "Continue")
            steps = spans_chain(shared, gr.Slider(1, 1000, value=750, step=1, label="Frozen at t"))
            presets = gr.Radio(list(PAPER_STEPS), value=750, label="As in the paper", elem_classes="presets")
            picture = picture_input("Picture to noise (empty: a chain from noise)")
            offer_examples(shared, picture)
            num_images = gr.Slider(1, 24, value=8, step=1, label="Continuations")
            chain = chain_controls(shared, "ddpm", 100, eta=1.0)
        with gr.Column(scale=2, min_width=300):
            shown = results("Continuations, and last the shared x_t")
            difference = crisp(
                "Where they differ: standard deviation of each pixel, bright is large", small=True
            )
    presets.input(lambda t: t, presets, steps, queue=False, api_visibility="private")
    steps.input(
        lambda t: t if t in PAPER_STEPS else None, steps, presets, queue=False, api_visibility="private"
    )
    start.click(
        stochastic,
        [shared.model, steps, num_images, *chain.inputs, picture],
        [*shown.outputs, difference],
        api_name="stochastic",
        show_progress="hidden",
        concurrency_id="device",
    )
    return shown, picture


def with_shared(images: Tensor, shared: Tensor) -> Tensor:
    """The images with the shared x_t in the last place, as figure 7 has it."""
    return torch.cat([images, shared])


def spread(images: Tensor) -> Image.Image:
    """The standard deviation of each pixel over the images as a heat map, the largest at full heat."""
    deviation = images.float().std(dim=0, unbiased=False).mean(0)
    return to_picture(heat_map(deviation / deviation.max().clamp(min=1)))
