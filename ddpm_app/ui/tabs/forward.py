"""Forward: how noise covers a picture (eq. 4), and the schedules that say how fast."""

__all__ = ["build", "drawable"]

from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import from_uint8
from ddpm_app.core.schedules import SCHEDULES
from ddpm_app.engine import ForwardRequest, noise_of
from ddpm_app.pictures import read_picture, sheet
from ddpm_app.ui.buttons import linked, refusals_kept
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, explain
from ddpm_app.ui.files import picture_file
from ddpm_app.ui.forms import Told
from ddpm_app.ui.givens import examples, offer_examples, own_or_given, picture_input
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.packing import packed
from ddpm_app.ui.results import Update, crisp, status_line
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""Noise is added in one stroke: any $x_t$ follows from $x_0$ directly, since sums of normal noise
are normal. Drag $t$, and compare how four schedules spread the same task over 1000 steps.

$$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1 - \bar\alpha_t}\,\epsilon$$"""
NO_PICTURE = (
    "There is no picture yet: drop one in, take an example, or press the button and the model draws one"
)
QUANTITIES = {
    "log10 β": "Variance added, β",
    "ᾱ": "Share of the picture left, ᾱ",
    "log10 SNR": "Signal-to-noise ratio",
    "log10 β̃": "Posterior variance, β̃",
}
UI = Path(__file__).parents[1]


def build(shared: Shared, tab: gr.Tab) -> gr.Image:
    """Lays the tab out and wires it; the image is where a picture may be sent."""

    def noised(x_0: Tensor, diffusion_steps: int, schedule: str, seed: int, told: Told) -> Update:
        here = ForwardRequest(picture=x_0, schedule=schedule, diffusion_steps=(0, diffusion_steps), seed=seed)
        whole = ForwardRequest(picture=x_0, schedule=schedule, seed=seed)
        chain = sheet(shared.engine.forward(whole), columns=len(whole.diffusion_steps))
        recipe = {"procedure": "forward", "schedule": schedule, "t": diffusion_steps} | told.recipe
        return {
            now: picture_file(sheet(shared.engine.forward(here), columns=2), "noised", recipe),
            strip: picture_file(chain, "chain", recipe),
            facts: numbers(schedule, here.diffusion_steps[1]),
        }

    @spoken
    def forward(
        model: str,
        diffusion_steps: int,
        schedule: str,
        seed: int,
        request: gr.Request,
        picture: str | None = None,
    ) -> Update:
        """A picture noised to t, the same along the whole chain, and the numbers at t."""
        with shared.sessions.run(request, "forward") as run:
            (x_0,) = own_or_given(shared, model, [picture], seed, run.token)
        told = shared.forms["forward"].told(locals(), picture=x_0)
        return noised(x_0, diffusion_steps, schedule, seed, told) | {drawn: None if picture else (model, x_0)}

    @spoken
    def follow(
        model: str,
        diffusion_steps: int,
        schedule: str,
        seed: int | None,
        picture: str | None,
        earlier: tuple[str, Tensor] | None,
    ) -> Update:
        """The same for a control that moved, which never draws a picture by itself."""
        if seed is None:  # it is being typed
            return {facts: gr.skip()}
        if picture:
            x_0 = read_picture(picture, shared.engine.model(model).image_shape)
        elif earlier and earlier[0] == model:
            x_0 = earlier[1]
        else:
            return cleared()
        told = shared.forms["forward"].told(locals(), picture=x_0)
        return noised(x_0, diffusion_steps, schedule, seed, told) | {
            live: drawable(x_0, schedule, seed, diffusion_steps)
        }

    def cleared() -> Update:
        """Nothing but a word on how a picture comes."""
        return {facts: bar(NO_PICTURE, 0), live: {}, now: None, strip: None}

    def forget(model: str, picture: str | None, earlier: tuple[str, Tensor] | None) -> Update:
        """Nothing of the picture that another model drew is left."""
        return {facts: gr.skip()} if picture or not earlier or earlier[0] == model else cleared()

    explain(ABOUT, "forward")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            start = gr.Button("Add noise", variant="primary")
            picture = picture_input("Picture (empty: the model's own)", next(iter(examples(shared)), None))
            offer_examples(shared, picture)
            schedule = gr.Dropdown(list(SCHEDULES), value="linear", label="Schedule")
            seed = gr.Number(7, label="Seed of the noise", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            live = gr.HTML(
                html_template=(UI / "noising.html").read_text(),
                css_template=(UI / "noising.css").read_text(),
                js_on_load=(UI / "noising.js").read_text(),
            )
            steps = gr.Slider(0, 1000, value=250, step=1, label="Diffusion steps t", info="of the file below")
            facts = status_line(bar("Press the button or drag t", 0))
            now = crisp("x₀ and x_t", small=True)
            strip = crisp("t = 0, 125, ..., 1000")
            link = link_button()
            with gr.Row():
                for quantity, title in QUANTITIES.items():
                    gr.LinePlot(
                        curves(quantity),
                        x="t",
                        y=quantity,
                        color="schedule",
                        title=title,
                        height=240,
                        min_width=260,
                    )
    drawn = gr.State()  # the model's own picture, and whose it is
    inputs, outputs = [shared.model, steps, schedule, seed, picture], [now, strip, facts]
    form = linked(shared, "forward", forward, inputs, start)
    copies_link(link, form)
    made = gr.on(
        [start.click, form.go.change],
        refusals_kept(forward, facts),
        inputs,
        [*outputs, drawn],
        api_name="forward",
        show_progress="hidden",
        concurrency_id="device",
    )
    changes: list[Any] = [each.change for each in (steps, schedule, seed, picture)]
    for event in (tab.select, made.success, *changes):
        event(
            refusals_kept(follow, facts),
            [*inputs, drawn],
            [*outputs, live],
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
    shared.model.change(
        forget,
        [shared.model, picture, drawn],
        [*outputs, live],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return picture


def drawable(x_0: Tensor, schedule: str, seed: int, diffusion_steps: int) -> dict[str, Any]:
    """What noising.js mixes: the picture and its noise as float32, and the schedule's numbers at each t."""
    channels, height, width = x_0.shape
    chain = GaussianDiffusion(SCHEDULES[schedule](1000))
    tables = {
        "beta": chain.betas,
        "alpha_bar": chain.alphas_cumprod,
        "snr": chain.snr,
        "posterior": chain.posterior_variance,
    }
    return {
        "t": diffusion_steps,
        "channels": channels,
        "height": height,
        "width": width,
        "x_0": packed(from_uint8(x_0), "<f4"),
        "noise": packed(noise_of(seed, tuple(x_0.shape)), "<f4"),
    } | {name: packed(table, "<f4") for name, table in tables.items()}


