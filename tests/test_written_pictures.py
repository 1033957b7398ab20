"""Pictures written: sheets, animations, heat maps, and the recipe that each carries."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from ddpm_app.engine import SampleRequest
from ddpm_app.pictures import (
    HEAT,
    columns_for,
    fit,
    heat_map,
    read_picture,
    read_recipe,
    save_animation,
    save_png,
    sheet,
    to_picture,
)
from tests.doubles import refusal
from tests.test_pictures import NO_PICTURES, RGB, picture_bytes, pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_fit_undoes_to_picture(channels):
    image = pixels(channels)
    assert torch.equal(fit(to_picture(image), (4, 6), channels), image)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (16, 4), (17, 5)])
def test_a_sheet_is_as_square_as_its_tiles_allow(count, columns):
    assert columns_for(count) == columns


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns", "gap"), [(1, None, 1), (4, None, 1), (5, 3, 2), (3, 1, 0)])
def test_a_sheet_shows_every_image_at_its_own_size_row_by_row(channels, count, columns, gap):
    images = torch.stack([pixels(channels, seed=seed) for seed in range(count)])
    drawn = sheet(images, columns, gap)
    across = columns or columns_for(count)
    down = -(-count // across)
    assert drawn.mode == "RGBA"
    assert drawn.size == (across * 6 + (across - 1) * gap, down * 4 + (down - 1) * gap)
    shown = torch.from_numpy(np.array(drawn)).permute(2, 0, 1)
    covered = 0
    for k, image in enumerate(images):
        y, x = k // across * (4 + gap), k % across * (6 + gap)
        tile = shown[:, y : y + 4, x : x + 6]
        assert torch.equal(tile[:3], image.expand(3, -1, -1))
        assert (tile[3] == 255).all()
        covered += 24
    assert (shown[3] == 255).sum() == covered  # all else is transparent


def test_a_recipe_survives_the_png_and_makes_an_equal_request(tmp_path):
    request = SampleRequest(model="größte/model", seed=2**63 - 1, eta=0.1)
    image = pixels()
    file = save_png(to_picture(image), tmp_path / "sample.png", request.recipe())
    assert SampleRequest(**read_recipe(file)) == request
    assert torch.equal(read_picture(file, RGB), image)


def png_that_says(recipe):
    text, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    text.add_text("recipe", recipe)
    Image.new("L", (2, 2)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *NO_PICTURES.values(),
        picture_bytes("PNG"),
        png_that_says("{"),
        png_that_says("7"),
        png_that_says("[1]"),
    ],
)
def test_a_picture_without_a_recipe_says_so(tmp_path, content):
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    assert "carries no recipe" in refusal(lambda: read_recipe(file))


def test_an_animation_has_a_frame_for_each_picture_and_holds_the_last(tmp_path):
    pictures = [sheet(pixels(seed=seed)[None]) for seed in range(5)]
    file = save_animation(pictures, tmp_path / "run.gif", milliseconds=70, edge=50)
    with Image.open(file) as animation:
        assert animation.n_frames == 5
        assert animation.size == (48, 32)  # 8 times, the whole factor that stays within 50
        assert animation.info["loop"] == 0
        durations = []
        for k in range(5):
            animation.seek(k)
            durations.append(animation.info["duration"])
            small = animation.convert("RGB").resize((6, 4), Image.Resampling.NEAREST)
            assert np.array_equal(np.array(small), np.array(pictures[k].convert("RGB")))
    assert durations == [70] * 4 + [1500]


@pytest.mark.parametrize("count", [1, 3])
def test_an_animation_carries_its_recipe(tmp_path, count):
    recipe = {"model": "größte/model", "t": [*range(500)]}  # longer than one block of a GIF's comment
    pictures = [sheet(pixels(seed=seed)[None]) for seed in range(count)]
    assert read_recipe(save_animation(pictures, tmp_path / "run.gif", recipe=recipe)) == recipe
    assert "carries no recipe" in refusal(lambda: read_recipe(save_animation(pictures, tmp_path / "no.gif")))


def test_an_animation_of_one_picture_is_a_picture(tmp_path):
    with Image.open(save_animation([sheet(pixels()[None])], tmp_path / "run.gif", edge=1)) as animation:
        assert (animation.n_frames, animation.size) == (1, (6, 4))


def test_a_heat_map_runs_from_dark_to_pale_and_clips():
    values = torch.tensor([[0.0, 1 / 3, 2 / 3, 1.0], [-5.0, 7.0, 0.5, 0.5]])
    colours = heat_map(values)
    assert colours.dtype == torch.uint8
    assert [tuple(colours[:, 0, k].tolist()) for k in range(4)] == list(HEAT)
    assert torch.equal(colours[:, 1, 0], colours[:, 0, 0])
    assert torch.equal(colours[:, 1, 1], colours[:, 0, 3])
    brightness = heat_map(torch.linspace(0, 1, 50)[None]).double().mean(0)
    assert (brightness.diff() >= 0).all()


def test_the_recipe_is_plain_json_in_the_text_chunk(tmp_path):
    file = save_png(to_picture(pixels()), tmp_path / "sample.png", {"seed": 3})
    with Image.open(file) as picture:
        assert json.loads(picture.text["recipe"]) == {"seed": 3}
