"""Examples that follow the model."""

import shutil
from pathlib import Path

import pytest

from ddpm_app.engine import Engine
from ddpm_app.models import BUNDLED
from ddpm_app.ui import build_app

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
