"""Compare: two settings from the same noise, through the real client and number by number."""

import math

import numpy as np
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.pictures import read_recipe
from ddpm_app.ui.tabs.compare import apart, beside, distances, race
from tests.ui.conftest import MODEL
from tests.ui.served import opened, path, status

TINY = {"model": "tiny-8", "num_images": 2, "num_inference_steps": 3, "other_num_inference_steps": 2}


def test_two_settings_come_out_beside_each_other(client: Client, engine: Engine):
    line, _, gallery, download, _, curtain, table = client.predict(**TINY, api_name="/compare")
    assert "2 pictures twice" in status(line)
    pictures = gallery["value"] if isinstance(gallery, dict) else gallery
    assert [each["caption"] for each in pictures] == ["A, seed 7", "A, seed 8", "B, seed 7", "B, seed 8"]
    for steps, own in ((3, pictures[:2]), (2, pictures[2:])):
        request = SampleRequest(model="tiny-8", num_inference_steps=steps, num_images=2, seed=7)
        *_, frame = engine.run(request)
        shown = torch.stack([torch.tensor(np.array(opened(each["image"]))).permute(2, 0, 1) for each in own])
        assert torch.equal(shown, frame.images)
    assert read_recipe(path(download))["run"]["other_num_inference_steps"] == 2
    numbers = curtain["value"]["numbers"] if "value" in curtain else curtain["numbers"]
    assert numbers["rmse"] == f"{table['data'][0][1]:.2f}"
    assert {"seconds_a", "seconds_b"} < set(numbers)


def test_the_same_settings_differ_in_nothing(client: Client):
    same = TINY | {"other_num_inference_steps": 3}
    *_, table = client.predict(**same, api_name="/compare")
    assert table["data"][0] == ["all", 0, "∞", 100]


def test_the_defaults_of_everything_else_run(client: Client):
    line, *_ = client.predict(model=MODEL, num_inference_steps=2, num_images=1, api_name="/compare")
    assert "1 picture twice<" in status(line)


def test_models_of_two_sizes_are_refused_in_words(client: Client):
    with pytest.raises(AppError, match="3 x 8 x 8 and 3 x 32 x 32"):
        client.predict(**TINY, other_model=MODEL, api_name="/compare")


def test_both_runs_move_on_together(engine: Engine):
    runs = [
        engine.run(SampleRequest(model=MODEL, num_images=1, num_inference_steps=steps)) for steps in (9, 3)
    ]
    for frames, _ in race(runs):
        first, second = (frame.step / frame.num_steps for frame in frames)
        assert abs(first - second) <= 1 / 3 + 1e-9
    assert (first, second) == (1, 1)


def test_the_distances_are_those_of_the_formula():
    a = torch.zeros(2, 3, 2, 2, dtype=torch.uint8)
    b = a.clone()
    b[0, 0, 0, 0] = 120  # one pixel of four, in one channel of three
    rows = distances([a, b], [5, 6]).to_numpy().tolist()
    rmse = math.sqrt(120**2 / 12)
    assert rows[1] == ["5", round(rmse, 2), f"{20 * math.log10(255 / rmse):.1f}", 75]
    assert rows[2] == ["6", 0, "∞", 100]
    assert rows[0][3] == 87.5


def test_a_side_is_called_by_what_it_differs_in():
    a = SampleRequest(num_inference_steps=50)
    assert apart(a, SampleRequest(num_inference_steps=10)) == ["steps 50", "steps 10"]
    assert apart(a, a) == ["the same settings"] * 2


@pytest.mark.parametrize("count", [1, 3, 9])
def test_the_figure_has_three_blocks_of_all_pictures(count: int):
    images = torch.full((count, 1, 8, 8), 200, dtype=torch.uint8)
    picture = np.asarray(beside([images, images]))
    assert ((picture == (200, 200, 200, 255)).all(-1)).sum() == 2 * count * 32 * 32  # enlarged four times
