"""How a training run looks: its status in words, its loss curve, its newest sheet, the buttons that apply."""

__all__ = ["START", "RunView", "curve", "headline", "run_view", "shown"]

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from PIL import Image

from ddpm_app.training.runs import Point, RunState
from ddpm_app.ui.openings import FOLDER, begin, told_earlier
from ddpm_app.ui.results import crisp, status_line
from ddpm_app.ui.sessions import bar

MAX_POINTS = 400
WINDOW = 0.03  # of the curve, the width over which it is smoothed
START = "Start training"
NO_RUN = "No run yet: choose data and a preset, then press Start training"


@dataclass(frozen=True)
class RunView:
    """The components, in the order in which `shown` fills them."""

    status: gr.HTML
    sheet: gr.Image
    curve: gr.LinePlot
    pause: gr.Button
    resume: gr.Button
    stop: gr.Button
    use: gr.Button

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `shown` answers for."""
        return [self.status, self.sheet, self.curve, self.pause, self.resume, self.stop, self.use]


def run_view() -> RunView:
    """Builds the block in the current column."""
    with gr.Row(elem_classes="seed"):
        pause = gr.Button("Pause", min_width=80, interactive=False)
        resume = gr.Button("Resume", min_width=80, interactive=False)
        stop = gr.Button("Stop", variant="stop", min_width=80, interactive=False)
    status = status_line("")
    sheet = crisp("Samples", small=True)
    plot = gr.LinePlot(
        x="step",
        y="loss",
        color="curve",
        color_map={"each report": "#94a3b8", "smoothed": "#6366f1"},
        title="Loss",
        height=260,
    )
    use = gr.Button("Use this model in the other tabs", size="sm", interactive=False)
    for component, value in zip((status, sheet, plot), earlier(), strict=True):
        if value is not None:
            begin(component, value)
    return RunView(status, sheet, plot, pause, resume, stop, use)


def shown(state: RunState | None) -> list[Any]:
    """The values of a RunView for this run; without any, one made earlier."""
    if state is None:
        return [*earlier(), *[gr.Button(interactive=False)] * 4]
    goes, ended = state.status in ("loading", "running"), state.status in ("paused", "failed")
    return [
        headline(state),
        picture(state.sheet),
        curve(state.progress),
        gr.Button(interactive=goes),
        gr.Button(interactive=ended),
        gr.Button(interactive=goes or ended),
        gr.Button(interactive=state.steps_saved > 0),
    ]


def earlier() -> list[Any]:
    """The status line, the sheet and the curve of a run made earlier; where none is stored, of no run."""
    file = FOLDER / "train.json"
    if not file.exists():
        return [bar(NO_RUN, 0), None, None]
    stored = json.loads(file.read_text())
    progress = [Point(step, loss) for step, loss in stored["progress"]]
    return [told_earlier(stored["settings"], START), picture(FOLDER / stored["sheet"]), curve(progress)]


def headline(state: RunState) -> str:
    """Where the run stands, over its progress bar."""
    last = state.progress[-1] if state.progress else None
    step = max(last.step if last else 0, state.steps_saved)
    of = f"step {step:,} of {state.num_steps:,}"
    saved = f"step {state.steps_saved:,}, its last save" if state.steps_saved else "the beginning"
    how = "Paused" if state.asked else "Interrupted"
    text = {
        "idle": NO_RUN,
        "loading": "Loading the data and the network",
        "running": f"{of} · {measures(last)}",
        "pausing": f"Finishing its step and saving, {of}",
        "paused": f"{how} at {of}: Resume goes on from {saved}",
        "finished": f"Ended at {of}" + (f" · loss {last.loss:.4f}" if last else ""),
        "failed": f"Failed at {of}: {html.escape(state.error)}",
    }[state.status]
    return bar(text, min(1.0, step / max(1, state.num_steps)))


def measures(last: Point | None) -> str:
    """Loss, speed and time left as the run last reported them."""
    if last is None:
        return "no report yet"
    parts = [f"loss {last.loss:.4f}"]
    if last.held_out_loss is not None:
        parts.append(f"held-out loss {last.held_out_loss:.4f}")
    return " · ".join(
        [*parts, f"{last.images_per_second:,.3g} images/s", f"about {span(last.seconds_left)} left"]
    )


def span(seconds: float) -> str:
    """A time in its two largest units: "40 s", "3 min 20 s", "5 h 12 min", "2 d 3 h"."""
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    rest = max(0, round(seconds))
    largest = next((k for k, (_, size) in enumerate(units) if rest >= size), 3)
    parts: list[str] = []
    for unit, size in units[largest : largest + 2]:
        count, rest = divmod(rest, size)
        if count or not parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts)


def curve(progress: Sequence[Point]) -> pd.DataFrame | None:
    """The reported losses and their moving average, thinned evenly; None before there are two."""
    if len(progress) < 2:
        return None
    raw = pd.Series([point.loss for point in progress], [point.step for point in progress])
    smooth = raw.ewm(span=max(2, WINDOW * len(raw))).mean()
    kept = slice(None, None, -(-len(raw) // (MAX_POINTS // 2)))
    parts = {"each report": raw[kept], "smoothed": smooth[kept]}
    frames = [
        pd.DataFrame({"step": values.index, "loss": values.round(5).to_numpy(), "curve": name})
        for name, values in parts.items()
    ]
    return pd.concat(frames, ignore_index=True)


def picture(file: Path | None) -> Image.Image | None:
    """The sheet in memory; None while there is none that is whole."""
    if file is None:
        return None
    try:
        with Image.open(file) as opened:
            opened.load()
            return opened
    except OSError:  # it is being written
        return None
