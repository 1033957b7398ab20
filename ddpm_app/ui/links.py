"""Links that carry a tab and its settings: made within the page."""

__all__ = ["copies_link", "link_button"]

import json
from pathlib import Path

import gradio as gr
from gradio.components import Component

from ddpm_app.ui.forms import Form
from ddpm_app.ui.languages import note

COPY = Path(__file__).with_name("copy_link.js").read_text()
COPIED = "The link is copied. It restores these settings and starts nothing by itself."
WITHOUT_PICTURES = "Pictures do not travel in a link: download the sheet, which carries them."


def link_button() -> gr.Button:
    """Builds the button, for `copies_link`."""
    return gr.Button("Copy link", size="sm", min_width=90)


def copies_link(button: gr.Button, form: Form, **instead: Component) -> None:
    """The button puts the link into the clipboard that says what the form's controls show at that moment.

    For some of them, by name, other components may say it `instead`.
    """
    controls = form.sayable | instead
    script = COPY.replace("TAB", json.dumps(form.tab)).replace("NAMES", json.dumps(list(controls)))
    pictures = len(controls) < len(form.controls)
    button.click(None, list(controls.values()), js=script, api_visibility="private").then(
        lambda: note(f"{COPIED} {WITHOUT_PICTURES}" if pictures else COPIED),  # queued, or it is not shown
        api_visibility="private",
    )
