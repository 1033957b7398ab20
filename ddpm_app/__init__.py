"""The interactive DDPM paper: every experiment of Ho, Jain and Abbeel (2020), live, on any DDPM checkpoint.

The layers, each standing only on those above it:

    core        the mathematics: schedules, the chain, samplers, likelihood, the exact denoiser (torch alone)
    models      from a name, a folder or a Hub repository to a Model
    engine      requests in, frames out: devices, batching, cancelling
    training    images in, a diffusers folder out          evaluation  numbers about a model
    ui          the Gradio app: one module a tab
"""

__version__ = "0.1.0"
