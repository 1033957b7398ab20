"""Blocks whose page Gradio's i18n shows in the visitor's language, while its API stays English.

Gradio translates in the browser whatever property holds a marker: `__i18n__`, and JSON with a key. So the
configuration that the browser gets has a marker in place of every text that a catalogue knows, while the
components keep their English.
"""

__all__ = ["Page", "visitor_texts"]

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import pandas as pd
from gradio.routes import App

from ddpm_app.ui.languages.catalogues import FOLLOWS, LANGUAGES, in_language, translation
from ddpm_app.ui.languages.speech import in_visitors_language, visitors_language
from ddpm_app.ui.languages.texts import Kind, kind_of, rewritten

MARK = "__i18n__"
CHOICE = "choice: "  # Gradio also translates plain values that are keys, and a choice's value has to stay


class Page(gr.Blocks):
    """The whole page; `launch` needs no i18n of its own."""

    _words: "Words | None" = None
    _marked: list[dict[str, Any]] | None = None  # the components of the complete page

    def __exit__(self, *raised: Any) -> None:
        """The page is built: from now on its handlers answer in the visitor's language."""
        if not any(raised):
            self._complete()
        with _no_server():
            super().__exit__(*raised)

    def _complete(self) -> None:
        tables = [each for each in self.blocks.values() if isinstance(each, gr.Dataframe)]
        self.load(_begun(tables), None, tables, queue=False, show_progress="hidden", api_visibility="private")
        for each in self.fns.values():
            if each.fn:
                each.fn = in_visitors_language(each.fn, each.outputs)
        self._words = Words()

    def queue(self, *args: Any, **options: Any) -> "Page":
        """As Gradio's own."""
        with _no_server():
            return super().queue(*args, **options)  # type: ignore[return-value]

    def get_config_file(self) -> Any:
        """What the browser builds the page from, with markers.

        Gradio asks four times until a page is served; one that is complete is described once.
        """
        if self._words and not self._marked:
            described: Any = self.default_config.get_config()
            self.default_config.get_config = lambda *_: dict(described)  # type: ignore
            self._marked = [
                each | {"props": self._words.marked_all(each["type"], each["props"])}
                for each in described["components"]
            ]
        config: Any = super().get_config_file()
        if self._words:
            config |= {"components": self._marked, "i18n_translations": self._words.in_browser}
        return config

    def launch(self, *args: Any, **options: Any):
        """Serves the page in every language."""
        words = self._words.in_browser if self._words else {}
        return super().launch(*args, i18n=gr.I18n(**words), **options)

    def get_api_info(self, *args: Any, **options: Any):
        """The description of the API, in English."""
        info = super().get_api_info(*args, **options)
        for endpoint in info["named_endpoints"].values():
            for each in (*endpoint["parameters"], *endpoint["returns"]):
                each["label"] = unmarked(each["label"])
        return info


def _begun(tables: list[gr.Dataframe]) -> Callable:
    """A handler that tells what the tables begin with, whose headings Gradio's i18n does not reach."""

    def tell() -> list[Any]:
        if not visitors_language():
            return [gr.skip()] * len(tables)
        return [_frame(table) for table in tables]

    return tell


def _frame(table: gr.Dataframe) -> pd.DataFrame:
    told = table.value if isinstance(table.value, dict) else {}
    return pd.DataFrame(told.get("data"), columns=told.get("headers") or table.headers)


@contextmanager
def _no_server() -> Iterator[None]:
    """Within the block Gradio builds none: it does so at every call, and `launch` builds the one served."""
    create_app = App.create_app
    App.create_app = staticmethod(lambda *_, **__: None)  # type: ignore
    try:
        yield
    finally:
        App.create_app = staticmethod(create_app)  # type: ignore


def visitor_texts(config: Any) -> Iterator[tuple[dict[str, Any], str, Kind]]:
    """Every visitor-facing text of the page: the properties that it is one of, its name and its kind."""
    for component in config["components"]:
        for name, kind in _texts(component["type"], component["props"]):
            yield component["props"], name, kind


def _texts(component: str, props: dict[str, Any]) -> list[tuple[str, Kind]]:
    kinds = ((name, kind_of(component, name, value)) for name, value in props.items() if value)
    return [(name, kind) for name, kind in kinds if kind]


class Words:
    """The texts of one page that have a translation, by the keys of their markers."""

    def __init__(self) -> None:
        self.in_browser: dict[str, dict[str, str]] = {locale: {} for locale in ("en", *LANGUAGES, *FOLLOWS)}

    def marked_all(self, component: str, props: dict[str, Any]) -> dict[str, Any]:
        """The properties of a component as the browser is to get them."""
        return props | {name: self.marked(kind, props[name]) for name, kind in _texts(component, props)}

    def marked(self, kind: Kind, value: Any) -> Any:
        """The property as the browser is to get it."""
        if kind == "template":
            return rewritten(kind, value, _chosen_by_script)
        if kind == "choices":
            return [(self._marker("choices", name, CHOICE + name), choice) for name, choice in value]
        return self._marker(kind, value, value)

    def _marker(self, kind: Kind, text: str, key: str) -> str:
        told = {language: in_language(kind, text, language) for language in LANGUAGES}
        if all(each == text for each in told.values()):
            return text
        told |= {locale: told[language] for locale, language in FOLLOWS.items()}
        for locale, words in {"en": text, **told}.items():
            self.in_browser[locale][key] = words
        return marker(key)


def marker(key: str) -> str:
    """What Gradio replaces by the translation; the first brace that closes ends it, so the key has none."""
    return MARK + json.dumps({"__type__": "translation_metadata", "key": key.replace("}", "\0")}).replace(
        "\\u0000", "\\u007d"
    )


def unmarked(text: str) -> str:
    """The English of a marker; any other text as it is."""
    return json.loads(text[len(MARK) :])["key"] if text.startswith(MARK) else text


def _chosen_by_script(sentence: str) -> str:
    """An expression for a template of gr.HTML, which Gradio's i18n does not reach."""
    told = {tag: translation(sentence, language) for tag, language in (("ko", "ko"), ("zh", "zh-CN"))}
    if all(each == sentence for each in told.values()):
        return sentence
    choices = ", ".join(f"{tag}: `{words}`" for tag, words in told.items())
    return f"${{ ({{ {choices} }})[navigator.language.slice(0, 2)] ?? `{sentence}` }}"
