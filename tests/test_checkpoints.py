"""The bundled models: complete, small, licensed, and the same pictures in plain diffusers."""

import json
import re

import pytest
import torch

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.evaluation import compare_with_diffusers
from ddpm_app.models import BUNDLED, DEFAULT_MODEL, available_models, load_model

NAMES = sorted(folder.name for folder in BUNDLED.iterdir() if folder.is_dir())
every_model = pytest.mark.parametrize("name", NAMES)


def test_the_models_of_the_paper_s_companion_are_there():
    assert {"emoji-32", "mnist-28", "mnist-28-hybrid"} <= set(NAMES)
    assert available_models()[: len(NAMES)] == [
        DEFAULT_MODEL,
        *(name for name in NAMES if name != DEFAULT_MODEL),
    ]


@every_model
def test_a_bundled_model_loads_with_the_size_in_its_name(name):
    model = load_model(name, "cpu")
    assert model.image_shape[1:] == (int(re.search(r"-(\d+)", name)[1]),) * 2
    assert len(model.diffusion) == 1000
    assert model.notes == ()


@every_model
def test_a_bundled_model_is_small_and_holds_nothing_but_itself(name):
    files = [file for file in (BUNDLED / name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 10e6
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md", ".png", ".webp"}


@every_model
def test_a_bundled_model_has_a_card_with_a_licence_and_its_training_settings(name):
    card = (BUNDLED / name / "README.md").read_text()
    assert "license:" in card.partition("---")[2].partition("---")[0]
    assert len(card) > 300
    settings = json.loads((BUNDLED / name / "training.json").read_text())
    assert f"{settings['steps_done']:,}" in card
    assert not settings["data"].startswith("/")
    assert "bits/dim" in card


@every_model
def test_ten_steps_give_pictures_that_are_finite_and_not_constant(name):
    *_, last = Engine("cpu").run(SampleRequest(model=name, num_inference_steps=10, num_images=2, seed=1))
    assert last.x_t.isfinite().all()
    assert (last.x_t.flatten(1).std(1) > 0.05).all()
    assert not torch.equal(last.images[0], last.images[1])


@pytest.mark.parametrize(
    ("name", "sampler"),
    # diffusers' DDIM cannot take a network that gives its variance too
    [(name, "ddpm") for name in NAMES] + [(name, "ddim") for name in NAMES if not name.endswith("-hybrid")],
)
def test_plain_diffusers_draws_the_same_pictures(name, sampler):
    """diffusers loads the folder by DDPMPipeline.from_pretrained; leading timesteps, exact precision."""
    request = SampleRequest(model=name, sampler=sampler, num_inference_steps=5, num_images=2)
    assert compare_with_diffusers(Engine("cpu"), request, rounds=1).largest_difference <= 1
