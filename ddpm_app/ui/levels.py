"""How noisy x_t is at a chosen t, in numbers."""

__all__ = ["noise_level", "paper_t", "tell_noise_level"]

import gradio as gr

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.ui.controls import Shared


def tell_noise_level(shared: Shared, steps: gr.Slider) -> None:
    """A line under the slider over t that follows it, and the chosen model once that is here."""

    def level(model: str, diffusion_steps: int) -> str:
        loaded = shared.engine.loaded(model)  # to wait for it would hold up the page's other handlers
        return noise_level(loaded.diffusion, diffusion_steps) if loaded else ""

    gr.on(
        [steps.change, shared.facts.change],
        level,
        [shared.model, steps],
        gr.Markdown(elem_classes="level"),
        queue=False,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )


def paper_t(t: int, length: int) -> int:
    """The paper's t of 1000 in a chain of that length: 0 where it is 0, else at least 1."""
    return min(t, max(1, t * length // 1000))


def noise_level(diffusion: GaussianDiffusion, diffusion_steps: int) -> str:
    """The chain's numbers after so many diffusion steps, the paper's t; empty outside the chain."""
    if not 1 <= diffusion_steps <= len(diffusion):
        return ""
    i = int(diffusion_steps) - 1
    alpha_bar = diffusion.alphas_cumprod[i].item()
    return (
        f"x_t = {alpha_bar**0.5:.3f} x₀ + {(1 - alpha_bar) ** 0.5:.3f} ε · "
        f"ᾱ {alpha_bar:.3g} · β {diffusion.betas[i].item():.3g} · "
        f"β̃ {diffusion.posterior_variance[i].item():.3g} · SNR {diffusion.snr[i].item():.3g}"
    )
