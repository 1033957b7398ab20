"""Stochastic x_0: one frozen x_t, many images (figure 7)."""

__all__ = ["build"]

from collections.abc import Iterator

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.engine import DETERMINISTIC, EVERY_SAMPLER, Frame, StochasticRequest, visits
from ddpm_app.pictures import counted, heat_map, read_picture, sheet, to_picture
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.controls import Shared, chain_controls, explain, requested, spans_chain
from ddpm_app.ui.files import picture_file
from ddpm_app.ui.givens import offer_examples, picture_input
from ddpm_app.ui.levels import paper_t, tell_noise_level
from ddpm_app.ui.loading import loading, measuring
from ddpm_app.ui.results import Results, Update, crisp, results
from ddpm_app.ui.sessions import spoken

ABOUT = r"""Stop the chain at one $x_t$ and let it finish many times from there with fresh noise: what all
the pictures share was already decided at $t$. The last tile is the shared $x_t$.

$$x_0^{(k)} \sim p_\theta(x_0 \mid x_t)$$"""
ALIKE = "DDIM with eta = 0 draws no noise, so all continuations of one x_t are the same picture."
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
        rederive_eps: bool = True,
    ) -> Iterator[Update]:
        """Draws many x_0 from one x_t, and shows where they differ."""
        with shared.sessions.run(request, "stochastic") as run:
            loaded = yield from loading(shared, shown.status, run, model, precision)
            given = None if picture is None else read_picture(picture, loaded.image_shape)
            wanted = requested(StochasticRequest, locals(), picture=given)
            yield from measuring(shared, shown.status, run, wanted)
            run.clock.start()
            for frame in shared.engine.run(wanted, run.token):
                if run.clock.due(frame.step, frame.num_steps):
                    yield shown.preview(run.clock.line(stage(frame)), sheet(tiles(frame)))
        captions = [f"x₀ {k + 1}" for k in range(wanted.num_images)]
        done = run.clock.finished(
            f"{counted(wanted.num_images, 'continuation')} of one x_t at t = {wanted.diffusion_steps}",
            f"visited {visits(wanted, loaded)}, computed by {loaded.backend}"
            + (f". {ALIKE}" if alike(sampler, eta) else ""),
        )
        begun = {} if given is None else {"picture": given}
        told = shared.forms["stochastic"].told(locals(), **begun)
        recipe = wanted.recipe() | {"procedure": "spread"} | told.recipe
        heat = picture_file(spread(frame.images), "spread", recipe)
        picture_of_all = sheet(tiles(frame))
        yield shown.finished(
            done, picture_of_all, frame.images, captions, [wanted], told=told, others=[heat]
        ) | {difference: heat}

    explain(ABOUT, "stochastic")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Continue")
            steps = spans_chain(shared, gr.Slider(1, 1000, value=750, step=1, label="Frozen at t"))
            tell_noise_level(shared, steps)
            presets = gr.Radio(list(PAPER_STEPS), value=750, label="As in the paper", elem_classes="presets")
            picture = picture_input("Picture to noise (empty: a chain from noise)")
            offer_examples(shared, picture)
            num_images = gr.Slider(1, 24, value=8, step=1, label="Continuations")
            warning = gr.Markdown(ALIKE, visible=False)
            noisy = [name for name in EVERY_SAMPLER if name not in DETERMINISTIC]
            chain = chain_controls(shared, "ddpm", 100, eta=1.0, first_seed=9, offered=noisy)
        with gr.Column(scale=2, min_width=300):
            shown = results("Continuations, and last the shared x_t")
            difference = crisp(
                "Where they differ: standard deviation of each pixel, bright is large", small=True, late=True
            )

    def length(model: str) -> int:
        loaded = shared.engine.loaded(model)  # to wait for it would hold up the page's other handlers
        return len(loaded.diffusion) if loaded else 1000

    def placed(t: int, model: str) -> int:
        return paper_t(t, length(model))

    def preset(t: int, model: str) -> int | None:
        return next((each for each in PAPER_STEPS if paper_t(each, length(model)) == t), None)

    presets.input(placed, [presets, shared.model], steps, queue=False, api_visibility="private")
    steps.change(preset, [steps, shared.model], presets, queue=False, api_visibility="private")
    for changed in (chain.sampler, chain.eta):
        changed.change(
            lambda *chosen: gr.update(visible=alike(*chosen)),
            [chain.sampler, chain.eta],
            warning,
            queue=False,
            api_visibility="private",
        )
    inputs = [shared.model, steps, num_images, *chain.inputs, picture, chain.rederive_eps]
    outputs = [*shown.outputs, difference]
    shown.share(buttons.wire(shared, "stochastic", stochastic, inputs, outputs, StochasticRequest))
    return shown, picture


def alike(sampler: str, eta: float) -> bool:
    """Whether no step draws noise, so that one x_t leads to one x_0."""
    return sampler == "ddim" and eta == 0


def stage(frame: Frame) -> str:
    """Where the run stands, above the frozen x_t or below it."""
    part = "one chain down to the frozen x_t" if frame.shared is None else "from the frozen x_t"
    return f"{part}, step {frame.step} of {frame.num_steps}"


def tiles(frame: Frame) -> Tensor:
    """The images, with the shared x_t in the last place once there is one, as figure 7 has it."""
    return frame.images if frame.shared is None else torch.cat([frame.images, frame.shared_images])


def spread(images: Tensor) -> Image.Image:
    """The standard deviation of each pixel over the images as a heat map, the largest at full heat."""
    deviation = images.float().std(dim=0, unbiased=False).mean(0)
    return to_picture(heat_map(deviation / deviation.max().clamp(min=1)))
