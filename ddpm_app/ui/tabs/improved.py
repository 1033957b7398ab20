"""Improved DDPM: a learned variance, fewer steps, and the cosine schedule (Nichol and Dhariwal 2021)."""

__all__ = ["build"]

import gradio as gr

from ddpm_app.ui.controls import Shared
from ddpm_app.ui.results import Results
from ddpm_app.ui.tabs import bounds, respacing, schedules, variances


def build(shared: Shared) -> Results:
    """Its four experiments, a tab each."""
    with gr.Tabs():
        with gr.Tab("Learned variance", id="variances"):
            variances.build(shared)
        with gr.Tab("Fewer steps", id="respacing"):
            shown = respacing.build(shared)
        with gr.Tab("Bits over steps", id="bounds"):
            bounds.build(shared)
        with gr.Tab("Linear and cosine", id="schedules"):
            schedules.build(shared)
    return shown
