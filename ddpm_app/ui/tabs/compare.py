"""Compare: two settings or two models from the same noise, side by side, and how far they are apart."""

__all__ = ["build"]

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.engine import Frame, SampleRequest, flag
from ddpm_app.errors import UserError
from ddpm_app.models import Model
from ddpm_app.pictures import columns_for, counted, data_uri, heat_map, sheet
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.controls import Shared, chain_controls, explain, listing, requested, seed_control
from ddpm_app.ui.figures import figure
from ddpm_app.ui.loading import loading, measuring
from ddpm_app.ui.results import Results, Update, results
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""Two ways down from the same $x_T$, seed by seed: another sampler, other steps, another model. Draw
the curtain between the two sheets, and see in levels of 0 to 255 how far they come apart.

$$\begin{gathered} \text{RMSE} = \|A - B\| / \sqrt D \\
\text{PSNR} = 20 \log_{10}(255 / \text{RMSE}) \end{gathered}$$"""
THE_SAME = "the same"
HEADERS = ["seed", "RMSE, 0–255", "PSNR, dB", "pixels equal, %"]
UI = Path(__file__).parents[1]


def build(shared: Shared) -> Results:
    """Lays the tab out and wires it."""

    @spoken
    def compare(
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
        other_model: str,
        other_sampler: str,
        other_num_inference_steps: int,
        other_eta: float,
        other_variance_type: str,
        other_timestep_spacing: str,
        other_precision: str,
        other_rederive_eps: bool,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Draws A and B from the same seeds at once; the last update has all pictures and their distances."""
        told = shared.forms["compare"].told(locals())
        a = requested(SampleRequest, locals())
        others = {name: told.settings[f"other_{name}"] for name in DIFFERING if name != "model"}
        b = replace(a, **others, model=model if other_model == THE_SAME else other_model)
        names = apart(a, b)
        with shared.sessions.run(request, "compare") as run:
            of_a = yield from loading(shared, shown.status, run, a.model, a.precision)
            of_b = yield from loading(shared, shown.status, run, b.model, b.precision)
            alike_in_shape(of_a, of_b)
            yield from measuring(shared, shown.status, run, a, b)
            run.clock.start()
            for frames, seconds in race([shared.engine.run(each, run.token) for each in (a, b)]):
                if run.clock.due(*progress(frames)):
                    pair = [frame.images for frame in frames]
                    yield shown.preview(run.clock.line(), beside(pair)) | {
                        curtain: drawn(pair, names, seconds)
                    }
        pair = [frame.images for frame in frames]
        yield shown.finished(
            run.clock.finished(f"{counted(a.num_images)} twice"),
            beside(pair),
            torch.cat(pair),
            [f"{side}, seed {own}" for side in "AB" for own in a.seeds],
            [a, b],
            told=told,
            procedure="compare",
        ) | {curtain: drawn(pair, names, seconds), table: distances(pair, a.seeds)}

    def offered() -> list[str]:
        return [THE_SAME, *shared.engine.available_models()]

    explain(ABOUT, "compare")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Compare")
            num_images = gr.Slider(1, 32, value=9, step=1, label="Images")
            seed = seed_control()
            gr.Markdown("### A")
            one = chain_controls(shared, "ddim", 50, seed=seed)
            gr.Markdown("### B")
            other_model = gr.Dropdown(offered(), value=THE_SAME, label="Model of B", allow_custom_value=True)
            other = chain_controls(shared, "ddim", 10, seed=seed)
        with gr.Column(scale=2, min_width=300):
            curtain = gr.HTML(
                html_template=(UI / "curtain.html").read_text(),
                css_template=(UI / "curtain.css").read_text(),
                js_on_load=(UI / "curtain.js").read_text(),
            )
            table = gr.Dataframe(
                headers=HEADERS,
                label="Between A and B",
                interactive=False,
                max_height=280,
                elem_classes="late",
                render=False,
            )
            shown = results(
                "A, B and their difference",
                status=bar("Press Compare: A and B come out of the noise side by side", 0),
                beneath=table,
                enlarged=True,
            )
    other_model.focus(
        listing(offered),
        other_model,
        other_model,
        show_progress="hidden",
        api_visibility="private",
    )
    its_own = [control for control in other.inputs if control is not seed]
    inputs = [
        *[shared.model, num_images, *one.inputs, one.rederive_eps],
        *[other_model, *its_own, other.rederive_eps],
    ]
    shown.share(buttons.wire(shared, "compare", compare, inputs, [*shown.outputs, curtain, table]))
    return shown


