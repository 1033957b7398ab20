"""The served API, through the real client: what a script, and behind the page a visitor, can do."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.pictures import read_recipe
from tests.ui.conftest import MODEL
from tests.ui.served import ENDPOINTS, EXPERIMENTS, opened, path, status
from tests.waiting import wait_until

TINY = {"model": "tiny-8", "num_inference_steps": 3}


def test_every_endpoint_is_public_and_every_parameter_has_a_default(client: Client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {*ENDPOINTS, *EXPERIMENTS, "/evaluate"}  # which trains: see test_evaluate.py
    for name, endpoint in endpoints.items():
        assert all(p["parameter_has_default"] for p in endpoint["parameters"]), name
        assert not any(p["parameter_name"].startswith("param_") for p in endpoint["parameters"]), name


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_answers_with_nothing_but_a_model_and_few_steps(client: Client, name: str):
    settings = {"model": MODEL}
    if name in ENDPOINTS[:4]:
        settings |= {"num_inference_steps": 4}
    if name == "/likelihood":
        settings |= {"num_terms": 4}
    if name == "/figure":
        settings |= {"reverse_steps": 100}
    answer = client.predict(api_name=name, **settings)
    assert any(
        " s</span>" in status(value) or "SNR" in status(value)
        for value in answer
        if isinstance(value, str | dict)
    )


def test_a_film_of_one_step_is_shown(client: Client):
    line, *_ = client.predict(model=MODEL, num_inference_steps=1, num_images=1, api_name="/progressive")
    assert "1 picture, 1 frame kept" in status(line)


def test_the_caption_of_a_sent_picture_counts_what_was_measured(client: Client):
    line, *_ = client.predict(model=MODEL, name="Table 4", reverse_steps=100, api_name="/figure")
    assert "130 of 1000 timesteps measured" in status(line)


def test_a_sample_comes_with_sheet_gallery_zip_and_recipe(client: Client, engine: Engine):
    answer = client.predict(**TINY, num_images=3, seed=5, sampler="ddpm", api_name="/sample")
    _, sheet_file, gallery, sheet_download, archive = answer
    assert read_recipe(path(sheet_download))["seed"] == 5
    with zipfile.ZipFile(path(archive)) as pack:
        names = pack.namelist()
    assert names == ["sheet.png", "00000.png", "00001.png", "00002.png"]
    pictures = gallery["value"] if isinstance(gallery, dict) else gallery
    recipe = read_recipe(pictures[1]["image"])
    assert recipe["seed"] == 6
    fields = SampleRequest.__dataclass_fields__
    again = SampleRequest(**{name: value for name, value in recipe.items() if name in fields})
    *_, frame = engine.run(again)
    assert opened(sheet_file).size == (2 * 8 + 1, 2 * 8 + 1)
    shown = np.asarray(opened(pictures[1]["image"])).astype(int)
    assert np.abs(shown - frame.images[0].permute(1, 2, 0).numpy()).max() <= 1


def test_previews_change_while_the_run_goes_on(client: Client):
    job = client.submit(model=MODEL, num_inference_steps=100, num_images=16, api_name="/sample")
    job.result()
    lines = [status(update[0]) for update in job.outputs()]
    assert sum("left" in line for line in lines) >= 2
    assert "left" not in lines[-1]


def test_a_cancelled_job_frees_the_device(url: str, engine: Engine):
    client = Client(url, verbose=False)
    job = client.submit(model=MODEL, num_inference_steps=1000, num_images=64, api_name="/sample")
    wait_until(lambda: engine.active_runs == 1)
    job.cancel()
    wait_until(lambda: engine.active_runs == 0)
    client.close()


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1"])
def test_a_picture_of_any_mode_and_shape_is_taken(client: Client, tmp_path: Path, mode: str):
    file = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    Image.effect_noise((50, 31), 60).convert("RGB").convert(mode).save(file)
    now, strip, *_ = client.predict(model=MODEL, picture=handle_file(file), api_name="/forward")
    assert opened(now).size == (2 * 32 + 1, 32)
    assert opened(strip).size == (9 * 33 - 1, 32)


def test_interpolation_between_uploads_shows_the_sources_at_both_ends(client: Client, tmp_path: Path):
    ends = []
    for name, level in (("dark", 30), ("light", 220)):
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / f"{name}.png")
        ends.append(handle_file(tmp_path / f"{name}.png"))
    answer = client.predict(
        model=MODEL,
        picture_a=ends[0],
        picture_b=ends[1],
        diffusion_steps=0,
        num_images=3,
        api_name="/interpolate",
    )
    strip = np.asarray(opened(answer[1]).convert("L"))
    assert [int(strip[16, 16 + 33 * tile]) for tile in range(5)] == [30, 30, 125, 220, 220]


def test_a_picture_carries_its_recipe_as_text(client: Client):
    answer = client.predict(**TINY, num_images=1, seed=9, api_name="/sample")
    text = opened(answer[3]).info["recipe"]
    assert json.loads(text)["sampler"] == "sde-dpmsolver++"


def test_every_picture_of_a_film_carries_its_recipe(client: Client, engine: Engine):
    answer = client.predict(**TINY, num_images=2, seed=5, api_name="/progressive")
    _, live, x0_hat, x_t, _, _, animation, gallery, _, archive = answer
    fields = SampleRequest.__dataclass_fields__
    for file in (live, x0_hat, x_t, animation):
        recipe = read_recipe(path(file))
        assert recipe["procedure"] == "progressive"
        again = SampleRequest(**{name: value for name, value in recipe.items() if name in fields})
        assert again == SampleRequest(**TINY, sampler="ddpm", num_images=2, seed=5)
    assert read_recipe(path(x0_hat))["t"] == [667, 334, 1]
    pictures = gallery["value"] if isinstance(gallery, dict) else gallery
    assert [read_recipe(each["image"])["seed"] for each in pictures] == [5, 6]
    with zipfile.ZipFile(path(archive)) as pack:
        assert pack.namelist() == ["sheet.png", "00000.png", "00001.png", "x0-hat.png", "x_t.png"]


@pytest.mark.parametrize("name", ENDPOINTS[:4])
def test_the_closing_line_tells_the_visited_timesteps(client: Client, name: str):
    line, *_ = client.predict(**TINY, timestep_spacing="trailing", num_images=2, api_name=name)
    assert re.search(r"visited t = \d+, \d+(, \d+)* \(\d of 1000, trailing\), computed by ", status(line))


@pytest.mark.parametrize(("eta", "same"), [(0, True), (1, False)])
def test_continuations_without_noise_are_said_to_be_the_same(client: Client, eta: float, same: bool):
    line, *_ = client.predict(**TINY, sampler="ddim", eta=eta, num_images=2, api_name="/stochastic")
    assert ("the same picture" in status(line)) == same


def test_forward_leaves_the_picture_given_to_it_alone(client: Client):
    returns = client.view_api(return_format="dict")["named_endpoints"]["/forward"]["returns"]
    assert len(returns) == 3
