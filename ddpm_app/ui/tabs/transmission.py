"""What a receiver sees of a picture after any number of bits (Ho et al. 2020, section 4.3, figure 5)."""

__all__ = ["build"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import pandas as pd
import torch
from torch import Tensor

from ddpm_app.core.compression import paper_row, tenths
from ddpm_app.engine import CompressionReport, CompressionRequest, Received
from ddpm_app.pictures import sheet
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.code import code_block, measured
from ddpm_app.ui.controls import SEEDS_ALIKE, VARIANCES, Shared, explain, requested
from ddpm_app.ui.files import picture_file
from ddpm_app.ui.forms import Told
from ddpm_app.ui.givens import examples, offer_examples, own_or_given, picture_input
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Update, crisp, status_line
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""The bound is a code: send $x_T$, then ever cleaner $x_t$, each at the price of its KL, and from
any of them the receiver guesses $\hat x_0$. The first bits buy the shapes, most bits what no eye can see.

$$\begin{gathered} \text{rate} = L_T + \textstyle\sum_{s>t} L_{s-1} \\
\text{RMSE} = \|x_0 - \hat x_0\| / \sqrt D \end{gathered}$$"""
IDEAL = "ideal code lengths, as in the paper: no bits are written"
HEADERS = ["reverse steps", "rate, bits/dim", "RMSE, 0–255", "paper, CIFAR-10: rate", "paper: RMSE"]
STEPS, RATE, RMSE = "reverse steps", "bits/dim", "RMSE"


@dataclass(frozen=True)
class Film:
    """A transmission: the picture that was sent, the report of all that came, and what was asked."""

    x_0: Tensor
    report: CompressionReport
    told: Told

    def frame_file(self, place: int) -> str:
        """The picture beside what the receiver has of it."""
        received = self.report.received[place]
        recipe = {"procedure": "compression", "t": received.t + 1, "bits_per_dim": received.rate_bpd}
        both = sheet(torch.stack([self.x_0, received.picture]), columns=2)
        return picture_file(both, "received", recipe | self.told.recipe)

    def label(self, place: int) -> str:
        """What has come by then, counted in bits and in timesteps."""
        received = self.report.received[place]
        return (
            f"Bits received: {received.rate_bpd * self.x_0.numel():,.0f} of "
            f"{self.report.lossless_bpd * self.x_0.numel():,.0f} ({received.rate_bpd:.4f} bits/dim), "
            f"x_t at t = {received.t + 1}, RMSE {received.rmse:.1f}"
        )


def build(shared: Shared) -> gr.Image:
    """Lays the experiment out and wires it; the image is where a picture may be sent."""

    @spoken
    def compression(
        model: str,
        num_terms: int,
        variance_type: str,
        seed: int,
        request: gr.Request,
        picture: str | None = None,
    ) -> Iterator[Update]:
        """Sends the picture as algorithm 3 does; what the receiver sees, its rate and distortion grow."""
        with shared.sessions.run(request, "compression") as run:
            yield from loading(shared, status, run, model)
            run.clock.start()
            (x_0,) = own_or_given(shared, model, [picture], seed, run.token)
            wanted = requested(CompressionRequest, locals(), picture=x_0)
            told = shared.forms["compression"].told(locals(), picture=x_0)
            for report in shared.engine.compress(wanted, run.token):
                if run.clock.due(report.step, report.num_steps):
                    yield shown(run.clock.line(), Film(x_0, report, told))
        made, last = Film(x_0, report, told), len(report.received) - 1
        yield shown(run.clock.finished(*summary(report)), made) | {
            scrubber: gr.Slider(
                maximum=max(1, last), value=last, interactive=last > 0, label=made.label(last)
            ),
            film: made,
            code: measured(told),
        }

    def shown(line: str, made: Film) -> Update:
        newest, points = len(made.report.received) - 1, curves(made.report)
        return {
            status: line,
            seen: made.frame_file(newest),
            rows: table(made.report),
            **dict.fromkeys(plots, points),
        }

    def scrub(place: int, made: Film | None) -> tuple[Any, Any]:
        if made is None or not 0 <= place < len(made.report.received):
            return gr.skip(), gr.skip()
        return made.frame_file(int(place)), gr.Slider(label=made.label(int(place)))

    explain(ABOUT, "compression")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Compress")
            picture = picture_input("Picture (empty: the model's own)", next(iter(examples(shared)), None))
            offer_examples(shared, picture)
            num_terms = gr.Slider(150, 1000, value=150, step=1, label="Timesteps measured")
            variance = gr.Dropdown(VARIANCES, value="auto", label="Reverse variance")
            seed = gr.Number(7, label="Seed", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press Compress: the picture is sent bit by bit", 0, IDEAL))
            seen = crisp("The picture, and what the receiver has of it", small=True)
            scrubber = gr.Slider(0, 1, value=1, step=1, label="Bits received", interactive=False)
            rows = gr.Dataframe(headers=HEADERS, label="Table 4 of this picture", interactive=False)
            with gr.Row():
                plots = [
                    gr.LinePlot(x=x, y=y, title=title, height=220, min_width=220)
                    for x, y, title in (
                        (STEPS, RMSE, "Distortion over time"),
                        (STEPS, RATE, "Rate over time"),
                        (RATE, RMSE, "Distortion over rate"),
                    )
                ]
            link = link_button()
            code = code_block()
            film = gr.State(time_to_live=3600)
    inputs = [shared.model, num_terms, variance, seed, picture]
    outputs = [status, seen, scrubber, rows, *plots, film, code]
    form = buttons.wire(shared, "compression", compression, inputs, outputs, CompressionRequest)
    copies_link(link, form)
    scrubber.input(
        scrub,
        [scrubber, film],
        [seen, scrubber],
        queue=False,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    return picture


def summary(report: CompressionReport) -> tuple[str, str]:
    """Rate and distortion of the whole code, and how they were measured."""
    last = report.received[-1]
    return (
        f"{last.rate_bpd:.3f} bits/dim leave RMSE {last.rmse:.2f}, {last.term_bpd:.3f} more leave none",
        f"{report.step} of {report.num_train_timesteps} timesteps measured; with this noise the others leave "
        f"± {last.standard_error:.3f} in the rate; {IDEAL}",
    )


def table(report: CompressionReport) -> pd.DataFrame:
    """Table 4 of what has come so far, beside the paper's own numbers for other pictures."""
    listed = tenths(report.num_train_timesteps)
    lines = [_line(report, received) for received in reversed(report.received) if received.t in listed]
    return pd.DataFrame(lines, columns=HEADERS)


def _line(report: CompressionReport, received: Received) -> list[str]:
    steps = report.reverse_steps(received)
    paper = paper_row(steps, report.num_train_timesteps)
    told = [f"{received.rate_bpd:.5f}", f"{received.rmse:.5f}", *(f"{value:.5f}" for value in paper)]
    return [str(steps), *told, *["–"] * (4 - len(told))]


def curves(report: CompressionReport) -> pd.DataFrame:
    """Rate and distortion of every picture received (figure 5)."""
    points = [
        (report.reverse_steps(each), round(each.rate_bpd, 5), round(each.rmse, 3)) for each in report.received
    ]
    return pd.DataFrame(points, columns=[STEPS, RATE, RMSE])
