"""Score: the field that leads noise back to data, exact on toy sets in the plane, and particles in it."""

__all__ = ["build", "drawable"]

import time
from pathlib import Path
from typing import Any

import gradio as gr

from ddpm_app.core.langevin import DEFAULT_SNR
from ddpm_app.core.toys import TOYS
from ddpm_app.engine.flow import ARROWS, EXTENT, PIXELS, Field, Flow, FlowRequest, field_of, flow
from ddpm_app.ui.buttons import linked, refusals_kept
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, explain
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.packing import packed
from ddpm_app.ui.results import Update, status_line
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""The network's $\epsilon$ is a compass: its opposite points uphill, to where $x_t$ is likelier. The
arrows show it exactly for data in the plane; watch particles follow them home, and drag $t$.

$$\nabla_{x_t} \log q(x_t) = -\,\epsilon(x_t, t) / \sqrt{1 - \bar\alpha_t}$$"""
DYNAMICS = {
    "reverse process (DDPM)": ("ddpm", False),
    "probability flow (DDIM)": ("ddim", False),
    "predictor-corrector": ("ddpm", True),
    "annealed Langevin": ("langevin", True),
}
COLOURS = "a particle keeps the colour of the direction it started in"
UNIT = 4000  # of the plane in a packed int16
PLANE = Path(__file__).parents[1]


def build(shared: Shared, tab: gr.Tab) -> None:
    """Lays the tab out and wires it; it draws as soon as it is opened, and at every change."""

    @spoken
    def score(
        toy: str, dynamics: str, steps: int, langevin_steps: int, langevin_snr: float, seed: int
    ) -> Update:
        sampler, follows = DYNAMICS.get(dynamics, (dynamics, True))
        request = FlowRequest(
            toy=toy,
            sampler=sampler,
            num_inference_steps=steps,
            langevin_steps=langevin_steps if follows else 0,
            langevin_snr=langevin_snr,
            seed=seed,
        )
        started = time.perf_counter()
        film = drawable(field_of(toy), flow(request))
        calls = f"{steps} steps" + (f", {langevin_steps} Langevin steps after each" if follows else "")
        took = f"{time.perf_counter() - started:.1f} s"
        done = f"{request.num_particles} particles, {calls}"
        return {status: bar(done, 1.0, COLOURS, beside=took), plane: film}

    def at_once(*values: Any) -> Update:
        """The same for a control that moved; an empty seed is one that is being typed."""
        return {status: gr.skip()} if values[-1] is None else score(*values)

    explain(ABOUT, "score")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            again = gr.Button("Let them flow", variant="primary")
            toy = gr.Radio(list(TOYS), value="smile", label="Data")
            dynamics = gr.Radio(list(DYNAMICS), value="reverse process (DDPM)", label="Dynamics")
            steps = gr.Slider(10, 200, value=100, step=10, label="Steps")
            langevin_steps = gr.Slider(
                0, 10, value=2, step=1, label="Langevin steps after each step", visible=False
            )
            langevin_snr = gr.Slider(
                0.05, 0.5, value=DEFAULT_SNR, step=0.01, label="Their signal-to-noise ratio r", visible=False
            )
            seed = gr.Number(7, label="Seed", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press the button", 0, COLOURS))
            plane = gr.HTML(
                html_template=(PLANE / "plane.html").read_text(),
                css_template=(PLANE / "plane.css").read_text(),
                js_on_load=(PLANE / "plane.js").read_text(),
                elem_classes="planebox",
            )
            link = link_button()
    inputs: list[Any] = [toy, dynamics, steps, langevin_steps, langevin_snr, seed]
    dynamics.change(
        lambda name: [gr.update(visible=DYNAMICS.get(name, ("", True))[1])] * 2,
        dynamics,
        [langevin_steps, langevin_snr],
        queue=False,
        api_visibility="private",
    )
    form = linked(shared, "score", score, inputs, again)
    copies_link(link, form)
    pressed, moved = (form.go.change, again.click), (tab.select, *(each.change for each in inputs))
    for event in (*pressed, *moved):
        event(
            refusals_kept(score if event in pressed else at_once, status),
            inputs,
            [status, plane],
            trigger_mode="always_last",
            api_visibility="private",
            show_progress="hidden",
        )


def drawable(field: Field, way: Flow) -> dict[str, Any]:
    """What plane.js draws: positions as int16, scores as int8 of a bounded length, the density as bytes."""
    length = field.scores.norm(dim=-1, keepdim=True)
    bounded = field.scores / (0.4 + length)  # far away every arrow is as long as its cell
    return {
        "t": way.t,
        "count": way.particles.shape[1],
        "particles": packed(way.particles * UNIT, "<i2"),
        "points": packed(field.points * UNIT, "<i2"),
        "levels": field.t,
        "signal": [round(alpha_bar**0.5, 4) for alpha_bar in field.alphas_cumprod],
        "scores": packed(bounded * 127, "i1"),
        "density": packed(field.density.sqrt() * 255, "u1"),
        "unit": UNIT,
        "extent": EXTENT,
        "arrows": ARROWS,
        "pixels": PIXELS,
    }
