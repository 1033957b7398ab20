"""What a link or a recipe may say about a tab's controls, and what comes of it."""

import json

import gradio as gr
import pytest
import torch
from PIL import Image

from ddpm_app.engine import Engine
from ddpm_app.pictures import as_source, read_picture
from ddpm_app.ui.controls import Shared
from ddpm_app.ui.forms import Asked, Form
from ddpm_app.ui.replay import settings_in
from ddpm_app.ui.sessions import Sessions
from ddpm_app.ui.tabs import compare, ddim, interpolate, sample, stochastic
from tests.ui.conftest import MODEL

T = 1000


@pytest.fixture(scope="module")
def forms(engine: Engine) -> dict[str, Form]:
    with gr.Blocks():
        shared = Shared(engine, Sessions(), gr.Dropdown([MODEL], value=MODEL), gr.Markdown())
        with gr.Tabs():
            for module in (sample, stochastic, interpolate, compare, ddim):
                with gr.Tab(id=module.__name__):
                    module.build(shared)
    return shared.forms


def test_every_control_is_known_by_its_name_in_the_api(forms: dict[str, Form]):
    assert set(forms) >= {"sample", "stochastic", "interpolate", "compare", "consistency", "latent_grid"}
    assert list(forms["sample"].controls)[:3] == ["model", "num_images", "sampler"]
    assert list(forms["sample"].sayable)[:4] == ["model", "num_images", "sampler", "steps"]
    assert "picture" not in forms["stochastic"].sayable


def test_a_name_that_the_tab_has_already_is_not_short_for_another(forms: dict[str, Form]):
    assert isinstance(forms["consistency"].sayable["steps"], gr.Dropdown)


def test_the_way_leads_through_all_tabs_around_a_form(forms: dict[str, Form]):
    assert list(forms["latent_grid"].way.values()) == ["latent_grid", "ddpm_app.ui.tabs.ddim"]


def test_the_words_of_a_link_become_values(forms: dict[str, Form]):
    link = {"steps": "250", "seed": "9", "eta": "0.35", "sampler": "ddim", "rederive_eps": "false"}
    values, said = forms["sample"].accepted(link, T)
    assert said == []
    assert values["num_inference_steps"] == 250
    assert {name: values[name] for name in ("seed", "eta", "sampler", "rederive_eps")} == {
        "seed": 9,
        "eta": 0.35,
        "sampler": "ddim",
        "rederive_eps": False,
    }
    assert values["num_images"] == 16  # as the tab has it
    assert "model" not in values


def test_a_seed_that_no_browser_keeps_becomes_one_that_draws_the_same(forms: dict[str, Form]):
    for given, seed in ((2**53 - 1, 2**53 - 1), (2**60 + 5, 5), (2**63 - 1, 2**32 - 1)):
        assert forms["sample"].accepted({"seed": str(given)}, T)[0]["seed"] == seed
        noise = [torch.randn(3, generator=torch.Generator().manual_seed(each)) for each in (given, seed)]
        assert torch.equal(*noise)


def test_a_list_is_said_with_commas(forms: dict[str, Form]):
    assert forms["consistency"].accepted({"steps": "10,50"}, T)[0]["steps"] == [10, 50]


