"""The page speaks Korean and Chinese, completely; the catalogues, and what handlers say in them."""

import ast
import random
import re
from pathlib import Path

import gradio as gr
import pandas as pd
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

import ddpm_app
from ddpm_app.engine import Engine, Limits
from ddpm_app.ui import build_app
from ddpm_app.ui.languages import page as module_of_page
from ddpm_app.ui.languages import speech as module_of_speech
from ddpm_app.ui.languages.catalogues import (
    LANGUAGES,
    _filled,
    catalogue,
    gaps,
    in_language,
    language_of,
    translation,
)
from ddpm_app.ui.languages.page import Page, marker, unmarked, visitor_texts
from ddpm_app.ui.languages.speech import _property
from ddpm_app.ui.languages.texts import has_words, sentences
from ddpm_app.ui.sessions import bar
from tests.ui.conftest import MODEL

PACKAGE = Path(ddpm_app.__file__).parent
SPEAKERS = {"bar", "finished", "line", "stopped", "Error", "note", "UserError"}
# what a visitor can run into; what is wrong with a checkpoint's files stays English
SPOKEN_IN = [
    *("ui", "engine", "core", "pictures.py", "errors.py", "models/catalogue.py", "models/hub.py"),
    *("training/data.py", "training/sources.py", "training/splits.py"),
]
FORMULA = re.compile(r"\$\$?.+?\$\$?|`[^`]+`|\]\([^)]+\)")


@pytest.fixture(scope="module")
def page(engine: Engine) -> Page:
    page = build_app(engine, MODEL)
    assert isinstance(page, Page)
    return page


@pytest.fixture(scope="module")
def public_page(engine: Engine) -> Page:
    page = build_app(Engine("cpu", engine.checkpoints, Limits((MODEL,), 1e12, 60.0)), MODEL)
    assert isinstance(page, Page)
    return page


def on_page(page: Page) -> list[str]:
    """Every sentence that stands on the built page, in all tabs."""
    told = []
    for props, name, kind in visitor_texts(gr.Blocks.get_config_file(page)):
        texts = [shown for shown, _ in props[name]] if kind == "choices" else [props[name]]
        told += [sentence for text in texts for sentence in sentences(kind, text)]
    return told