DIFFERING = (
    "model",
    "sampler",
    "num_inference_steps",
    "eta",
    "variance_type",
    "timestep_spacing",
    "precision",
    "rederive_eps",
)


def alike_in_shape(a: Model, b: Model) -> None:
    """UserError where the two models cannot start from the same noise."""
    if a.image_shape != b.image_shape:
        sizes = " and ".join(" x ".join(map(str, each.image_shape)) for each in (a, b))
        raise UserError(f"A and B cannot share their noise, as they draw {sizes}; choose models of one size")


def race(runs: Sequence[Iterator[Frame]]) -> Iterator[tuple[list[Frame], list[float]]]:
    """The newest frame of every run and the seconds it has computed; what is behind moves next."""
    newest, seconds = [], []
    for run in runs:
        frame, took = timed(run)
        newest.append(frame)
        seconds.append(took)
    yield list(newest), list(seconds)
    while any(frame.step < frame.num_steps for frame in newest):
        k = min(range(len(runs)), key=lambda k: newest[k].step / newest[k].num_steps)
        newest[k], took = timed(runs[k])
        seconds[k] += took
        yield list(newest), list(seconds)


def timed(run: Iterator[Frame]) -> tuple[Frame, float]:
    """The next frame of a run and the seconds it took, those of the device too."""
    started = time.perf_counter()
    frame = next(run)
    if frame.x_t.device.type != "cpu":  # or the other run would wait for it, on its own account
        torch.accelerator.synchronize(frame.x_t.device)
    return frame, time.perf_counter() - started


def progress(frames: Sequence[Frame]) -> tuple[int, int]:
    """Steps done and to do, of all runs together."""
    return sum(frame.step for frame in frames), sum(frame.num_steps for frame in frames)


def apart(a: SampleRequest, b: SampleRequest) -> list[str]:
    """A name for each of the two: what they differ in."""
    differing = [name for name in DIFFERING if getattr(a, name) != getattr(b, name)]
    if not differing:
        return ["the same settings"] * 2
    return [", ".join(f"{flag(name)} {getattr(each, name)}" for name in differing) for each in (a, b)]


def beside(pair: Sequence[Tensor]) -> Image.Image:
    """Both sheets and their difference, its largest at full heat, as one figure."""
    gap = (pair[0].float() - pair[1].float()).abs().mean(1)
    heat = torch.stack([heat_map(each) for each in gap / gap.max().clamp(min=1)])
    count, columns = len(heat), columns_for(len(heat))
    rows = -(-count // columns)
    tiles = [
        block[place] if place < count else None
        for row in range(rows)
        for block in (*pair, heat)
        for place in range(row * columns, (row + 1) * columns)
    ]
    blocks = {"A": columns, "B": columns, "difference": columns}
    return figure(tiles, [""] * rows, blocks, (pair[0].shape[2], pair[0].shape[3]))


def drawn(pair: Sequence[Tensor], names: Sequence[str], seconds: Sequence[float]) -> dict[str, Any]:
    """What curtain.js shows: both sheets, what they are, and how far they are apart."""
    _, rmse, psnr, equal = distances(pair, [0] * len(pair[0])).iloc[0]
    numbers = {"rmse": f"{rmse:.2f}", "psnr": psnr, "equal": str(equal)}
    numbers |= {f"seconds_{side}": f"{each:.1f}" for side, each in zip("ab", seconds, strict=True)}
    sides = {
        side: {"picture": data_uri(sheet(images)), "name": name}
        for side, images, name in zip("ab", pair, names, strict=True)
    }
    return sides | {"numbers": numbers}


def distances(pair: Sequence[Tensor], seeds: Sequence[int]) -> pd.DataFrame:
    """RMSE, PSNR and the share of equal pixels, over all images first and then of each by its seed."""
    a, b = pair
    squares = (a.double() - b.double()).square().flatten(1)
    equal = (a == b).all(1).double().flatten(1)
    rows = [_distance("all", squares.mean(), equal.mean())]
    rows += [_distance(str(seed), squares[k].mean(), equal[k].mean()) for k, seed in enumerate(seeds)]
    return pd.DataFrame(rows, columns=HEADERS)


def _distance(name: str, square: Tensor, equal: Tensor) -> tuple[str, float, str, float]:
    psnr = f"{(20 * torch.log10(255 / square.sqrt())).item():.1f}" if square else "∞"
    return name, round(square.sqrt().item(), 2), psnr, round(100 * equal.item(), 1)
