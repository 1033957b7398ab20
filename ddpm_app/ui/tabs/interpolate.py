"""Interpolate: between two pictures through x_t (figures 8 and 9), or between two x_T on the sphere."""

__all__ = ["build"]

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.engine import DETERMINISTIC, InterpolateRequest, SampleRequest, SlerpRequest, visits
from ddpm_app.pictures import save_animation, sheet, to_picture
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, chain_controls, explain, requested, spans_chain
from ddpm_app.ui.files import new_folder
from ddpm_app.ui.forms import Told
from ddpm_app.ui.givens import examples, offer_examples, own_or_given, picture_input
from ddpm_app.ui.levels import paper_t, tell_noise_level
from ddpm_app.ui.loading import loading, measuring
from ddpm_app.ui.results import Results, Update, results
from ddpm_app.ui.sessions import spoken

ABOUT = r"""Both pictures are noised to the same $t$, mixed there and denoised: the more noise, the freer the
model is to invent what lies between. Zero steps is a plain mix
of pixels, and an empty picture is drawn by the model itself.

$$\bar x_t = (1 - \lambda)\,x_t + \lambda\,x_t', \qquad \bar x_0 \sim p_\theta(x_0 \mid \bar x_t)$$"""
STRIP, GRID, SPHERE = "strip", "grid", "sphere"
KINDS = [
    ("Strip over λ (figure 8)", STRIP),
    ("Grid over t and λ (figure 9)", GRID),
    ("Two seeds on the sphere (noiseless)", SPHERE),
]
GRID_ROWS = (1000, 875, 750, 625, 500, 375, 250, 125, 0)


def build(shared: Shared) -> tuple[Results, gr.Image, gr.Image]:
    """Lays the tab out and wires it; the images are where a picture may be sent."""

    @spoken
    def interpolate(
        model: str,
        kind: str,
        diffusion_steps: int,
        num_images: int,
        shared_noise: bool,
        other_seed: int,
        sampler: str,
        num_inference_steps: int,
        eta: float,
        variance_type: str,
        seed: int,
        timestep_spacing: str,
        precision: str,
        request: gr.Request,
        picture_a: str | None = None,
        picture_b: str | None = None,
        rederive_eps: bool = True,
    ) -> Iterator[Update]:
        """Walks from one picture to another; an empty one is drawn by the model itself."""
        plain = requested(SampleRequest, locals())
        with shared.sessions.run(request, "interpolate") as run:
            loaded = yield from loading(shared, shown.status, run, model, precision)
            ends = None
            rows: dict[str, SampleRequest]  # by what their captions begin with
            if kind == SPHERE:
                rows = {"": on_the_sphere(plain, other_seed)}
            else:
                ends = own_or_given(shared, model, [picture_a, picture_b], seed, run.token)
                one = requested(InterpolateRequest, locals(), picture_a=ends[0], picture_b=ends[1])
                rows = grid_rows(one, len(loaded.diffusion)) if kind == GRID else {"": one}
            yield from measuring(shared, shown.status, run, *rows.values())
            run.clock.start()
            done: list[Tensor] = []
            for place, row in enumerate(rows.values()):
                for frame in shared.engine.run(row, run.token):
                    if run.clock.due(place + frame.step / frame.num_steps, len(rows)):
                        where = f"row {place + 1} of {len(rows)}, step {frame.step} of {frame.num_steps}"
                        yield shown.preview(run.clock.line(where), strip([*done, frame.images], ends))
                done.append(frame.images)
        first = next(iter(rows.values()))
        weights = torch.linspace(0, 1, plain.num_images).tolist()
        captions = [f"{row}λ {weight:.2f}" for row in rows for weight in weights]
        visited = f"{'the top row ' if kind == GRID else ''}visited {visits(first, loaded)}"
        begun = {} if ends is None else {"picture_a": ends[0], "picture_b": ends[1]}
        told = shared.forms["interpolate"].told(locals(), **begun)
        shown_at_end = shown.finished(
            run.clock.finished("Interpolated", f"{visited}, computed by {loaded.backend}"),
            strip(done, ends),
            torch.cat(done),
            captions,
            list(rows.values()),
            told=told,
        )
        yield shown_at_end | {animation: there_and_back(done, list(rows.values()), told)}

    start_pictures = [*examples(shared), None, None][:2]
    explain(ABOUT, "interpolate")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Interpolate")
            kind = gr.Radio(KINDS, value=STRIP, label="Show")
            with gr.Column() as of_pictures:
                with gr.Row(elem_classes="pair"):
                    with gr.Column(min_width=120):
                        picture_a = picture_input("From", start_pictures[0])
                        offer_examples(shared, picture_a)
                    with gr.Column(min_width=120):
                        picture_b = picture_input("To", start_pictures[1])
                        offer_examples(shared, picture_b, first=1)
                steps = spans_chain(shared, gr.Slider(0, 1000, value=500, step=1, label="Diffusion steps t"))
                tell_noise_level(shared, steps)
                shared_noise = gr.Checkbox(True, label="The same noise on both")
            other_seed = gr.Number(
                8, label="Seed of the other end", info=SEEDS_ALIKE, minimum=0, visible=False
            )
            num_images = gr.Slider(2, 21, value=11, step=1, label="Values of λ")
            chain = chain_controls(shared, "ddim", 50)
        with gr.Column(scale=2, min_width=300):
            shown = results("λ from 0 to 1, between the sources where there are any")
            animation = gr.DownloadButton(
                "Animation as GIF", size="sm", interactive=False, elem_classes="late"
            )
    kind.change(
        lambda chosen: (gr.update(visible=chosen != SPHERE), gr.update(visible=chosen == SPHERE)),
        kind,
        [of_pictures, other_seed],
        queue=False,
        api_visibility="private",
    )
    own = [shared.model, kind, steps, num_images, shared_noise, other_seed]
    inputs = [*own, *chain.inputs, picture_a, picture_b, chain.rederive_eps]
    outputs = [*shown.outputs, animation]
    shown.share(buttons.wire(shared, "interpolate", interpolate, inputs, outputs, InterpolateRequest))
    return shown, picture_a, picture_b


