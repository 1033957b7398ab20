"""Visitor-facing texts of the page taken apart into sentences, and put together again.

A sentence is what the catalogues translate: a label, a paragraph or an item of Markdown, the text between two
tags of HTML, or an attribute that is read aloud. White space within it counts as one blank: wrapping is free.
"""

__all__ = ["Kind", "Translate", "has_words", "kind_of", "rewritten", "sentences"]

import re
from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["plain", "choices", "markdown", "html", "template"]
Translate = Callable[[str], str]

PLAIN = ("label", "info", "placeholder", "title", "alt_text")  # of any component
SPEAKING = {"button": "plain", "downloadbutton": "plain", "uploadbutton": "plain", "markdown": "markdown"}
HEADING = re.compile(r"^(#+ .*)\n(?!\n)", re.MULTILINE)
BETWEEN = re.compile(
    r"(\$\$.*?\$\$|```.*?```|\n\s*\n|^[ \t]*(?:#+|[-*>]|\d+\.)[ \t]+)", re.DOTALL | re.MULTILINE
)
TAG = re.compile(r"(<[^>]*>)")
READ_ALOUD = re.compile(r'((?:aria-label|title|alt|placeholder|data-said-\w+)=")([^"]+)(")')
WORDLESS = re.compile(r"\$.*?\$|\]\([^)]*\)|`[^`]*`|&\w+;|\$\{.*?\}", re.DOTALL)


def kind_of(component: str, name: str, value: Any) -> Kind | None:
    """What kind of visitor-facing text this property of a Gradio component is; None for all others."""
    if name == "choices" and isinstance(value, list):
        return "choices"
    if not isinstance(value, str):
        return None
    if name in PLAIN:
        return "plain"
    if component == "html":
        return {"value": "html", "html_template": "template"}.get(name)  # type: ignore[return-value]
    if component == "markdown" and value.startswith("<div"):
        return "html"  # a status line
    return SPEAKING.get(component) if name == "value" else None  # type: ignore[return-value]


def rewritten(kind: Kind, text: str, translate: Translate) -> str:
    """The text with each of its sentences translated, and everything between them as it was."""
    if kind in ("plain", "choices"):
        return _each(text, translate)
    if kind == "markdown":
        return _between(BETWEEN, HEADING.sub(r"\1\n\n", text), translate)
    marked = _between(TAG, text, translate)
    return READ_ALOUD.sub(lambda found: found[1] + _each(found[2], translate) + found[3], marked)


def sentences(kind: Kind, text: str) -> list[str]:
    """The sentences of the text, in order."""
    found: list[str] = []

    def note(sentence: str) -> str:
        found.append(sentence)
        return sentence

    rewritten(kind, text, note)
    return found


def has_words(sentence: str) -> bool:
    """Whether anything but symbols, numbers, formulae and code is left to translate; seconds are."""
    return re.search(r"[A-Za-z]{2}|\d s\b", WORDLESS.sub(" ", sentence)) is not None


def _between(separator: re.Pattern[str], text: str, translate: Translate) -> str:
    parts = separator.split(text)
    parts[::2] = [_each(part, translate) for part in parts[::2]]
    return "".join(parts)


def _each(text: str, translate: Translate) -> str:
    """One sentence, its outer white space left alone; a table of figures stays as its report has it."""
    bare = text.strip()
    if not has_words(bare) or bare.startswith("| "):
        return text
    start = text.index(bare)
    return text[:start] + translate(" ".join(bare.split())) + text[start + len(bare) :]
