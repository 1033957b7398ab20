"""Blocks whose page Gradio's i18n shows in the visitor's language, while its API stays English.

Gradio translates in the browser whatever property holds a marker: `__i18n__`, and JSON with a key. So the
configuration that the browser gets has a marker in place of every text that a catalogue knows, while the
components keep their English.
"""

__all__ = ["Page", "visitor_texts"]

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ddpm_app.ui.languages.catalogues import FOLLOWS, LANGUAGES, in_language, translation
from ddpm_app.ui.languages.speech import in_visitors_language
from ddpm_app.ui.languages.texts import Kind, kind_of, rewritten

MARK = "__i18n__"
CHOICE = "choice: "  # Gradio also translates plain values that are keys, and a choice's value has to stay


class Page(gr.Blocks):
    """The whole page; `launch` needs no i18n of its own."""

    def __exit__(self, *raised: Any) -> None:
        """The page is built: from now on its handlers answer in the visitor's language."""
        for each in self.fns.values():
            if each.fn:
                each.fn = in_visitors_language(each.fn, each.outputs)
        super().__exit__(*raised)

    def get_config_file(self):
        """What the browser builds the page from, with markers."""
        config = super().get_config_file()
        self._words = Words()
        for props, name, kind in visitor_texts(config):
            props[name] = self._words.marked(kind, props[name])
        config["i18n_translations"] = self._words.in_browser
        return config

    def launch(self, *args: Any, **options: Any):
        """Serves the page in every language."""
        return super().launch(*args, i18n=gr.I18n(**self._words.in_browser), **options)

    def get_api_info(self, *args: Any, **options: Any):
        """The description of the API, in English."""
        info = super().get_api_info(*args, **options)
        for endpoint in info["named_endpoints"].values():
            for each in (*endpoint["parameters"], *endpoint["returns"]):
                each["label"] = unmarked(each["label"])
        return info


def visitor_texts(config: Any) -> Iterator[tuple[dict[str, Any], str, Kind]]:
    """Every visitor-facing text of the page: the properties that it is one of, its name and its kind."""
    for component in config["components"]:
        props = component["props"]
        for name, value in list(props.items()):
            if value and (kind := kind_of(component["type"], name, value)):
                yield props, name, kind


class Words:
    """The texts of one page that have a translation, by the keys of their markers."""

    def __init__(self) -> None:
        self.in_browser: dict[str, dict[str, str]] = {locale: {} for locale in ("en", *LANGUAGES, *FOLLOWS)}

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
