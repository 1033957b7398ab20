"""The learned variance over t, between its two bounds (Nichol and Dhariwal 2021, section 3.1)."""

__all__ = ["build"]

import html
from collections.abc import Iterator

import gradio as gr
import pandas as pd
import torch
from torch import Tensor

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.engine import VarianceReport, VarianceRequest
from ddpm_app.engine.improved import spread
from ddpm_app.pictures import counted
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.code import code_block, measured
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, explain
from ddpm_app.ui.givens import offer_examples, own_or_given, picture_input
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.loading import loading
from ddpm_app.ui.results import Update, lines, status_line
from ddpm_app.ui.sessions import bar, spoken

ABOUT = r"""At every step the network chooses for each pixel how much noise to add: between $\tilde\beta_t$,
right if there were one picture only, and $\beta_t$, right if pictures were noise themselves.

$$\log \sigma_t^2 = v \log \beta_t + (1 - v) \log \tilde\beta_t$$"""
OWN_PICTURES = 4
RATIO_LENGTHS = (25, 100, 1000)
POINTS = 100


def build(shared: Shared) -> None:
    """Lays the experiment out and wires it."""

    @spoken
    def variances(
        model: str, num_timesteps: int, seed: int, request: gr.Request, picture: str | None = None
    ) -> Iterator[Update]:
        """Measures v over t on noised pictures; a model without v shows its two bounds alone."""
        with shared.sessions.run(request, "variances") as run:
            diffusion = (yield from loading(shared, status, run, model)).diffusion
            run.clock.start()
            fixed: Update = {ratio: ratios(diffusion), sigma: bounds(diffusion, VarianceReport(0, 0))}
            if diffusion.variance_type != "learned_range":
                told = f"{html.escape(model)} learned no variance: choose mnist-28-hybrid to see v"
                asked = shared.forms["variances"].told(locals())
                yield {status: bar(told, 1), v: None, **fixed, code: measured(asked)}
                return
            yield fixed
            files: list[str | None] = [picture] if picture else [None] * OWN_PICTURES
            pictures = own_or_given(shared, model, files, seed, run.token)
            wanted = VarianceRequest(
                model=model, pictures=tuple(pictures), num_timesteps=num_timesteps, seed=seed
            )
            for report in shared.engine.measure(wanted, run.token):
                if run.clock.due(report.step, report.num_steps):
                    yield {status: run.clock.line(), v: shares(report), sigma: bounds(diffusion, report)}
        begun = {"picture": pictures[0]} if picture else {}
        done = f"v of {counted(len(pictures))} at {report.num_steps} timesteps"
        yield {
            **fixed,
            status: run.clock.finished(done),
            v: shares(report),
            sigma: bounds(diffusion, report),
            code: measured(shared.forms["variances"].told(locals(), **begun)),
        }

    explain(ABOUT, "variances")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Measure v")
            picture = picture_input(f"Picture (empty: {OWN_PICTURES} of the model's own)")
            offer_examples(shared, picture)
            num_timesteps = gr.Slider(2, 200, value=50, step=1, label="Timesteps measured")
            seed = gr.Number(7, label="Seed", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press Measure v: with mnist-28-hybrid, which learned it", 0))
            v = gr.LinePlot(
                x="t",
                y="v",
                color="over pixels",
                title="v over t: mean, and nine tenths",
                height=260,
            )
            with gr.Row():
                sigma = gr.LinePlot(
                    x="log10 t",
                    y="log10 σ²",
                    color="variance",
                    title="σ² between β̃ and β",
                    height=260,
                    min_width=260,
                )
                ratio = gr.LinePlot(
                    x="t / T",
                    y="β̃ / β",
                    color="steps",
                    title="β̃ / β by length of chain (figure 1)",
                    height=260,
                    min_width=260,
                )
            link = link_button()
            code = code_block()
    inputs = [shared.model, num_timesteps, seed, picture]
    copies_link(link, buttons.wire(shared, "variances", variances, inputs, [status, v, sigma, ratio, code]))


def shares(report: VarianceReport) -> pd.DataFrame:
    """v over the paper's t."""
    lines = {"mean": report.v, "5 %": report.v_low, "95 %": report.v_high}
    return pd.DataFrame(
        [
            {"t": t + 1, "v": round(value, 4), "over pixels": name}
            for name, values in lines.items()
            for t, value in zip(report.timesteps, values, strict=True)
        ]
    )


def bounds(diffusion: GaussianDiffusion, report: VarianceReport) -> gr.LinePlot:
    """Both bounds of the variance, and between them the one measured so far."""
    places = torch.tensor(spread(len(diffusion), POINTS))
    fixed = {"β": diffusion.betas.log(), "β̃": diffusion.posterior_log_variance_clipped}
    all_points = {name: (places, table[places]) for name, table in fixed.items()}
    if report.timesteps:
        all_points["learned"] = torch.tensor(report.timesteps), torch.tensor(report.log_variance)
    return lines(pd.concat([line(name, *points) for name, points in all_points.items()]), "variance")


def line(name: str, places: Tensor, log_variance: Tensor) -> pd.DataFrame:
    """One curve on logarithmic axes."""
    log10 = torch.log(torch.tensor(10.0))
    return pd.DataFrame(
        {
            "log10 t": (places + 1).log10().numpy().round(3),
            "log10 σ²": (log_variance / log10).numpy().round(4),
            "variance": name,
        }
    )


def ratios(diffusion: GaussianDiffusion) -> pd.DataFrame:
    """β̃ / β over t / T of this process in fewer steps and in all."""
    parts = []
    for length in sorted({*(each for each in RATIO_LENGTHS if each < len(diffusion)), len(diffusion)}):
        chain = diffusion.with_variance("fixed_small").respaced(length)
        places = torch.tensor(spread(length, POINTS))
        values = (chain.posterior_variance / chain.betas)[places]
        share = (places + 1) / length
        part = {"t / T": share.numpy().round(4), "β̃ / β": values.numpy().round(4), "steps": f"{length}"}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts)
