"""A tab's controls by the names of its handler's parameters: one mapping for links, recipes and replays.

These names are those of the served API too. What a link or a recipe says about them comes from anybody and is
checked here, by the control and then by the request that the tab makes of it.
"""

__all__ = ["UNTOLD", "Asked", "Form", "Told"]

import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, get_origin

import gradio as gr
import torch
from gradio.blocks import Block
from gradio.components import Component
from torch import Tensor

from ddpm_app.engine import flag
from ddpm_app.engine.checks import MAX_SEED, whole
from ddpm_app.errors import UserError
from ddpm_app.models import BUNDLED
from ddpm_app.pictures import as_source, decode_source, to_picture
from ddpm_app.ui.files import picture_file

BLANK = torch.zeros(1, 1, 1, dtype=torch.uint8)  # for a picture where only numbers are checked
TRUTHS = {"true": True, "false": False}
EXACT = 2**53 - 1  # the largest whole number that a browser keeps; only seeds go beyond
APART = 2**32  # seeds so far apart draw the same noise
LONGEST = 4000  # of what a link may write into a box
WITHOUT = "a picture, which only the PNG carries"
Check = Callable[[Any], object]  # raises UserError for what its control cannot take


@dataclass(frozen=True)
class Told:
    """What a run was asked, by the names of its form; its pictures as words. Empty: it cannot be replayed."""

    settings: dict[str, Any] = field(default_factory=dict)
    checkpoints: Path = BUNDLED

    @property
    def recipe(self) -> dict[str, Any]:
        """What the recipes of its pictures carry."""
        return {"run": self.settings} if self.settings else {}

    @property
    def json(self) -> str:
        """The same for people to read; of a picture only that there was one, which no other replaces."""
        plain = {
            name: WITHOUT if value is not None and name.startswith("picture") else value
            for name, value in self.settings.items()
        }
        return json.dumps(plain, indent=2)


UNTOLD = Told()


@dataclass(frozen=True)
class Asked:
    """Values for a form, and whether its run is to start; equal wishes at other times are other wishes."""

    values: dict[str, Any]
    length: int  # of the model's chain
    run: bool
    stamp: int = field(default_factory=time.monotonic_ns)

    def __hash__(self) -> int:  # by which Gradio sees that a state has changed
        return self.stamp


@dataclass(frozen=True, eq=False)
class Form:
    """The controls of a tab, and the way to them."""

    tab: str
    controls: dict[str, Component]
    kind: type  # the request whose validation its settings have to pass
    way: dict[gr.Tabs, Any]  # the tabs around it, and what each has to open
    timesteps: Sequence[Component]  # the controls whose range is the model's chain
    checkpoints: Path
    checks: Mapping[str, Check]  # of single controls, beyond what they themselves refuse
    # both have to be rendered outside the tabs: a tab that was never opened takes its states for changed
    asked: gr.State  # an Asked, from whoever wants the controls filled
    go: gr.State  # changes once they are filled and the run is to start

    @classmethod
    def of(
        cls,
        tab: str,
        handler: Callable,
        inputs: Sequence[Component],
        kind: type,
        within: Block,
        timesteps: Sequence[Component],
        checkpoints: Path,
        checks: Mapping[str, Check],
    ) -> "Form":
        """The inputs under the names of the handler's parameters; `within` is any block of the tab."""
        signature = inspect.signature(handler).parameters.values()
        names = [each.name for each in signature if each.annotation is not gr.Request]
        controls = dict(zip(names, inputs, strict=True))
        asked, go = gr.State(render=False), gr.State(0, render=False)
        form = cls(tab, controls, kind, _way(within), timesteps, checkpoints, checks, asked, go)
        form.asked.change(
            form.filled,
            form.asked,
            [*form.own.values(), form.go],  # queued, as otherwise the page is not told that `go` has changed
            show_progress="hidden",
            api_visibility="private",
        )
        return form

    @property
    def own(self) -> dict[str, Component]:
        """The controls but the model, which all tabs share."""
        return {name: control for name, control in self.controls.items() if name != "model"}

    @property
    def sayable(self) -> dict[str, Component]:
        """The controls whose values fit into a link, by the names they have there."""
        return {self._short(name): control for name, control in self._plain.items()}

    @property
    def _plain(self) -> dict[str, Component]:
        return {
            name: each for name, each in self.controls.items() if not isinstance(each, gr.Image | gr.File)
        }

    def told(self, arguments: Mapping[str, Any], **pictures: Tensor) -> Told:
        """What a handler with these arguments was asked, and the pictures, (C, H, W), that it began from."""
        plain = {name: arguments[name] for name in self._plain}
        empty = {name: None for name, control in self.controls.items() if isinstance(control, gr.Image)}
        sources = {name: as_source(picture) for name, picture in pictures.items()}
        return Told({"tab": self.tab, **plain, **empty, **sources}, self.checkpoints)

    def accepted(
        self, given: Mapping[str, Any], length: int, beginnings: Mapping[Component, Any] | None = None
    ) -> tuple[dict[str, Any], list[str]]:
        """A value for every control but the model; for those given wrongly a sentence, and the default.

        That is one of the `beginnings`, or what the control was built with.
        """
        known = {control: control.constructor_args.get("value") for control in self.own.values()}
        known |= beginnings or {}
        values = {name: known[control] for name, control in self.own.items()}
        taken: dict[str, Any] = {}
        said = []
        for name, control in self.own.items():
            key = name if name in given else self._short(name)
            if key not in given or isinstance(control, gr.File):  # files of this machine are nobody's to name
                continue
            try:
                taken[name] = _value(name, control, given[key], length if control in self.timesteps else None)
                self._check(taken)
            except UserError as error:
                taken.pop(name, None)
                said.append(f"{error}. The default stays.")
        return values | taken, said

    def filled(self, asked: Asked) -> list[Any]:
        """The values for the controls but the model, and for `go`."""
        values = [
            gr.update(value=asked.values[name], maximum=asked.length)
            if control in self.timesteps
            else asked.values[name]
            for name, control in self.own.items()
        ]
        return [*values, asked.stamp if asked.run else gr.skip()]

    def _short(self, name: str) -> str:
        return name if flag(name) in self.controls else flag(name)

    def _check(self, taken: Mapping[str, Any]) -> None:
        """UserError where a control or the tab's request would not take these values together."""
        for name, check in self.checks.items():
            if name in taken:
                check(taken[name])
        known = {each.name: each for each in fields(self.kind)}
        blanks = {
            name: (BLANK,) if get_origin(each.type) is tuple else BLANK
            for name, each in known.items()
            if not each.metadata.get("recipe", True)
        }
        self.kind(**blanks | {name: value for name, value in taken.items() if name in known.keys() - blanks})


