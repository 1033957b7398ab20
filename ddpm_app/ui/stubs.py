"""Gradio imported without its stub files, which take a third of the time of its import.

For each of its components Gradio parses the module, renders a `.pyi` for editors and rewrites the one beside
it, at every import anew. It leaves out a class that comes from no file, so while it is imported none does.
"""

__all__ = ["without_stubs"]

import inspect
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_stubs() -> Iterator[None]:
    """Within the block `inspect` finds no file for a class of Gradio's; for all else it does."""
    getfile = inspect.getfile

    def none_for_gradio(thing: object) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError("a class of Gradio's, which is imported without stubs")
        return getfile(thing)  # type: ignore[arg-type]

    inspect.getfile = none_for_gradio  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = getfile
