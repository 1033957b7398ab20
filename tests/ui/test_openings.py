"""What the page opens with: small, made by a model that is named, and shown by the tab that made it."""

import json

import gradio as gr
import pytest
from PIL import Image

from ddpm_app.engine import Engine
from ddpm_app.models import BUNDLED
from ddpm_app.pictures import read_recipe
from ddpm_app.ui import build_app
from ddpm_app.ui.make_openings import OPENINGS, given, keep
from ddpm_app.ui.openings import FOLDER, open_tree
from ddpm_app.ui.trees import spelled

PICTURES = sorted(FOLDER.glob("*.png"))


@pytest.fixture(scope="module")
def demo(engine: Engine) -> gr.Blocks:
    return build_app(engine, training=False)


def test_every_opening_is_stored_and_nothing_else_is():
    assert {file.stem for file in FOLDER.glob("*.json")} == set(OPENINGS)
    told = "".join(file.read_text() for file in FOLDER.glob("*.json"))
    assert all(file.name in told for file in PICTURES)


def test_all_pictures_together_are_small():
    assert 0 < sum(file.stat().st_size for file in PICTURES) < 300_000


@pytest.mark.parametrize("file", PICTURES, ids=lambda file: file.stem)
def test_every_picture_carries_a_recipe_that_names_a_bundled_model(file):
    recipe = read_recipe(file)
    assert (BUNDLED / recipe["model"]).is_dir()
    assert recipe["procedure"]


@pytest.mark.parametrize("tab", OPENINGS)
def test_a_tab_opens_with_what_was_made_earlier_and_says_so(demo: gr.Blocks, tab: str):
    stored = json.loads((FOLDER / f"{tab}.json").read_text())
    outputs = next(each.outputs for each in demo.fns.values() if each.api_name == tab)
    assert f"Made earlier by {stored['settings']['model']}: press " in outputs[0].value
    for place, value in stored["outputs"].items():
        component = outputs[int(place)]
        assert component.get_block_name() == value["kind"]
        if "file" in value:
            with Image.open(component.value["path"]) as shown, Image.open(FOLDER / value["file"]) as kept:
                assert shown.tobytes() == kept.tobytes()
        else:
            assert component.value["data"][0] == pytest.approx(value["rows"][0])


def test_the_tree_made_earlier_can_be_walked_and_is_forked_by_its_recipe_alone():
    tree = open_tree()
    assert [spelled(branch.path) for branch in tree.branches] == ["", "550:100", "550:101"]
    assert tree.branches[1].distance > 1
    young = tree.branches[1].path
    assert tree.fork_of(young, 410) == (young, 400, None)
    assert tree.fork_of(young, 900) == ((), 850, None)


def test_only_pictures_and_tables_are_kept_and_a_picture_gets_its_recipe(tmp_path):
    image, file = gr.Image(render=False), tmp_path / "kept.png"
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    assert keep(image, str(tmp_path / "plain.png"), file, {"model": "emoji-32"}) == {
        "kind": "image",
        "file": "kept.png",
    }
    assert read_recipe(file) == {"model": "emoji-32"}
    assert keep(gr.HTML(render=False), "words", file, {}) is None
    assert given(gr.Slider(0, 9, value=4, render=False)) == 4
