"""DDIM: what a sampler without noise makes possible (Song, Meng and Ermon 2020)."""

__all__ = ["build"]

import gradio as gr

from ddpm_app.ui.controls import Shared
from ddpm_app.ui.results import Results
from ddpm_app.ui.tabs import consistency, latent_grid, reconstruct


def build(shared: Shared) -> tuple[list[Results], gr.Image, gr.Tabs]:
    """Its three experiments, a tab each; the image, under `reconstruct`, is where a picture may be sent."""
    with gr.Tabs() as experiments:
        with gr.Tab("Any number of steps", id="consistency"):
            rows = consistency.build(shared)
        with gr.Tab("Encode and reconstruct", id="reconstruct"):
            picture = reconstruct.build(shared)
        with gr.Tab("Between four seeds", id="latent_grid"):
            between = latent_grid.build(shared)
    return [rows, between], picture, experiments
