"""diffusers imported without torch's compiler, which takes most of the time and serves nothing here."""

__all__ = ["import_diffusers"]

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
_IMPORTING = threading.Lock()


def import_diffusers() -> ModuleType:
    """diffusers with its U-Net; the first import finds no compiler, as with a torch too old to have one.

    Whoever compiles with torch afterwards imports the compiler then.
    """
    with _IMPORTING, _without_compiler():
        import diffusers

        diffusers.UNet2DModel  # noqa: B018  # diffusers imports what is asked of it
    return diffusers


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Within the block the compiler cannot be imported, and what it is told to leave alone stays as it is."""
    if COMPILER in sys.modules:
        yield
        return
    disable = torch.compiler.disable
    sys.modules[COMPILER] = None  # type: ignore[assignment]  # how Python marks what is not to be found
    torch.compiler.disable = _unchanged  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compiler.disable = disable
        del sys.modules[COMPILER]


def _unchanged(function: Callable | None = None, *settings: Any, **named: Any) -> Callable:
    return (lambda each: each) if function is None else function
