"""This run as code: its settings as JSON, as the equal command line and as Python, each to be copied."""

__all__ = ["code_block", "measured", "spelled"]

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ddpm_app.engine import SampleRequest, command_line, snippet
from ddpm_app.pictures import columns_for
from ddpm_app.ui.forms import Told

LOOK: dict[str, Any] = {
    "interactive": False,
    "wrap_lines": True,
    "show_line_numbers": False,
    "buttons": ["copy"],
}


def code_block() -> gr.State:
    """Builds the fold-out in the current column; it appears once the state holds what `spelled` gives.

    A state, as the served API has no need of these texts.
    """
    said = gr.State()
    with gr.Accordion("This run as code", open=False, visible=False, elem_classes="guide late") as folded:
        command = gr.Code(label="Command line", language="shell", **LOOK)
        program = gr.Code(label="Python", language="python", **LOOK)
        settings = gr.Code(label="Settings as JSON", language="json", **LOOK)
    said.change(
        _shown,
        said,
        [folded, command, program, settings],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    return said


def spelled(requests: Sequence[SampleRequest], told: Told) -> tuple[str, str, str]:
    """The command line, the program and the settings; the command line only where `sample` draws the run."""
    folders = ["pictures"] if len(requests) == 1 else [f"pictures/{k + 1}" for k in range(len(requests))]
    plain = all(type(each) is SampleRequest for each in requests)
    commands = [
        command_line(each, folder, told.checkpoints) for each, folder in zip(requests, folders, strict=True)
    ]
    columns = columns_for(requests[0].num_images) if len(requests) == 1 else requests[0].num_images
    return "\n".join(commands) if plain else "", snippet(requests, columns, told.checkpoints), told.json


def measured(told: Told, command: str = "") -> tuple[str, str, str]:
    """The same of a run that no request draws alone: its settings, and the command where there is one."""
    return command, "", told.json


def _shown(said: tuple[str, str, str] | None) -> list[gr.Accordion | gr.Code | str]:
    if said is None:  # before any run: Gradio tells a state's beginning as a change when its block appears
        return [gr.Accordion(visible=False), gr.Code(visible=False), gr.Code(visible=False), ""]
    command, program, settings = said
    return [
        gr.Accordion(visible=True),
        gr.Code(command, visible=bool(command)),
        gr.Code(program, visible=bool(program)),
        settings,
    ]