def in_code() -> list[str]:
    """Every sentence that the code says to a visitor at run time, with 7 for what is filled in."""
    files = [file for place in SPOKEN_IN for file in ([PACKAGE / place, *(PACKAGE / place).rglob("*.py")])]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files if file.suffix == ".py"]
    named = {
        target.id: template(each.value)
        for tree in trees
        for each in tree.body
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
    calls = [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in SPEAKERS
    ]
    arguments = [each for call in calls for each in call.args]
    told = [named.get(each.id, "") if isinstance(each, ast.Name) else template(each) for each in arguments]
    return [each for each in told if re.search("[A-Za-z]{2}", each)]


def template(node: ast.expr) -> str:
    """The text of a string in code; empty for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "7" for part in node.values)  # type: ignore[misc]
    return ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_of_the_page_is_without_a_translation(page: Page, public_page: Page, language: str):
    told = [*on_page(page), *on_page(public_page)]
    assert set(on_page(public_page)) - set(on_page(page)), "the notice to strangers"
    missing = {gap for sentence in told for gap in gaps(sentence, language)}
    assert sorted(missing) == [], f"add these to ddpm_app/ui/languages/{language}.json"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_heading_of_a_table_is_without_a_translation(page: Page, language: str):
    tables = [block for block in page.blocks.values() if isinstance(block, gr.Dataframe)]
    headings = {str(heading) for table in tables for heading in table.headers or []}
    assert len(headings) > 10
    assert {gap for heading in headings if has_words(heading) for gap in gaps(heading, language)} == set()


def test_tables_and_captions_are_told_in_the_visitors_language():
    frame = pd.DataFrame([[1, 2.0]], columns=["reverse steps", "RMSE"])
    told = _property("dataframe", "value", frame, "ko")
    assert list(told.columns) == ["역과정 스텝", "RMSE"]
    assert told.to_numpy().tolist() == [[1, 2.0]]
    parts = pd.DataFrame([["L_0: the last step, pixel by pixel", "1.5"]], columns=["part", "bits/dim"])
    assert _property("dataframe", "value", parts, "ko").to_numpy().tolist() == [
        ["L_0: 마지막 스텝, 픽셀마다", "1.5"]
    ]
    assert _property("lineplot", "value", frame, "ko") is frame
    assert _property("gallery", "value", [("a.png", "seed 7")], "ko") == [("a.png", "시드 7")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_that_the_code_says_is_without_a_translation(language: str):
    told = in_code()
    assert len(told) > 50
    missing = {gap for sentence in told for gap in gaps(sentence, language)}
    assert sorted(missing) == [], f"add these to ddpm_app/ui/languages/{language}.json, `{{}}` for each 7"


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_keep_formulae_code_links_and_holes(language: str):
    for sentence, told in catalogue(language).items():
        assert told.strip(), sentence
        if "{}" in sentence:
            values = [f"<{k}>" for k in range(sentence.count("{}"))]
            filled = told.format(*values)
            assert [value for value in values if filled.count(value) != 1] == [], sentence
        else:
            assert set(FORMULA.findall(sentence)) == set(FORMULA.findall(told)), sentence


def test_all_catalogues_have_the_same_sentences():
    first, *others = [set(catalogue(language)) for language in LANGUAGES]
    assert all(other == first for other in others)


def test_a_missing_sentence_is_found_and_stays_english():
    assert gaps("A sentence that nobody has translated", "ko") == ["A sentence that nobody has translated"]
    assert gaps("step 3 of a sentence nobody knows", "ko") == ["a sentence nobody knows"]
    for sentence in ("A sentence that nobody has translated", "an old woman lives in a shoe of gold"):
        assert translation(sentence, "ko") == sentence


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("ko-KR", "ko"),
        ("ko", "ko"),
        ("zh-CN", "zh-CN"),
        ("zh-TW", "zh-CN"),
        ("en-US", ""),
        ("fr", ""),
        ("", ""),
    ],
)
def test_a_browsers_language_tag_finds_its_catalogue(tag: str, language: str):
    assert language_of(tag) == language


def test_markers_survive_the_braces_of_formulae():
    text = r"so much of $\tilde{\beta}_{t}$"
    assert marker(text).count("}") == 1
    assert unmarked(marker(text)) == text


def test_no_value_of_a_widget_is_a_key_that_gradio_would_translate(page: Page):
    keys = page.get_config_file()["i18n_translations"]["en"]
    values = [
        block.value
        for block in page.blocks.values()
        if isinstance(block, gr.Dropdown | gr.Radio | gr.Textbox | gr.CheckboxGroup)
    ]
    assert not [value for value in values if isinstance(value, str) and value in keys]


def test_the_api_stays_english(client: Client):
    told = str(client.view_api(return_format="dict"))
    assert "__i18n__" not in told
    assert "Reverse steps" in told


@pytest.mark.parametrize(
    ("accepted", "line", "refusal"),
    [
        ("ko-KR,ko;q=0.9", "그림 2장", "범위의 정수"),
        ("zh-TW", "2 张图片", "之内的整数"),
        ("en", "2 pictures<", "whole"),
    ],
)
def test_status_lines_and_errors_follow_the_browsers_language(
    url: str, accepted: str, line: str, refusal: str
):
    client = Client(url, verbose=False, headers={"Accept-Language": accepted})
    settings = {"model": MODEL, "num_inference_steps": 4, "api_name": "/sample"}
    assert line in str(client.predict(**settings, num_images=2)[0])
    with pytest.raises(AppError, match=refusal):
        client.predict(**settings, seed=2**70)
    client.close()


SMALL = {
    "model": MODEL,
    "num_images": 2,
    "num_inference_steps": 3,
    "num_inference_steps_b": 2,
    "num_terms": 150,
    "num_draws": 1,
    "num_timesteps": 3,
    "steps": [2, 3],
    "reverse_steps": 100,
}
LONG, OF_A_TREE = "/evaluate", "/fork"


@pytest.mark.slow
@pytest.mark.parametrize("accepted", ["ko", "zh-CN"])
def test_every_button_answers_in_every_language(url: str, accepted: str):
    client = Client(url, verbose=False, download_files=False, headers={"Accept-Language": accepted})
    served = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    assert len(served) > 15
    for name, endpoint in served.items():
        if name in (LONG, OF_A_TREE):
            continue
        known = [each["parameter_name"] for each in endpoint["parameters"]]
        client.predict(**{key: SMALL[key] for key in known if key in SMALL}, api_name=name)  # or it raises
    client.close()


def test_tables_begin_with_headings_in_the_visitors_language(page: Page, monkeypatch: pytest.MonkeyPatch):
    tables = [block for block in page.blocks.values() if isinstance(block, gr.Dataframe)]
    begun = next(each for each in page.fns.values() if each.outputs == tables)
    assert begun.fn() == [gr.skip()] * len(tables)
    for module in (module_of_page, module_of_speech):
        monkeypatch.setattr(module, "visitors_language", lambda: "ko")
    headings = {heading for frame in begun.fn() for heading in frame.columns}
    assert {"역과정 스텝", "같은 픽셀, %", "논문: RMSE"} < headings


def test_what_fills_a_hole_is_as_little_as_a_pattern_would_take():
    draw = random.Random(0)

    def written(letters: str, most: int) -> str:
        return "".join(draw.choice(letters) for _ in range(draw.randrange(most)))

    found = 0
    for _ in range(3000):
        parts = [written("ab", 3) for _ in range(draw.randrange(2, 5))]
        sentence = "".join(part + written("abc", 4) for part in parts)
        match = re.fullmatch("(.+?)".join(map(re.escape, parts)), sentence)
        assert _filled(parts, sentence) == (list(match.groups()) if match else [])
        found += match is not None
    assert 500 < found < 2900


@pytest.mark.parametrize(("language", "took"), [("ko", "1분 13초"), ("zh-CN", "1 分 13 秒")])
def test_the_time_that_a_run_took_stands_outside_of_what_it_made(language, took):
    line = bar("8 continuations of one x_t at t = 750", 1, beside="1 min 13 s")
    said, time_taken = in_language("html", line, language).split(" · ")
    assert "750" in said
    assert f"<span>{took}</span>" in time_taken
