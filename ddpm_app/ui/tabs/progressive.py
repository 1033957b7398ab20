"""Progressive: x_t and x0-hat all along the chain (figures 6 and 14)."""

__all__ = ["build"]

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.engine import Frame, SampleRequest
from ddpm_app.pictures import save_animation, sheet
from ddpm_app.ui.controls import Shared, chain_controls, explain, run_buttons
from ddpm_app.ui.results import crisp, new_folder, status_line
from ddpm_app.ui.sessions import Clock, bar, spoken

ABOUT = r"""At every step the network already guesses the finished picture, $\hat x_0$. Large shapes appear
first and details last: drag through the steps and see when each is settled.

$$\hat x_0 = \bigl(x_t - \sqrt{1 - \bar\alpha_t}\,\epsilon_\theta(x_t, t)\bigr) / \sqrt{\bar\alpha_t}$$"""
STRIP_FRAMES = 11
MAX_FRAMES = 61
MAX_FRAME_BYTES = 32_000_000


@dataclass(frozen=True)
class Film:
    """Stored frames of one run: timesteps left (K,), x_t and x0-hat uint8 (K, B, C, H, W)."""

    t: tuple[int, ...]
    x_t: Tensor
    pred_x0: Tensor

    def picture(self, place: int) -> Image.Image:
        """x after one stored step above the x0-hat that led to it."""
        return pair(self.x_t[place], self.pred_x0[place])

    def strip(self, frames: Tensor) -> Image.Image:
        """One row an image, time from left to right."""
        places = torch.linspace(0, len(self.t) - 1, min(STRIP_FRAMES, len(self.t))).round().long()
        return sheet(frames[places].transpose(0, 1).flatten(0, 1), columns=len(places))

    def errors(self) -> pd.DataFrame:
        """RMSE of x0-hat against the final image on the scale 0..255, for each image and stored timestep."""
        final = self.x_t[-1].float()
        rmse = (self.pred_x0.float() - final).square().flatten(2).mean(2).sqrt()
        rows = [
            {"t": t + 1, "RMSE": round(value, 3), "image": f"{k + 1}"}
            for t, values in zip(self.t, rmse.tolist(), strict=True)
            for k, value in enumerate(values)
        ]
        return pd.DataFrame(rows)


def build(shared: Shared) -> None:
    """Lays the tab out and wires it."""

    @spoken
    def progressive(
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
        """Draws images and keeps the way there: strips of x0-hat and x_t, their error, an animation."""
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
        clock, stored = Clock(), []
        skip = (gr.skip(),) * 6
        with shared.sessions.run(request, "progressive") as token:
            yield bar("Loading the model", 0), gr.skip(), *skip
            shared.engine.model(model, precision)
            clock.start()
            for frame in shared.engine.run(wanted, token):
                if kept(frame):
                    stored.append(frame)
                if clock.due(frame.step, frame.num_steps):
                    yield clock.line(), pair(frame.images, frame.pred_x0_images), *skip
        if token.cancelled:
            yield clock.stopped(), gr.skip(), *skip
            return
        film = Film(
            tuple(frame.t for frame in stored),
            torch.stack([frame.images for frame in stored]),
            torch.stack([frame.pred_x0_images for frame in stored]),
        )
        last = len(film.t) - 1
        animation = save_animation(
            [film.picture(place) for place in range(len(film.t))], new_folder() / "progressive.gif"
        )
        yield (
            clock.finished(f"{wanted.num_images} pictures, {len(film.t)} frames kept"),
            film.picture(last),
            film.strip(film.pred_x0),
            film.strip(film.x_t),
            film.errors(),
            gr.Slider(maximum=last, value=last, interactive=last > 0, label=scrub_label(film, last)),
            gr.DownloadButton(value=str(animation), interactive=True),
            film,
        )

    def scrub(place: int, film: Film | None) -> tuple:
        if film is None or not 0 <= place < len(film.t):
            return gr.skip(), gr.skip()
        return film.picture(int(place)), gr.Slider(label=scrub_label(film, int(place)))

    explain(ABOUT)
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            start = run_buttons(shared, "progressive", "Generate")
            num_images = gr.Slider(1, 8, value=4, step=1, label="Images")
            chain = chain_controls(shared, "ddpm", 200)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press Generate: the whole way from noise to picture is kept here", 0))
            live = crisp("x after the step above, the x̂₀ that led to it below")
            scrubber = gr.Slider(0, 1, value=0, step=1, label="Drag through the steps", interactive=False)
            strip_x0 = crisp("x̂₀ over reverse time (figure 6)")
            strip_x_t = crisp("x_t over reverse time")
            errors = gr.LinePlot(
                x="t",
                y="RMSE",
                color="image",
                title="Error of x̂₀ against the final image (0 to 255)",
                height=240,
            )
            animation = gr.DownloadButton("Animation as GIF", size="sm", interactive=False)
            film = gr.State(time_to_live=3600)
    start.click(
        progressive,
        [shared.model, num_images, *chain.inputs],
        [status, live, strip_x0, strip_x_t, errors, scrubber, animation, film],
        api_name="progressive",
        show_progress="hidden",
        concurrency_id="device",
    )
    scrubber.input(
        scrub,
        [scrubber, film],
        [live, scrubber],
        queue=False,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )


def kept(frame: Frame) -> bool:
    """Whether this frame is among the evenly spread ones that are stored; the first and last always are."""
    affordable = max(2, min(MAX_FRAMES, MAX_FRAME_BYTES // (2 * frame.x_t.numel())))
    every = max(1, -(-frame.num_steps // (affordable - 1)))
    return frame.step in (1, frame.num_steps) or frame.step % every == 0


def pair(x_t: Tensor, pred_x0: Tensor) -> Image.Image:
    """Two rows: x after a step, and the x0-hat that led to it."""
    return sheet(torch.cat([x_t, pred_x0]), columns=len(x_t))


def scrub_label(film: Film, place: int) -> str:
    """Where in the chain a stored frame stands, counted as in the paper."""
    return f"Drag through the steps: after the step at t = {film.t[place] + 1}"
