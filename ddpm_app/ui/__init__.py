"""The Gradio app: app.py composes, tabs/ has one module a tab, and the rest is what the tabs share."""

from ddpm_app.ui.stubs import without_stubs

with without_stubs():
    import gradio  # noqa: F401

from ddpm_app.ui.app import build_app, launch_options

__all__ = ["build_app", "launch_options"]
