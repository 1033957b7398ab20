"""A tab's main button with its Stop, wired to its handler, its budget and its links."""

__all__ = ["RunButtons", "Undone", "linked", "refusals_kept", "run_buttons"]

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from ddpm_app.engine import SampleRequest
from ddpm_app.models import BUNDLED
from ddpm_app.ui.controls import Shared
from ddpm_app.ui.forms import Check, Form
from ddpm_app.ui.openings import open_with
from ddpm_app.ui.sessions import bar


class Undone(NamedTuple):
    """A handler, its input and its output: it takes back what a run that did not end has drawn."""

    handler: Callable
    given: Component
    drawn: Component


@dataclass(frozen=True)
class RunButtons:
    """The tab's main button, with its Stop beside it, and a line for what it would take of a budget."""

    start: gr.Button
    stop: gr.Button
    budget: gr.Markdown

    def wire(
        self,
        shared: Shared,
        tab: str,
        handler: Callable,
        inputs: Sequence[Component],
        outputs: Sequence[Component],
        kind: type = SampleRequest,
        undone: Undone | None = None,
        beside: str = "",
        **checks: Check,
    ) -> Form:
        """`run`, and the form that a link or a recipe fills, with values that `kind` and `checks` take."""
        form = linked(shared, tab, handler, inputs, self.start, kind, **checks)
        self.run(shared, tab, handler, inputs, outputs, also=[form.go.change], undone=undone, beside=beside)
        return form

    def run(
        self,
        shared: Shared,
        tab: str,
        handler: Callable,
        inputs: Sequence[Component],
        outputs: Sequence[Component],
        also: Sequence[Any] = (),
        js: str | None = None,
        undone: Undone | None = None,
        beside: str = "",
    ) -> None:
        """Start runs the handler, served under the tab's name; Stop ends it, or takes it out of the queue.

        The first output is the status line. Other events may start it `also`; `js` may change the inputs in
        the page; `undone` follows a run that is stopped or fails; Stop also ends the run `beside`
        this one, which shares its status line.
        """
        shared.budget_lines[tab] = self.budget
        run = gr.on(
            [self.start.click, *also],
            refusals_kept(handler, outputs[0]),
            inputs,
            outputs,
            api_name=tab,
            js=js,
            show_progress="hidden",
            concurrency_id="device",
        )

        def end(request: gr.Request) -> str:
            return shared.sessions.stop(request, *filter(None, [beside, tab]))

        # first the page turns away from the run, so that nothing of it comes after Stop's own line
        self.stop.click(None, cancels=run, api_visibility="private")
        self.stop.click(end, outputs=outputs[0], queue=False, api_visibility="private")
        if undone:
            for early in (self.stop.click, run.failure):
                early(*undone, queue=False, show_progress="hidden", api_visibility="private")
        open_with(tab, outputs, str(self.start.value))


def refusals_kept(handler: Callable, status: Component) -> Callable:
    """The handler, which leaves the sentence of a gr.Error on its status line: its message goes by itself."""

    @functools.wraps(handler)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        shown = False
        try:
            answer = handler(*args, **kwargs)
            for update in answer if inspect.isgenerator(answer) else [answer]:
                shown = shown or update.keys() > {status}
                yield update
        except gr.Error as error:
            yield {status: bar(str(error.message), 0, unfinished=shown)}
            raise

    return stream


def linked(
    shared: Shared,
    tab: str,
    handler: Callable,
    inputs: Sequence[Component],
    within: Block,
    kind: type = SampleRequest,
    **checks: Check,
) -> Form:
    """The form of a tab with these inputs of its handler, known to links and recipes from now on."""
    spans, engine = shared.timestep_sliders, shared.engine
    checkpoints = BUNDLED if engine.limits.public else engine.checkpoints  # no stranger learns where they lie
    shared.forms[tab] = Form.of(tab, handler, inputs, kind, within, spans, checkpoints, checks)
    return shared.forms[tab]


def run_buttons(label: str, variant: Literal["primary", "secondary"] = "primary") -> RunButtons:
    """Builds the two in a row, and the line, which only a public page shows."""
    with gr.Row():
        start = gr.Button(label, variant=variant, scale=3, min_width=120)
        stop = gr.Button("Stop", variant="stop", scale=1, min_width=70)
    return RunButtons(start, stop, gr.Markdown(visible=False, elem_classes="budget"))
