"""A request as one says it elsewhere: the flags of the command line, and lines of Python.

Always said are the settings that nobody wants to guess; of the others those that differ from the default.
"""

__all__ = ["command_line", "flag", "snippet"]

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ddpm_app.engine.requests import SampleRequest
from ddpm_app.models import BUNDLED

FLAGS = {"num_inference_steps": "steps", "variance_type": "variance", "timestep_spacing": "spacing"}
ALWAYS = ("model", "sampler", "num_inference_steps", "num_images", "seed")
SHEET = "sheet.png"  # as the page calls the file that holds a run's pictures to begin from
INDENT = " " * 4


def flag(name: str) -> str:
    """The short name of a request's field, on the command line and in links."""
    return FLAGS.get(name, name)


def command_line(
    request: SampleRequest,
    out: str = "pictures",
    checkpoints: Path = BUNDLED,
    command: str = "sample",
    **others: Any,
) -> str:
    """The command that draws the same pictures into the folder `out`; `others` are options of its own."""
    words = ["python", "-m", "ddpm_app", command]
    for name, value in (_said(request) | others).items():
        option = f"--{flag(name).replace('_', '-')}"
        words += [option, str(value)] if not isinstance(value, bool) else [_switch(option, value)]
    if checkpoints != BUNDLED:
        words += ["--checkpoints", str(checkpoints)]
    return shlex.join([*words, "--out", out])


def snippet(requests: Sequence[SampleRequest], columns: int, checkpoints: Path = BUNDLED) -> str:
    """A Python program that runs these requests, alike in kind, and writes their pictures as one sheet.

    The pictures that they begin from are read out of the run's own sheet, as the page offers it.
    """
    kind = type(requests[0]).__name__
    own = checkpoints != BUNDLED
    begins = _pictures(requests[0])
    forked = ["Fork"] if any(getattr(each, "forks", ()) for each in requests) else []
    names = ", ".join(sorted([kind, "Engine" if own else "run", *forked]))
    helpers = ", ".join([*(["read_source"] if begins else []), "save_png", "sheet"])
    lines = [
        "from pathlib import Path",
        "",
        "import torch",
        "",
        f"from ddpm_app.engine import {names}",
        f"from ddpm_app.pictures import {helpers}",
        "",
        *([f"run = Engine(checkpoints=Path({str(checkpoints)!r})).run"] if own else []),
        *_requests(kind, [_said(each) for each in requests], begins),
        "rows = []",
        "for request in requests:",
        f"{INDENT}for frame in run(request):",
        f'{INDENT * 2}print(f"step {{frame.step}} of {{frame.num_steps}}", end="\\r")',
        f"{INDENT}rows.append(frame.images)  # uint8 (B, C, H, W)",
        f'save_png(sheet(torch.cat(rows), columns={columns}), Path("again.png"), requests[0].recipe())',
    ]
    return "\n".join(lines) + "\n"


def _requests(kind: str, said: Sequence[dict[str, Any]], begins: Sequence[str]) -> list[str]:
    """The lines that make `requests`, what is alike in all of them said once."""
    alike = {name: value for name, value in said[0].items() if all(each.get(name) == value for each in said)}
    common = [
        *(f"{name}={value!r}" for name, value in alike.items()),
        *(f"{name}=read_source({SHEET!r}, {name!r})" for name in begins),
    ]
    differing = [
        ", ".join(f"{name}={value!r}" for name, value in each.items() if name not in alike) for each in said
    ]
    return [
        "common = dict(",
        *(f"{INDENT}{each}," for each in common),
        ")",
        "requests = [",
        *(f"{INDENT}{kind}(**common{own and ', '}{own})," for own in differing),
        "]",
    ]


def _said(request: SampleRequest) -> dict[str, Any]:
    """The settings that are spelled out; pictures are none of them."""
    defaults = {each.name: each.default for each in fields(SampleRequest)}
    return {
        name: value
        for name, value in request.recipe().items()
        if name in ALWAYS or name not in defaults or value != defaults[name]
    }


def _pictures(request: SampleRequest) -> list[str]:
    """The fields of the pictures that it begins from."""
    names = [each.name for each in fields(request) if not each.metadata.get("recipe", True)]
    return [name for name in names if getattr(request, name) is not None]


def _switch(option: str, on: bool) -> str:
    return option if on else f"--no-{option.removeprefix('--')}"