def _way(block: Block) -> dict[gr.Tabs, Any]:
    """The tabs around a block, each with what it has to select."""
    way = {}
    while (parent := block.parent) is not None:
        if isinstance(block, gr.Tab) and isinstance(parent, gr.Tabs):
            way[parent] = block.id
        block = parent
    return way


def _value(name: str, control: Component, given: Any, length: int | None) -> Any:
    """What the control takes for a value from a link, where all are words, or from a recipe."""
    if isinstance(control, gr.Image):
        return None if given is None else picture_file(to_picture(decode_source(given)), name)
    if isinstance(control, gr.Checkbox):
        return _truth(name, given)
    if isinstance(control, gr.Slider | gr.Number):
        return _number(name, given, control, length)
    if isinstance(control, gr.Textbox):
        return _words(name, given, control.max_length or LONGEST)
    if isinstance(control, gr.CheckboxGroup) or getattr(control, "multiselect", False):
        several = given.split(",") if isinstance(given, str) else given
        if not isinstance(several, list):
            raise UserError(f"{name} must be a list, in a link with commas; got {shortened(given)}")
        return [_choice(name, control, each) for each in several]
    return _choice(name, control, given)


def _truth(name: str, given: Any) -> bool:
    known = TRUTHS.get(given.lower(), given) if isinstance(given, str) else given
    if not isinstance(known, bool):
        raise UserError(f"{name} must be true or false; got {shortened(given)}")
    return known


def _words(name: str, given: Any, longest: int) -> str:
    if not isinstance(given, str) or len(given) > longest:
        raise UserError(f"{name} must be at most {longest} characters; got {shortened(given)}")
    return given


def _number(name: str, given: Any, control: gr.Slider | gr.Number, length: int | None) -> int | float:
    try:
        number = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise UserError(f"{name} must be a number; got {shortened(given)}")
    low, high = control.minimum, length or control.maximum
    if isinstance(control.step, int) and isinstance(control.constructor_args.get("value"), int):
        number = whole(name, number, int(low or 0), MAX_SEED if high is None else int(high))
        return number if number <= EXACT else number % APART
    if (low is not None and not number >= low) or (high is not None and not number <= high):
        span = f"in {low:g}..{high:g}" if high is not None else f"{low:g} or more"
        raise UserError(f"{name} must be {span}; got {shortened(given)}")
    return number


def _choice(name: str, control: Any, given: Any) -> Any:
    for _, value in control.choices:
        if given == value or str(given) == str(value):
            return value
    if getattr(control, "allow_custom_value", False) and isinstance(given, str | int):
        return given
    allowed = ", ".join(str(value) for _, value in control.choices)
    raise UserError(f"{name} must be one of {allowed}; got {shortened(given)}")
