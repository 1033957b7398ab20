"""Train: a model of one's own, by a process that goes on without the page; the tab looks at its folder."""

__all__ = ["build"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from ddpm_app.errors import UserError
from ddpm_app.models import HUB_MODELS
from ddpm_app.training import TrainingConfig, runs
from ddpm_app.training.presets import PRESETS
from ddpm_app.ui.buttons import linked
from ddpm_app.ui.controls import Shared, explain
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.runs import START, RunView, run_view, shown
from ddpm_app.ui.sessions import spoken

ABOUT = r"""A network learns to tell the noise from the picture, at every $t$ alike. The run is a process of
its own: close the page, come back, it is still there.

$$L_\text{simple} = \mathbb E_{t, x_0, \epsilon}\,\|\epsilon - \epsilon_\theta(x_t, t)\|^2$$"""
SOURCES = {"Built-in shapes": "shapes", "Upload": "upload", "Folder or file": "path", "Hub data set": "hub"}
COLOURS = {"gray": 1, "colour": 3}
CHOSEN = (
    "num_steps",
    "batch_size",
    "learning_rate",
    "image_size",
    "channels",
    "flip",
)  # what a preset fills in
LOWERED = ("learning_rate", "batch_size")  # what a run that failed may go on with less of
FAST, SLOW = 2.0, 10.0  # seconds between two looks, while a run goes on and otherwise
END_FOR_GOOD = """name => confirm(
    `End the run of ${name} for good? The model stays as it is; it cannot be trained on.`) ? name : ''"""


@dataclass(frozen=True)
class Form:
    """What a run is started from, in the order of `begin`'s parameters."""

    start: gr.Button
    name: gr.Textbox
    source: gr.Radio
    uploads: gr.File
    path: gr.Textbox
    repository: gr.Textbox
    preset: gr.Dropdown
    settings: list[gr.components.Component]  # as in CHOSEN

    @property
    def inputs(self) -> list[gr.components.Component]:
        """In the order of `begin`'s parameters."""
        return [self.name, self.source, self.uploads, self.path, self.repository, self.preset, *self.settings]

    def setting(self, name: str) -> gr.components.Component:
        """One of CHOSEN."""
        return self.settings[CHOSEN.index(name)]


def build(shared: Shared, tab: gr.Tab) -> None:
    """Lays the tab out and wires it."""
    explain(ABOUT, "train")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            form = start_form()
        with gr.Column(scale=2, min_width=300):
            run = gr.Dropdown(
                [], label="Run", info="what is being trained, and what was", allow_custom_value=True
            )
            view = run_view()
            link = link_button()
            push_form(shared, run)
    wire(shared, tab, form, run, view, link)


def start_form() -> Form:
    """Name, data and settings of a new run."""
    start = gr.Button(START, variant="primary")
    name = gr.Textbox("my-model", label="Name", info="the new model's, in the list of models", max_length=64)
    source = gr.Radio(list(SOURCES.items()), value="shapes", label="Pictures to learn from")
    uploads = gr.File(
        file_count="multiple",
        file_types=["image", ".zip", ".parquet"],
        label="Pictures, .zip or .parquet files",
        height=140,
        visible=False,
    )
    path = gr.Textbox(
        "", label="On this machine", placeholder="a folder, a .zip or a .parquet file", visible=False
    )
    repository = gr.Textbox(
        "", label="On the Hub", placeholder="owner/name, as uoft-cs/cifar10", visible=False
    )
    preset = gr.Dropdown(list(PRESETS), value=next(iter(PRESETS)), label="Preset")
    steps, batch, rate, size, channels, flip = filled(preset.value)
    settings: list[gr.components.Component] = []
    with gr.Row():
        settings.append(gr.Number(steps, label="Steps", precision=0, minimum=1, min_width=120))
        settings.append(gr.Number(batch, label="Batch size", precision=0, minimum=1, min_width=120))
    with gr.Row():
        settings.append(
            gr.Number(rate, label="Learning rate", minimum=0, maximum=1, step=1e-5, min_width=120)
        )
        settings.append(gr.Number(size, label="Image size", precision=0, minimum=1, min_width=120))
    settings.append(gr.Radio(list(COLOURS.items()), value=channels, label="Colour"))
    settings.append(gr.Checkbox(flip, label="Mirror pictures at random"))
    source.change(
        lambda where: [gr.update(visible=where == kind) for kind in ("upload", "path", "hub")],
        source,
        [uploads, path, repository],
        queue=False,
        api_visibility="private",
    )
    # `input`: a link that names a preset says the settings too
    preset.input(filled, preset, settings, queue=False, api_visibility="private")
    return Form(start, name, source, uploads, path, repository, preset, settings)


def filled(preset: str) -> list[Any]:
    """The preset's own values of the settings that stand on the page."""
    config = TrainingConfig("", "", **PRESETS[preset])
    return [getattr(config, name) for name in CHOSEN]


def push_form(shared: Shared, run: gr.Dropdown) -> None:
    """Where a trained model is published from."""

    @spoken
    def publish(name: str, repository: str, token: str, private: bool) -> tuple[str, str]:
        from ddpm_app.models.publish import push

        if name not in runs.names(shared.engine.checkpoints):
            raise UserError("there is no such run to publish; choose one of the list")
        address = push(
            shared.engine.checkpoints / name, repository.strip(), token=token or None, private=private
        )
        return f"{name} is now at {address}", ""

    with gr.Accordion("Push to the Hub", open=False):
        repository = gr.Textbox("", label="Repository", placeholder="owner/name")
        token = gr.Textbox(
            "", label="Token", type="password", info="with write access; empty: the login of this machine"
        )
        private = gr.Checkbox(True, label="Private")
        button = gr.Button("Push the model and its card", size="sm")
        said = gr.Markdown()
    button.click(publish, [run, repository, token, private], [said, token], api_visibility="private")


def wire(shared: Shared, tab: gr.Tab, form: Form, run: gr.Dropdown, view: RunView, link: gr.Button) -> None:
    """The events: the timer looks, the buttons act and look."""
    checkpoints = shared.engine.checkpoints
    timer, seen, followed = gr.Timer(FAST), gr.State(""), gr.State("")
    outputs = [*view.outputs, run, shared.model, timer, seen, followed]

    def look(selected: str | None, seen: str = "", followed: str | None = None) -> list[Any]:
        """What is on disk now, unless it was `seen`; a run not `followed` so far is turned to."""
        names, going = runs.names(checkpoints), runs.active(checkpoints)
        if followed is not None and going not in ("", followed):
            selected = going
        elif selected not in names:
            selected = next(iter(names), None)
        state = runs.state(checkpoints / selected) if selected else None
        models = shared.engine.available_models()
        if (now := repr((names, models, state and replace(state, progress=state.progress[-1:])))) == seen:
            return [gr.skip()] * len(outputs)
        lists = gr.Dropdown(names, value=selected), gr.Dropdown(list(dict.fromkeys([*models, *HUB_MODELS])))
        return [*shown(state), *lists, gr.Timer(FAST if going else SLOW), now, going]

    @spoken
    def begin(
        name: str,
        source: str,
        uploads: list[str] | None,
        path: str,
        repository: str,
        preset: str,
        num_steps: int,
        batch_size: int,
        learning_rate: float,
        image_size: int,
        channels: int,
        flip: bool,
    ) -> list[Any]:
        """Starts a run and shows it."""
        out = runs.free_folder(checkpoints, name.strip())
        data = data_of(source, out, uploads, path, repository)
        values = (num_steps, batch_size, learning_rate, image_size, channels, flip)
        config = TrainingConfig(data, str(out), **changed(preset, values))
        runs.start(out, config, (uploads or ()) if source == "upload" else ())
        return look(out.name)

    def acting(act: Callable[..., None], *settings: str) -> Callable:
        @spoken
        def handler(name: str, *values: Any) -> list[Any]:
            if not name:  # the question was answered with no
                return [gr.skip()] * len(outputs)
            if name in runs.names(checkpoints):
                given = {key: value for key, value in zip(settings, values, strict=True) if value}
                act(checkpoints.resolve() / name, **given)
            return look(name)

        return handler

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    copies_link(link, linked(shared, "train", begin, form.inputs, form.start))  # its `go` starts nothing
    form.start.click(begin, form.inputs, outputs, **quiet)
    view.pause.click(acting(runs.pause), run, outputs, **quiet)
    view.resume.click(
        acting(runs.resume, *LOWERED), [run, *(form.setting(name) for name in LOWERED)], outputs, **quiet
    )
    view.stop.click(  # by default a press is lost while the answer before it is on its way
        acting(runs.stop), run, outputs, js=END_FOR_GOOD, trigger_mode="multiple", **quiet
    )
    shared.choices.append(view.use.click(lambda name: name, run, shared.model, **quiet))
    run.input(look, run, outputs, queue=False, **quiet)
    for event in (timer.tick, tab.select):
        event(look, [run, seen, followed], outputs, queue=False, **quiet)


def changed(preset: str, values: Sequence[Any]) -> dict[str, Any]:
    """The preset with the values on the page, as in CHOSEN; attention keeps its depth in the network."""
    settings = dict(zip(CHOSEN, values, strict=True))
    for name, value in settings.items():
        if value is None:
            raise UserError(f"{name} is empty; give a number, or choose the preset again")
    before, size = PRESETS[preset]["image_size"], settings["image_size"]
    attends = tuple(edge * size // before for edge in PRESETS[preset]["attention_resolutions"])
    return PRESETS[preset] | settings | {"attention_resolutions": attends}


def data_of(source: str, out: Path, uploads: list[str] | None, path: str, repository: str) -> str:
    """The `data` of a TrainingConfig for what was chosen; UserError where it is empty."""
    given = {"shapes": "shapes", "upload": uploads, "path": path.strip(), "hub": repository.strip()}[source]
    if not given:
        raise UserError("there is nothing to learn from; upload pictures, or name a folder or a data set")
    if source == "upload":
        return str(out / runs.UPLOADS)
    return str(Path(str(given)).expanduser().resolve()) if source == "path" else str(given)
