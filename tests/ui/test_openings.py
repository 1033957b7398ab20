"""What the page opens with: small, made by a model that is named, and shown by the tab that made it."""

import json

import gradio as gr
import pytest
from PIL import Image

from ddpm_app.engine import Engine
from ddpm_app.models import BUNDLED, available_models
from ddpm_app.pictures import read_recipe
from ddpm_app.ui import build_app
from ddpm_app.ui.make_openings import OPENINGS, TRAIN, WHEN_NAMED, given, keep, save_small
from ddpm_app.ui.openings import FOLDER, open_tree
from ddpm_app.ui.runs import earlier, shown
from ddpm_app.ui.trees import spelled

PICTURES = sorted(FOLDER.glob("*.png"))


@pytest.fixture(scope="module")
def demo(engine: Engine) -> gr.Blocks:
    return build_app(engine, training=False)


def test_every_opening_is_stored_and_nothing_else_is():
    assert {file.stem for file in FOLDER.glob("*.json")} == set(OPENINGS)
    told = "".join(file.read_text() for file in FOLDER.glob("*.json"))
    assert all(file.name in told for file in PICTURES)


def test_all_files_together_are_small():
    assert 0 < sum(file.stat().st_size for file in FOLDER.iterdir()) < 500_000


def test_every_served_button_has_an_opening_but_where_the_tab_shows_something_anyway(demo: gr.Blocks):
    served = {each.api_name for each in demo.fns.values() if each.api_visibility == "public"}
    with_a_sheet_of_the_model_or_drawn_at_once = {"sample", "forward", "fork"}
    assert served - set(OPENINGS) == with_a_sheet_of_the_model_or_drawn_at_once


@pytest.mark.parametrize("file", PICTURES, ids=lambda file: file.stem)
def test_every_picture_carries_a_recipe_that_names_a_model_which_everybody_has(file):
    recipe = read_recipe(file)
    assert recipe.get("model") in available_models(BUNDLED) or recipe["procedure"] == TRAIN
    assert recipe.get("procedure") or recipe["num_images"]


@pytest.mark.parametrize("tab", [tab for tab in OPENINGS if tab != TRAIN])
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
        elif "rows" in value:
            assert component.value["data"][0] == pytest.approx(value["rows"][0])
        else:
            assert component.value == value["value"]


def test_the_curtain_opens_with_two_sheets_and_their_distance(demo: gr.Blocks):
    outputs = next(each.outputs for each in demo.fns.values() if each.api_name == "compare")
    (curtain,) = [
        each.value for each in outputs if isinstance(each, gr.HTML) and isinstance(each.value, dict)
    ]
    assert (curtain["a"]["name"], curtain["b"]["name"]) == ("steps 50", "steps 10")
    (table,) = [each.value for each in outputs if isinstance(each, gr.Dataframe)]
    assert curtain["numbers"]["rmse"] == f"{table['data'][0][1]:.2f}"


def test_a_page_that_trains_opens_with_a_run_that_says_it_was_made_earlier():
    stored = json.loads((FOLDER / f"{TRAIN}.json").read_text())
    status, sheet, losses = earlier()
    assert "Made earlier by Quick" in status
    assert f"num steps {stored['progress'][-1][0]}" in status
    assert sheet.getbbox()
    smoothed = losses[losses["curve"] == "smoothed"]["loss"].tolist()
    assert smoothed[-1] < smoothed[0] / 4
    assert shown(None)[0] == status


def test_what_needs_no_bundled_model_is_made_only_when_it_is_named():
    assert set(WHEN_NAMED) < set(OPENINGS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
@pytest.mark.parametrize("size", [(8, 8), (40, 40)])
def test_a_stored_picture_is_smaller_and_has_the_same_pixels(tmp_path, mode: str, size: tuple[int, int]):
    picture = Image.effect_noise(size, 80).convert("L")
    channels = [picture, picture.rotate(90), picture.rotate(180), picture][
        : len(Image.new(mode, (1, 1)).getbands())
    ]
    Image.merge(mode, channels).save(tmp_path / "large.png")
    save_small(tmp_path / "large.png", tmp_path / "small.png", {})
    with Image.open(tmp_path / "large.png") as large, Image.open(tmp_path / "small.png") as small:
        assert large.convert("RGBA").tobytes() == small.convert("RGBA").tobytes()


def test_the_tree_made_earlier_can_be_walked_and_is_forked_by_its_recipe_alone():
    tree = open_tree()
    assert [spelled(branch.path) for branch in tree.branches] == ["", "850:100", "850:101"]
    assert tree.branches[1].distance > 1
    young = tree.branches[1].path
    assert tree.fork_of(young, 410) == (young, 400, None)
    assert tree.fork_of(young, 900) == ((), 850, None)


def test_what_shows_a_result_is_kept_and_a_picture_gets_its_recipe(tmp_path):
    image, file = gr.Image(render=False), tmp_path / "kept.png"
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    assert keep(image, str(tmp_path / "plain.png"), file, {"model": "emoji-32"}) == {
        "kind": "image",
        "file": "kept.png",
    }
    assert read_recipe(file) == {"model": "emoji-32"}
    assert keep(gr.HTML(render=False), "a status line", file, {}) is None
    assert keep(gr.HTML(render=False), {"a": 1}, file, {}) == {"kind": "html", "value": {"a": 1}}
    assert keep(gr.Markdown(render=False), "## a card", file, {}) == {
        "kind": "markdown",
        "value": "## a card",
    }
    assert given(gr.Slider(0, 9, value=4, render=False)) == 4
