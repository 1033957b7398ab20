"""Compression: a picture sent ever clearer, and pictures written as bits without loss."""

__all__ = ["build"]

import gradio as gr

from ddpm_app.ui.controls import Shared
from ddpm_app.ui.tabs import coding, transmission


def build(shared: Shared) -> tuple[gr.Image, gr.Tabs]:
    """Its two experiments, a tab each; the image, under `compression`, is where a picture may be sent."""
    with gr.Tabs() as experiments:
        with gr.Tab("Lossy, bit by bit", id="compression"):
            picture = transmission.build(shared)
        with gr.Tab("Lossless, real bits", id="coding"):
            coding.build(shared)
    return picture, experiments
