"""Every tab with settings can be sent on as a link, and takes nothing from one unchecked."""

import json
import re

import gradio as gr
import pytest

from ddpm_app.engine import Engine
from ddpm_app.ui import build_app
from ddpm_app.ui.controls import Shared
from ddpm_app.ui.forms import Form
from ddpm_app.ui.replay import form_of
from ddpm_app.ui.sessions import Sessions
from ddpm_app.ui.tabs import (
    branches,
    compression,
    ddim,
    evaluate,
    figures,
    forward,
    improved,
    likelihood,
    score,
    train,
)
from tests.ui.conftest import MODEL

T = 1000
COPIED = re.compile(r"new URLSearchParams\(\{ tab: (.+?) \}\).*?of (\[.*?\])\.entries", re.DOTALL)


@pytest.fixture(scope="module")
def forms(engine: Engine) -> dict[str, Form]:
    with gr.Blocks():
        shared = Shared(engine, Sessions(), gr.Dropdown([MODEL], value=MODEL), gr.Markdown())
        with gr.Tabs():
            for module in (branches, likelihood, compression, ddim, improved, figures):
                with gr.Tab(id=module.__name__):
                    module.build(shared)
            for module in (forward, score, train):
                with gr.Tab(id=module.__name__) as tab:
                    module.build(shared, tab)
            with gr.Tab(id="evaluate"):
                evaluate.build(shared, local=True)
    return shared.forms


@pytest.fixture(scope="module")
def page(engine: Engine) -> gr.Blocks:
    return build_app(engine, MODEL)


def copied(page: gr.Blocks) -> dict[str, list[str]]:
    """The names in the link of each tab, as the page's own script spells them."""
    scripts = [COPIED.search(fn.js) for fn in page.fns.values() if isinstance(fn.js, str)]
    return {json.loads(found[1]): json.loads(found[2]) for found in scripts if found}


def test_every_tab_that_runs_something_has_its_link(page: gr.Blocks):
    served = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}
    assert set(copied(page)) == served - {"fork"} | {"score", "train"}  # a fork goes on from a tree


def test_the_link_of_a_tree_says_the_branches_that_are_shown(page: gr.Blocks):
    (copies,) = (fn for fn in page.fns.values() if isinstance(fn.js, str) and 'tab: "branches"' in fn.js)
    says = dict(zip(copied(page)["branches"], copies.inputs, strict=True))
    assert says["branches"].label.startswith("Its branches")


def test_a_link_says_no_file_of_the_visitor(page: gr.Blocks):
    assert not {name for names in copied(page).values() for name in names} & {"picture", "uploads", "kept"}


@pytest.mark.parametrize(
    ("tab", "link", "values"),
    [
        ("forward", {"diffusion_steps": "600", "schedule": "cosine"}, {"diffusion_steps": 600}),
        ("schedules", {"chosen": "linear,sigmoid"}, {"chosen": ["linear", "sigmoid"]}),
        ("likelihood", {"num_draws": "2", "variance": "fixed_small"}, {"variance_type": "fixed_small"}),
        ("compression", {"num_terms": "200"}, {"num_terms": 200}),
        ("coding", {"num_images": "3", "steps": "40"}, {"num_images": 3, "num_inference_steps": 40}),
        ("reconstruct", {"steps": "5,7"}, {"steps": ["5", "7"]}),
        ("figure", {"name": "Figure 7", "reverse_steps": "100"}, {"name": "Figure 7", "reverse_steps": 100}),
        ("branches", {"branches": "550:3/200:4"}, {"branches": "550:3/200:4"}),
        ("score", {"toy": "spiral", "steps": "50"}, {"toy": "spiral", "steps": 50}),
        ("evaluate", {"source": "path", "path": "owner/name"}, {"source": "path", "path": "owner/name"}),
        ("train", {"num_steps": "12", "learning_rate": "0.001"}, {"num_steps": 12, "learning_rate": 0.001}),
    ],
)
def test_a_link_sets_what_it_says(forms: dict[str, Form], tab: str, link: dict, values: dict):
    accepted, said = forms[tab].accepted(link, T)
    assert said == []
    assert values.items() <= accepted.items()


@pytest.mark.parametrize(
    ("tab", "bad", "said"),
    [
        ("forward", {"diffusion_steps": "1001"}, "in 0..1000"),
        ("forward", {"schedule": "magic"}, "must be one of linear"),
        ("schedules", {"chosen": ""}, "must be one of linear"),
        ("schedules", {"chosen": []}, "choose at least one schedule"),
        ("schedules", {"chosen": "linear,cosine,linear"}, "each once"),
        ("likelihood", {"num_draws": "1.5"}, "a whole number in 1..16"),
        ("compression", {"seed": "-1"}, "a whole number in 0.."),
        ("coding", {"num_images": "17"}, "a whole number in 1..16"),
        ("coding", {"variance": "magic"}, "must be one of auto"),
        ("reconstruct", {"steps": "10,none"}, "each number of steps"),
        ("reconstruct", {"steps": "9" * 5000}, "each number of steps"),
        ("latent_grid", {"edge": "13"}, "in 2..12"),
        ("bounds", {"steps": "1,2,3,4,5,6,7,8,9"}, "between 1 and 8 numbers"),
        ("respacing", {"steps": "0"}, "each number of steps"),
        ("variances", {"num_timesteps": "1e9"}, "in 2..200"),
        ("figure", {"name": "Figure 2"}, "must be one of Figure 1"),
        ("branches", {"branches": "600"}, "paths like 600:8"),
        ("branches", {"branches": "1:1 " * 2000}, "at most 4000 characters"),
        ("score", {"dynamics": "magic"}, "must be one of reverse process"),
        ("evaluate", {"num_images": "9"}, "in 32..1024"),
        ("train", {"name": "a" * 65}, "at most 64 characters"),
        ("train", {"num_steps": "0.5"}, "a whole number in 1.."),
        ("train", {"learning_rate": "2"}, "in 0..1"),
    ],
)
def test_a_bad_value_gets_one_sentence_and_the_others_stay(
    forms: dict[str, Form], tab: str, bad: dict, said: str
):
    seed = {} if tab == "train" or "seed" in bad else {"seed": "31"}
    values, sentences = forms[tab].accepted(bad | seed, T)
    assert len(sentences) == 1
    assert said in sentences[0]
    assert "The default stays" in sentences[0]
    assert not seed or values["seed"] == 31


@pytest.mark.parametrize(
    ("tab", "meant"), [(ddim.__name__, "consistency"), (figures.__name__, "figure"), ("coding", "coding")]
)
def test_a_link_may_name_the_tab_around_an_experiment(forms: dict[str, Form], tab: str, meant: str):
    assert form_of(tab, forms).tab == meant


@pytest.mark.parametrize("tab", ["evaluate", "train"])
def test_no_link_names_a_file_of_the_server(forms: dict[str, Form], tab: str):
    values, _ = forms[tab].accepted({"uploads": "/etc/hostname"}, T)
    assert values["uploads"] is None
