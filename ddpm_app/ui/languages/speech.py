"""What handlers say while they run, in the language that the visitor's browser asks for.

Gradio's i18n covers what stands on the page. Texts with numbers in them are made on the server, where the
Accept-Language of the request tells the language; a script sends none and reads English.
"""

__all__ = ["in_visitors_language", "note", "visitors_language"]

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import pandas as pd
from gradio.blocks import Block
from gradio.context import LocalContext

from ddpm_app.ui.languages.catalogues import in_language, language_of
from ddpm_app.ui.languages.texts import kind_of


def in_visitors_language(handler: Callable, outputs: Sequence[Block]) -> Callable:
    """The handler, which answers with translated texts in `outputs` and whose errors are translated too."""

    @functools.wraps(handler)
    def stream(*args: Any, **kwargs: Any) -> Any:
        with _Errors():
            for answer in handler(*args, **kwargs):
                yield _answer(answer, outputs)

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _Errors():
            return _answer(handler(*args, **kwargs), outputs)

    if inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler):
        return handler
    return stream if inspect.isgeneratorfunction(handler) else call


def note(text: str) -> None:
    """Shows the text for a moment at the edge of the page."""
    gr.Info(in_language("markdown", text, visitors_language()) if visitors_language() else text)


class _Errors:
    """Translates the sentence of a gr.Error on its way out."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, gr.Error) and (language := visitors_language()):
            error.message = in_language("markdown", str(error.message), language)


def visitors_language() -> str:
    """The catalogue for whoever's request is being served; empty for English."""
    request = LocalContext.request.get(None)
    accepted = request.headers.get("accept-language", "") if request else ""
    return language_of(accepted.split(",")[0].split(";")[0].strip())


def _answer(answer: Any, outputs: Sequence[Block]) -> Any:
    if not (language := visitors_language()):
        return answer
    if isinstance(answer, dict) and any(isinstance(key, Block) for key in answer):
        return {block: _value(block, value, language) for block, value in answer.items()}
    if len(outputs) == 1:
        return _value(outputs[0], answer, language)
    if isinstance(answer, list | tuple) and len(answer) == len(outputs):
        return [_value(block, value, language) for block, value in zip(outputs, answer, strict=True)]
    return answer


def _value(block: Block, value: Any, language: str) -> Any:
    """A new value or an update of the component, translated."""
    if isinstance(value, Block):
        value = {"__type__": "update", **value.constructor_args}
    name = block.get_block_name()
    if isinstance(value, dict) and value.get("__type__") == "update":
        return {key: _property(name, key, each, language) for key, each in value.items()}
    return _property(name, "value", value, language)


def _property(component: str, name: str, value: Any, language: str) -> Any:
    if component == "dataframe" and isinstance(value, pd.DataFrame):

        def told(cell: Any) -> Any:
            return in_language("plain", cell, language) if isinstance(cell, str) else cell

        return value.rename(columns=told).map(told)
    if component == "gallery" and isinstance(value, list):
        return [(file, in_language("plain", caption, language)) for file, caption in value]
    kind = kind_of(component, name, value)
    if kind == "choices":
        pairs = [each if isinstance(each, list | tuple) else (each, each) for each in value]
        return [(in_language("plain", str(shown), language), choice) for shown, choice in pairs]
    return in_language(kind, value, language) if kind else value
