"""Replay: a picture made here, a link or pasted settings set the tab and its controls as they were."""

__all__ = ["Replay", "replay_box"]

import html
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency

from ddpm_app.errors import UserError, one_of
from ddpm_app.models import HUB_MODELS
from ddpm_app.pictures import read_recipe
from ddpm_app.ui.controls import Shared
from ddpm_app.ui.forms import Asked, Form
from ddpm_app.ui.givens import beginnings
from ddpm_app.ui.loading import fetched
from ddpm_app.ui.sessions import spoken

ABOUT = """Every picture made here carries its recipe. Drop one in, a sheet or an animation too: the model,
the tab and its controls are set as they were, and the run starts again."""
MAX_WORDS = 20_000
Restored = dict[Block, Any]  # new values by component


@dataclass(frozen=True)
class Replay:
    """The fold-out, and the line under it that says what was restored."""

    file: gr.File
    words: gr.Textbox
    start: gr.Button
    notice: gr.HTML

    def wire(self, shared: Shared, demo: gr.Blocks) -> Dependency:
        """What is given here is replayed; the page's own link is only restored. Returns the latter event."""

        @spoken
        def from_file(file: str | None, request: gr.Request) -> Iterator[Restored]:
            if file is None:
                raise UserError("drop a PNG or GIF in that this app made")
            name = Path(file).name
            for update in restored(settings_of(read_recipe(file)), f"Replaying {name}", request):
                yield update | {self.file: None}

        @spoken
        def from_words(words: str | None, request: gr.Request) -> Iterator[Restored]:
            yield from restored(settings_in(words or ""), "Replaying", request)

        def restored(settings: Mapping[str, Any], what: str, request: gr.Request) -> Iterator[Restored]:
            if shared.sessions.running(request, str(settings.get("tab", "sample"))):
                raise UserError(
                    "a run goes on in the tab of that recipe; let it end, or press its Stop, then replay"
                )
            return self._restored(shared, settings, what, run=True)

        def from_link(request: gr.Request) -> Iterator[Restored]:
            settings = dict(request.query_params)
            known = {"tab", *shared.forms["sample"].sayable}  # which is meant where no tab is named
            if not known & settings.keys():
                yield {self.notice: ""}
                return
            try:
                yield from self._restored(shared, settings, "From the link", run=False)
            except UserError as error:
                yield {self.notice: said("The link was not followed", [f"{error}."])}

        forms = shared.forms.values()
        for state in (state for form in forms for state in (form.asked, form.go)):
            state.render()
        tabs = dict.fromkeys(tabs for form in forms for tabs in form.way)
        outputs = [self.notice, shared.model, *(form.asked for form in forms), *tabs]

        def when(event: Callable, handler: Callable, *inputs: Any, **also: Any) -> Dependency:
            return event(
                handler, [*inputs], outputs, show_progress="hidden", api_visibility="private", **also
            )

        self.file.upload(
            from_file,
            self.file,
            [*outputs, self.file],
            show_progress="hidden",
            api_visibility="private",
        )
        when(self.start.click, from_words, self.words)
        when(self.words.submit, from_words, self.words)
        return when(demo.load, from_link)

    def _restored(
        self, shared: Shared, settings: Mapping[str, Any], what: str, *, run: bool
    ) -> Iterator[Restored]:
        """Notices while the model comes; then the tab opened, the model chosen, a wish to the tab's form.

        UserError without such a tab, and for a run without such a model, which otherwise is the default one.
        """
        form = form_of(str(settings.get("tab", "sample")), shared.forms)
        name, sentences = settings.get("model", shared.model.value), []
        try:
            if not run:
                listed(shared, name)
            for here, size in shared.engine.loading(name):
                yield {self.notice: said(fetched(here, size) if size else f"Loading {name}", [])}
            loaded = shared.engine.model(name)
        except UserError as error:
            if run:
                raise
            name, sentences = shared.model.value, [f"{error}. The default stays."]
            loaded = shared.engine.model(name)
        if not run and "other_model" in form.controls.keys() & settings.keys():
            try:
                listed(shared, settings["other_model"], form.controls["other_model"])
            except UserError as error:
                sentences.append(f"{error}. The default stays.")
                settings = {key: value for key, value in settings.items() if key != "other_model"}
        values, more = form.accepted(settings, len(loaded.diffusion), beginnings(shared, name))
        chosen: Restored = {shared.model: name} if "model" in form.controls else {}
        yield {
            self.notice: said(f"{what}: {form.tab}" + (f" with {name}" if chosen else ""), sentences + more),
            **chosen,
            form.asked: Asked(values, len(loaded.diffusion), run),
            **{tabs: gr.Tabs(selected=place) for tabs, place in form.way.items()},
        }


def replay_box() -> Replay:
    """Builds the fold-out here."""
    with gr.Accordion("Replay a picture or a link", open=False, elem_classes="guide replay"):
        gr.Markdown(ABOUT)
        with gr.Row():
            file = gr.File(
                label="A picture made here", file_types=[".png", ".gif"], type="filepath", height=150
            )
            with gr.Column():
                words = gr.Textbox(
                    label="Or a link, or settings as JSON", lines=2, max_lines=4, max_length=MAX_WORDS
                )
                start = gr.Button("Replay", size="sm")
    return Replay(file, words, start, gr.HTML(elem_classes="statusline notice"))


def form_of(tab: str, forms: Mapping[str, Form]) -> Form:
    """The form of that name, or the first one in the tab of that name; UserError where there is neither."""
    first = {place: form for form in reversed([*forms.values()]) for place in form.way.values()}
    known = first | dict(forms)
    return known[one_of("tab", tab, known)]


def settings_of(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """The run that a recipe tells of; one of the command line is a run of the Sample tab.

    That of a single branch grows its trunk and itself.
    """
    tab = "branches" if recipe.get("procedure") == "branches" else "sample"
    run = recipe.get("run", {"tab": tab} | dict(recipe))
    if not isinstance(run, dict) or not isinstance(run.get("model"), str):
        raise UserError("the recipe names no run of a model; give a picture that a tab of this app made")
    return run


def settings_in(words: str) -> Mapping[str, Any]:
    """The settings that a link or JSON says."""
    if not words.strip().startswith("{"):
        try:
            settings = dict(parse_qsl(urlsplit(words.strip()).query))
        except ValueError:  # no address at all
            settings = {}
        if "tab" not in settings:
            raise UserError("there is no link to this app; paste one of Copy link, or settings as JSON")
        return settings
    try:
        settings = json.loads(words)
    except (ValueError, RecursionError) as error:
        raise UserError("this is no JSON; paste the settings as they stand under This run as code") from error
    return settings_of({"run": settings})


def listed(shared: Shared, model: str, box: Any = None) -> None:
    """UserError unless the page or this box offers it: a link shall fetch nothing that nobody chose."""
    offered = [shared.model.value, *shared.engine.available_models(), *HUB_MODELS]
    if model not in [*offered, *(value for _, value in (box.choices if box else []))]:
        raise UserError(
            f"the model {shortened(model)} of the link is not in the list of this page; "
            "type its name into the model box if you trust it"
        )


def said(line: str, sentences: list[str]) -> str:
    """What was restored, and what was not."""
    small = "".join(f"<small>{html.escape(each)}</small>" for each in sentences)
    return f'<div class="status" role="status"><span>{html.escape(line)}</span>{small}</div>'
