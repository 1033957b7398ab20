"""The paper's figures as slides, through the served API, and what they are drawn from."""

import numpy as np
import pytest
import torch
from gradio_client import Client
from PIL import Image

from ddpm_app.engine import CancelToken, Engine, SampleRequest
from ddpm_app.pictures import read_recipe
from ddpm_app.ui.figures import figure
from ddpm_app.ui.paper import FIGURES, Setting
from ddpm_app.ui.slides import AREA, plot, slide
from tests.doubles import save_pipeline, tiny_network
from tests.ui.served import opened, path, status


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose whole chain is 20 steps."""
    folder = tmp_path_factory.mktemp("short") / "short-8"
    return str(save_pipeline(folder, tiny_network(), num_train_timesteps=20))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_becomes_a_slide_with_its_recipe(client: Client, short: str, name: str):
    line, shown, _ = client.predict(model=short, name=name, reverse_steps=0, seed=3, api_name="/figure")
    assert f"{name}<" in status(line)
    picture = opened(shown)
    assert picture.size == (1600, 900)
    assert len(picture.convert("L").getcolors(256)) > 20  # words and pictures, not a blank ground
    recipe = read_recipe(path(shown))
    assert recipe["procedure"] == "figure"
    assert (recipe["name"], recipe["model"], recipe["seed"]) == (name, short, 3)


def last_drawing(engine: Engine, name: str, seed: int = 5, **own) -> Image.Image:
    model = engine.model("tiny-8")
    setting = Setting(engine, model, "tiny-8", 4, seed, CancelToken(), **own)
    *_, (share, picture) = FIGURES[name].draw(setting)
    assert share == 1
    return picture()


def test_figure_1_shows_the_pictures_of_a_plain_ancestral_run(engine: Engine):
    *_, frame = engine.run(
        SampleRequest(model="tiny-8", sampler="ddpm", num_inference_steps=4, num_images=16, seed=5)
    )
    same = figure(list(frame.images), ["", ""], {"": 8}, (8, 8), fit=AREA, max_scale=8, font_size=26)
    assert np.array_equal(last_drawing(engine, "Figure 1"), same)


def test_figure_9_begins_and_ends_each_row_with_its_sources_and_mixes_pixels_in_the_last(engine: Engine):
    black, white = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.full((3, 8, 8), 255, dtype=torch.uint8)
    drawing = np.asarray(last_drawing(engine, "Figure 9", pictures=[black, white]))
    row = drawing[-4]  # within the last row of tiles
    opaque = row[row[:, 3] == 255][:, :3].astype(int)
    levels = opaque[(opaque == opaque[:, :1]).all(1), 0]
    expected = {round(255 * k / 10) for k in range(11)}
    assert all(min(abs(levels - level)) <= 1 for level in expected)
    assert levels[0] == 0
    assert levels[-1] == 255


def test_a_curve_runs_through_its_points_and_its_axes_are_labelled_without_exponents():
    drawing = np.asarray(plot([(0, 0), (1000, 10)], "rate", "steps", size=(400, 400)))
    blue = (drawing[..., 2].astype(int) - drawing[..., 0] > 60) & (drawing[..., 3] > 0)
    columns = blue.any(0).nonzero()[0]
    heights = [blue[:, column].nonzero()[0].mean() for column in columns]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] - heights[-1] > 250
    rounded = plot([(0, 0), (1000.4, 10)], "rate", "steps", size=(400, 400))
    assert np.array_equal(drawing, rounded)  # the labels too: 1000, not 1e+03


def test_the_labels_of_a_curve_are_whole():
    ink = np.asarray(plot([(0, 0), (1000, 1000)], "rate", "steps"))[..., 3] > 0
    assert not ink[:, 0].any()
    assert not ink[:, -1].any()


def test_a_figure_too_large_for_a_slide_is_made_to_fit():
    ground = np.asarray(slide("title", Image.new("RGB", (4000, 100), "red"), "caption"))
    red = (ground == (255, 0, 0)).all(-1)
    assert red.any()
    assert not red[:, :40].any()
    assert not red[:, -40:].any()