def numbers(schedule: str, diffusion_steps: int) -> str:
    """The chain at t as a line of numbers, with t as the bar."""
    if diffusion_steps == 0:
        return bar("t = 0: the picture itself, with no noise at all", 0)
    chain, i = GaussianDiffusion(SCHEDULES[schedule](1000)), diffusion_steps - 1
    return bar(
        f"t = {diffusion_steps}: β {chain.betas[i]:.3g}, ᾱ {chain.alphas_cumprod[i]:.3g}, "
        f"SNR {chain.snr[i]:.3g}, β̃ {chain.posterior_variance[i]:.3g}",
        diffusion_steps / 1000,
    )


def curves(quantity: str) -> pd.DataFrame:
    """One quantity of every schedule at every tenth step."""
    rows = []
    for name, betas in SCHEDULES.items():
        chain = GaussianDiffusion(betas(1000))
        table = {
            "log10 β": chain.betas.log10(),
            "ᾱ": chain.alphas_cumprod,
            "log10 SNR": chain.snr.log10(),
            "log10 β̃": chain.posterior_variance.log10(),
        }[quantity]
        rows += [
            {"t": i + 1, quantity: round(table[i].item(), 6), "schedule": name} for i in range(9, 1000, 10)
        ]
    return pd.DataFrame(rows)