def on_the_sphere(plain: SampleRequest, other_seed: int) -> SlerpRequest:
    """The path between the two seeds without noise: by the solver chosen, else by DDIM as it is set."""
    if plain.sampler in DETERMINISTIC:
        return SlerpRequest(**plain.recipe(), other_seed=other_seed)
    chosen = plain if plain.sampler == "ddim" else SampleRequest()
    own = {"sampler": "ddim", "eta": chosen.eta, "rederive_eps": chosen.rederive_eps}
    return SlerpRequest(**plain.recipe() | own, other_seed=other_seed)


def grid_rows(one: InterpolateRequest, num_train_timesteps: int) -> dict[str, SampleRequest]:
    """The rows of figure 9 by their captions, their diffusion steps scaled to the length of the chain."""
    steps = [paper_t(row, num_train_timesteps) for row in GRID_ROWS]
    return {f"t {row} ": replace(one, diffusion_steps=row) for row in steps}


def there_and_back(rows: list[Tensor], requests: list[SampleRequest], told: Told) -> gr.DownloadButton:
    """The middle row as an animation to download, with its request's recipe."""
    middle = len(rows) // 2
    pictures = [to_picture(image) for image in rows[middle]]
    file = save_animation(
        pictures + pictures[-2:0:-1],
        new_folder() / "interpolation.gif",
        120,
        256,
        recipe=requests[middle].recipe() | {"procedure": "interpolate"} | told.recipe,
    )
    return gr.DownloadButton(value=str(file), interactive=True)


def strip(rows: list[Tensor], ends: list[Tensor] | None) -> Image.Image:
    """The rows, each with its two sources at the sides where there are any."""
    if ends is None:
        return sheet(torch.cat(rows), columns=len(rows[0]))
    framed = [torch.cat([ends[0][None], row, ends[1][None]]) for row in rows]
    return sheet(torch.cat(framed), columns=len(framed[0]))