@pytest.mark.parametrize(
    ("tab", "bad", "said"),
    [
        ("sample", {"steps": "0"}, "in 1..1000"),
        ("sample", {"steps": "2000"}, "in 1..1000"),
        ("sample", {"steps": "2.5"}, "a whole number"),
        ("sample", {"steps": "many"}, "must be a number"),
        ("sample", {"steps": "NaN"}, "in 1..1000"),
        ("sample", {"seed": "1e400"}, "seed must be"),
        ("sample", {"seed": True}, "must be a number"),
        ("sample", {"seed": [7]}, "must be a number"),
        ("sample", {"num_images": "65"}, "in 1..64"),
        ("sample", {"sampler": "magic"}, "must be one of ddpm, ddim"),
        ("sample", {"rederive_eps": "perhaps"}, "true or false"),
        ("sample", {"langevin_steps": 1, "sampler": "unipc"}, "unipc"),
        ("stochastic", {"sampler": "unipc"}, "must be one of"),
        ("stochastic", {"diffusion_steps": "0"}, "in 1..1000"),
        ("stochastic", {"picture": "data:image/png;base64,AAAA"}, "no picture"),
        ("stochastic", {"picture": 7}, "no picture"),
        ("interpolate", {"num_images": 1}, "in 2..21"),
        ("interpolate", {"kind": "zigzag"}, "strip, grid, sphere"),
        ("consistency", {"steps": 7}, "a list"),
        ("compare", {"other_sampler": {"a": 1}}, "must be one of"),
    ],
)
def test_a_bad_value_gets_a_sentence_and_the_default_stays(
    forms: dict[str, Form], tab: str, bad: dict, said: str
):
    before, _ = forms[tab].accepted({}, T)
    values, sentences = forms[tab].accepted(bad, T)
    assert len(sentences) == 1
    assert said in sentences[0]
    refused = [name for name in values if values[name] == before[name]]
    assert len(refused) >= len(values) - len(bad) + 1


def test_the_steps_may_be_as_many_as_the_chain_of_the_model_has(forms: dict[str, Form]):
    form = forms["sample"]
    values, said = form.accepted({"steps": "4000"}, 4000)
    assert (values["num_inference_steps"], said) == (4000, [])
    filled = dict(zip([*form.own, "go"], form.filled(Asked(values, 4000, run=True)), strict=True))
    assert (filled["num_inference_steps"]["maximum"], filled["num_inference_steps"]["value"]) == (4000, 4000)
    assert filled["go"] > 0


def test_without_a_run_nothing_starts(forms: dict[str, Form]):
    values, _ = forms["sample"].accepted({}, T)
    assert forms["sample"].filled(Asked(values, T, run=False))[-1] == gr.skip()


def test_the_same_wish_twice_is_two_wishes():
    assert hash(Asked({}, T, run=True)) != hash(Asked({}, T, run=True))


def test_what_a_run_was_told_sets_its_form_again_with_its_pictures(forms: dict[str, Form]):
    form = forms["interpolate"]
    arguments = form.accepted({"seed": 3, "steps": "12"}, T)[0] | {"model": MODEL, "shown": "no control"}
    ends = {
        name: torch.full((3, 32, 32), level, dtype=torch.uint8)
        for name, level in (("picture_a", 40), ("picture_b", 200))
    }
    told = form.told(arguments, **ends)
    assert told.recipe["run"] == told.settings
    assert "base64" not in told.json
    assert len(form.accepted(settings_in(told.json), T)[1]) == 2  # no other picture takes their place unsaid
    values, said = form.accepted(told.settings, T)
    assert said == []
    for name, picture in ends.items():
        assert torch.equal(read_picture(values[name], (3, 32, 32)), picture)
    plain = [name for name in form.own if name not in ends]
    assert {name: values[name] for name in plain} == {name: arguments[name] for name in plain}


def test_a_picture_box_that_was_empty_is_empty_again(forms: dict[str, Form]):
    form = forms["interpolate"]
    told = form.told(form.accepted({}, T)[0] | {"model": MODEL}, picture_a=torch.zeros(3, 8, 8).byte())
    values, said = form.accepted(told.settings, T, {form.controls["picture_b"]: "example.png"})
    assert said == []
    assert values["picture_a"]
    assert values["picture_b"] is None
    assert json.loads(told.json)["picture_b"] is None
    values, _ = form.accepted({}, T, {form.controls["picture_b"]: "example.png"})
    assert values["picture_b"] == "example.png"


def test_a_gray_picture_stays_gray_on_its_way_through_a_recipe(forms: dict[str, Form]):
    gray = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    values, _ = forms["stochastic"].accepted({"picture": as_source(gray)}, T)
    with Image.open(values["picture"]) as picture:
        assert picture.mode == "L"
    assert torch.equal(read_picture(values["picture"], (1, 8, 8)), gray)
