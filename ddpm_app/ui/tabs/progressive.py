"""Progressive: x_t and x0-hat all along the chain (figures 6 and 14)."""

__all__ = ["build"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.engine import Frame, SampleRequest, visits
from ddpm_app.pictures import counted, save_animation, sheet
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.controls import Shared, chain_controls, explain, requested
from ddpm_app.ui.files import new_folder, picture_file
from ddpm_app.ui.forms import Told
from ddpm_app.ui.loading import loading, measuring
from ddpm_app.ui.results import Results, Update, crisp, lines, results
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""At every step the network already guesses the finished picture, $\hat x_0$. Large shapes appear
first and details last: drag through the steps and see when each is settled.

$$\hat x_0 = \bigl(x_t - \sqrt{1 - \bar\alpha_t}\,\epsilon_\theta(x_t, t)\bigr) / \sqrt{\bar\alpha_t}$$"""
STRIP_FRAMES = 11
MAX_FRAMES = 61
MAX_FRAME_BYTES = 32_000_000


@dataclass(frozen=True)
class Film:
    """Stored frames of one run: timesteps left (K,), x_t and x0-hat uint8 (K, B, C, H, W), and its recipe."""

    t: tuple[int, ...]
    x_t: Tensor
    pred_x0: Tensor
    recipe: dict[str, Any]

    @classmethod
    def of(cls, frames: list[Frame], request: SampleRequest, told: Told) -> "Film":
        """The stored frames of this request's run."""
        return cls(
            tuple(frame.t for frame in frames),
            torch.stack([frame.images for frame in frames]),
            torch.stack([frame.pred_x0_images for frame in frames]),
            request.recipe() | {"procedure": "progressive"} | told.recipe,
        )

    def picture(self, place: int) -> Image.Image:
        """x after one stored step above the x0-hat that led to it."""
        return pair(self.x_t[place], self.pred_x0[place])

    def frame_file(self, place: int) -> str:
        """The same as a file that says after which t."""
        return picture_file(self.picture(place), "frame", self.recipe | {"t": self.t[place] + 1})

    def strip_file(self, name: str, frames: Tensor) -> str:
        """A file with one row an image, time from left to right, that says after which t."""
        places = torch.linspace(0, len(self.t) - 1, min(STRIP_FRAMES, len(self.t))).round().long()
        picture = sheet(frames[places].transpose(0, 1).flatten(0, 1), columns=len(places))
        t = [self.t[place] + 1 for place in places.tolist()]
        return picture_file(picture, name, self.recipe | {"shown": name, "t": t})

    def animation_file(self) -> str:
        """Every stored frame as a GIF."""
        frames = [self.picture(place) for place in range(len(self.t))]
        return str(save_animation(frames, new_folder() / "progressive.gif", recipe=self.recipe))

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


def build(shared: Shared) -> Results:
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
        rederive_eps: bool,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Draws images and keeps the way there: strips of x0-hat and x_t, their error, an animation."""
        wanted = requested(SampleRequest, locals())
        stored = []
        with shared.sessions.run(request, "progressive") as run:
            loaded = yield from loading(shared, shown.status, run, model, precision)
            yield from measuring(shared, shown.status, run, wanted)
            run.clock.start()
            for frame in shared.engine.run(wanted, run.token):
                if kept(frame):
                    stored.append(frame)
                if run.clock.due(frame.step, frame.num_steps):
                    yield shown.preview(run.clock.line(), pair(frame.images, frame.pred_x0_images))
        told = shared.forms["progressive"].told(locals())
        made = Film.of(stored, wanted, told)
        last = len(stored) - 1
        strips = [made.strip_file("x0-hat", made.pred_x0), made.strip_file("x_t", made.x_t)]
        done = run.clock.finished(
            f"{counted(wanted.num_images)}, {counted(len(stored), 'frame')} kept",
            f"visited {visits(wanted, loaded)}, computed by {loaded.backend}",
        )
        yield shown.finished(
            done,
            made.picture(last),
            frame.images,
            [f"seed {own}" for own in wanted.seeds],
            [wanted],
            told=told,
            procedure="progressive",
            others=strips,
        ) | {
            strip_x0: strips[0],
            strip_x_t: strips[1],
            errors: lines(made.errors(), "image"),
            scrubber: gr.Slider(
                maximum=max(1, last), value=last, interactive=last > 0, label=scrub_label(made, last)
            ),
            animation: gr.DownloadButton(value=made.animation_file(), interactive=True),
            film: made,
        }

    def scrub(place: int, film: Film | None) -> tuple:
        if film is None or not 0 <= place < len(film.t):
            return gr.skip(), gr.skip()
        return film.frame_file(int(place)), gr.Slider(label=scrub_label(film, int(place)))

    explain(ABOUT, "progressive")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Generate")
            num_images = gr.Slider(1, 8, value=4, step=1, label="Images")
            chain = chain_controls(shared, "ddpm", 200)
        with gr.Column(scale=2, min_width=300):
            scrubber = gr.Slider(
                0,
                1,
                value=1,
                step=1,
                label="Drag through the steps",
                interactive=False,
                elem_classes="late",
                render=False,
            )
            shown = results(
                "x after the step above, the x̂₀ that led to it below",
                status=bar("Press Generate: the whole way from noise to picture is kept here", 0),
                beneath=scrubber,
            )
            strip_x0 = crisp("x̂₀ over reverse time (figure 6)", late=True)
            strip_x_t = crisp("x_t over reverse time", late=True)
            errors = gr.LinePlot(
                x="t",
                y="RMSE",
                color="image",
                title="RMSE of x̂₀ to the final image",
                height=240,
                elem_classes="late",
            )
            animation = gr.DownloadButton(
                "Animation as GIF", size="sm", interactive=False, elem_classes="late"
            )
            film = gr.State(time_to_live=3600)
    form = buttons.wire(
        shared,
        "progressive",
        progressive,
        [shared.model, num_images, *chain.inputs, chain.rederive_eps],
        [
            shown.status,
            shown.sheet,
            strip_x0,
            strip_x_t,
            errors,
            scrubber,
            animation,
            film,
            *shown.pickable,
        ],
    )
    shown.share(form)
    scrubber.input(
        scrub,
        [scrubber, film],
        [shown.sheet, scrubber],
        queue=False,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    return shown


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
