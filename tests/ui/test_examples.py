"""Examples that follow the model."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from ddpm_app.engine import Engine
from ddpm_app.models import BUNDLED
from ddpm_app.ui import build_app
from ddpm_app.ui.forms import Asked

EMOJI, DIGITS = (BUNDLED / name / "examples" for name in ("emoji-32", "mnist-28"))


@pytest.fixture(scope="module")
def handlers():
    demo = build_app(Engine("cpu"), training=False)
    return {each.name: each for each in demo.fns.values() if each.name in ("offer", "begin")}


def begun(handlers, model: str, picture: str | Path | None) -> set[str | None]:
    """What becomes of that picture in all inputs."""
    begin = handlers["begin"]
    return set(begin.fn(model, *[picture and str(picture)] * len(begin.outputs)))


def test_every_shelf_has_the_examples_of_the_chosen_model(handlers):
    shelves = handlers["offer"].fn("mnist-28")
    assert len(shelves) > 5
    for shelf in shelves:
        assert shelf.visible
        assert [Path(file).parent for (file,) in shelf.raw_samples] == [DIGITS] * 6
    assert not any(shelf.visible for shelf in handlers["offer"].fn("exact-normal"))
    assert not any(shelf.visible for shelf in handlers["offer"].fn("../emoji-32"))


def test_an_example_of_another_model_makes_way_and_a_visitors_picture_stays(handlers, tmp_path):
    copy = shutil.copy(EMOJI / "2.png", tmp_path / "uploaded.png")
    assert begun(handlers, "mnist-28", copy) == {str(DIGITS / "0.png"), str(DIGITS / "1.png")}
    assert begun(handlers, "exact-normal", copy) == {None}
    assert begun(handlers, "emoji-32", copy) == {str(copy)}
    assert begun(handlers, "mnist-28", None) == {None}
    own = tmp_path / "own.png"
    own.write_bytes(copy.read_bytes() + b" ")
    assert begun(handlers, "mnist-28", own) == {str(own)}
    own.unlink()  # by its age
    assert begun(handlers, "mnist-28", own) == {str(own)}


def test_a_page_begins_with_the_examples_of_the_model_that_it_begins_with():
    demo = build_app(Engine("cpu"), "mnist-28", training=False)
    shelves = [block for block in demo.blocks.values() if isinstance(block, gr.Dataset)]
    assert {Path(file).parent for shelf in shelves for (file,) in shelf.raw_samples} == {DIGITS}
    blocks = demo.blocks.values()
    begun = [each.constructor_args["value"] for each in blocks if "picture" in (each.elem_classes or [])]
    assert {file for file in begun if file} == {str(DIGITS / "0.png"), str(DIGITS / "1.png")}


def test_an_example_that_is_no_longer_there_places_nothing():
    demo = build_app(Engine("cpu"), "exact-shapes", training=False)
    shelves = [block for block in demo.blocks.values() if isinstance(block, gr.Dataset)]
    clicks = [fn.fn for fn in demo.fns.values() if fn.inputs[1:] and fn.inputs[1] in shelves]
    assert len(clicks) == len(shelves)
    assert {click("exact-shapes", 0) for click in clicks} == {None}
    assert {click("mnist-28", 2) for click in clicks} == {str(DIGITS / "2.png")}


def test_a_link_begins_with_an_example_of_its_own_model():
    demo = build_app(Engine("cpu"), training=False)
    follow = next(fn.fn for fn in demo.fns.values() if fn.name == "from_link")
    request = SimpleNamespace(query_params={"tab": "likelihood", "model": "mnist-28"})
    *_, update = follow(request)
    (asked,) = [value for value in update.values() if isinstance(value, Asked)]
    assert asked.values["picture"] == str(DIGITS / "0.png")


def test_a_link_chooses_no_model_for_b_that_the_page_does_not_offer():
    demo = build_app(Engine("cpu"), "exact-shapes", training=False)
    follow = next(fn.fn for fn in demo.fns.values() if fn.name == "from_link")
    for other, said in (("evil/repo", True), ("mnist-28", False), ("the same", False)):
        *_, update = follow(SimpleNamespace(query_params={"tab": "compare", "other_model": other}))
        (asked,) = [value for value in update.values() if isinstance(value, Asked)]
        assert asked.values["other_model"] == ("the same" if said else other)
        assert any("not in the list" in str(value) for value in update.values()) == said
