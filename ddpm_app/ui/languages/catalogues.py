"""What each English sentence of the page is in the other languages.

A catalogue is a JSON object from sentence to translation. `{}` in a sentence stands for what a handler fills
in; the translation names it again, as `{}` in the same order or as `{0}`, `{1}`.
"""

__all__ = ["FOLLOWS", "LANGUAGES", "catalogue", "gaps", "in_language", "language_of", "translation"]

import functools
import json
import re
from pathlib import Path

from ddpm_app.ui.languages.texts import Kind, has_words, rewritten

LANGUAGES = ("ko", "zh-CN")
FOLLOWS = {"zh-TW": "zh-CN"}  # locales of Gradio's that read another one's catalogue
SAME = {  # in every language
    *("DDIM", "Improved DDPM", "UniPC", "DPM-Solver++", "SDE-DPM-Solver++", "SNR", "RGB", "eta", "Python"),
    *("DDPM", "bits/dim", "fixed_small", "fixed_large"),
    *(
        "owner/name",
        "Ho et al.",
        "Bao et al.",
        "Song et al.",
        "Nichol and Dhariwal",
        "exact-shapes",
        "exact-normal",
    ),
}
NAME = re.compile(r"[\w.\-/]*\d[\w.\-/]*")  # of a model or a repository: one word with a digit in it
FEW = 6  # letters: such a sentence is translated only if all that fills its holes is
LONGEST = 1000  # that is matched against sentences with holes
HOLE = "{}"


@functools.cache
def catalogue(language: str) -> dict[str, str]:
    """From English sentence to its translation."""
    return json.loads(Path(__file__).with_name(f"{language}.json").read_text(encoding="utf-8"))


def language_of(tag: str) -> str:
    """The catalogue for a language tag as browsers send it, by Gradio's own rule; empty for English."""
    for locale in (tag, tag.split("-")[0]):
        if (language := FOLLOWS.get(locale, locale)) in LANGUAGES:
            return language
    return ""


def in_language(kind: Kind, text: str, language: str) -> str:
    """The text with every sentence of it in that language."""
    return rewritten(kind, text, lambda sentence: translation(sentence, language))


def translation(sentence: str, language: str) -> str:
    """The sentence in that language, what fills its holes too; as it is where the catalogue lacks it."""
    known = catalogue(language)
    if sentence in known or len(sentence) > LONGEST:
        return known.get(sentence, sentence)
    for parts, answer, telling in _patterns(language):
        filled = _filled(parts, sentence)
        if filled and (telling or not gaps(sentence, language)):
            return answer.format(*(translation(each, language) for each in filled))
    return sentence


def gaps(sentence: str, language: str) -> list[str]:
    """What of the sentence has words and no translation; empty when it is complete."""
    if sentence in catalogue(language) or sentence in SAME or NAME.fullmatch(sentence):
        return []
    for parts, *_ in _patterns(language):
        if filled := _filled(parts, sentence):
            return [gap for each in filled if has_words(each) for gap in gaps(each, language)]
    return [sentence]


@functools.cache
def _patterns(language: str) -> list[tuple[list[str], str, bool]]:
    """What stands around the holes of each sentence, its translation, and whether it is no mere `{} in {}`.

    The sentences with most of their own come first.
    """
    known = catalogue(language)
    own = {sentence: sentence.replace(HOLE, "") for sentence in known if HOLE in sentence}
    found = []
    for sentence in sorted(own, key=lambda each: -len(own[each])):
        letters = sum(map(str.isalpha, own[sentence]))
        found.append((sentence.split(HOLE), known[sentence], not 0 < letters <= FEW))
    return found


def _filled(parts: list[str], sentence: str) -> list[str]:
    """What fills the holes between these parts, each as little as it can; [] where the sentence is another.

    The time grows with the sentence alone: a visitor may have written it.
    """
    first, *between, last = parts
    begin, end = len(first), len(sentence) - len(last)
    if not (sentence.startswith(first) and sentence.endswith(last)):
        return []
    filled = []
    for part in between:
        found = sentence.find(part, begin + 1, end)
        if found < 0:
            return []
        filled.append(sentence[begin:found])
        begin = found + len(part)
    return [*filled, sentence[begin:end]] if begin < end else []
