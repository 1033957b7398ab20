"""The experiments of DDIM and Improved DDPM through the served API, and the figures they draw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.pictures import read_recipe
from ddpm_app.ui.figures import figure
from ddpm_app.ui.grids import StepGrid, step_counts
from ddpm_app.ui.tabs.coding import GROUND, bits_drawn
from ddpm_app.ui.tabs.variances import ratios
from tests.doubles import refusal
from tests.ui.conftest import MODEL
from tests.ui.served import opened, path, status

TINY = {"model": "tiny-8", "steps": [2, 4]}


def table(value) -> dict[str, list]:
    """Columns by their headers, from what a Dataframe or a LinePlot answers."""
    value = value.get("value", value)  # a plot that is given another legend too
    columns = value.get("headers") or value["columns"]
    return dict(zip(columns, zip(*value["data"], strict=True), strict=True))


def test_a_row_of_the_consistency_figure_is_a_plain_run_of_the_same_seeds(client: Client, engine: Engine):
    answer = client.predict(**TINY, num_images=2, seed=5, api_name="/consistency")
    line, sheet_file, gallery, *_, distances = answer
    assert "8 pictures<" in status(line)
    assert read_recipe(path(sheet_file))["procedure"] == "consistency"
    pictures = gallery["value"] if isinstance(gallery, dict) else gallery
    assert [each["caption"] for each in pictures[:4]] == [
        *("DDIM, eta = 0, S 2, 5", "DDIM, eta = 0, S 2, 6", "DDPM, S 2, 5", "DDPM, S 2, 6")
    ]
    plain = SampleRequest(model="tiny-8", num_inference_steps=4, num_images=2, seed=5)
    *_, frame = engine.run(plain)
    for place in (0, 1):
        shown = np.asarray(opened(pictures[4 + place]["image"])).astype(int)
        assert np.abs(shown - frame.images[place].permute(1, 2, 0).numpy()).max() <= 1
    assert [read_recipe(each["image"])["sampler"] for each in pictures] == [
        "ddim",
        "ddim",
        "ddpm",
        "ddpm",
    ] * 2
    found = table(distances)
    assert found["S"] == (2, 4)
    assert found["DDIM, eta = 0"][0] > 0 == found["DDIM, eta = 0"][1] == found["DDPM"][1]


def test_pictures_are_encoded_and_given_back(client: Client, tmp_path: Path):
    file = tmp_path / "picture.png"
    Image.effect_noise((8, 8), 60).convert("RGB").save(file)
    line, shown, errors = client.predict(
        model="tiny-8", steps=[10, 7], picture=handle_file(file), api_name="/reconstruct"
    )
    assert "2 reconstructions<" in status(line)
    found = table(errors)
    assert found["S"] == (7, 10)
    assert found["the paper, CIFAR-10"] == ("", "0.014")
    assert read_recipe(path(shown))["steps"] == [7, 10]
    own = client.predict(model="tiny-8", steps=[2], api_name="/reconstruct")
    assert "4 reconstructions<" in status(own[0])


def test_pictures_are_written_as_bits_and_come_back(client: Client, engine: Engine, tmp_path: Path):
    file = tmp_path / "picture.png"
    noise = Image.effect_noise((8, 8), 60).convert("RGB")
    noise.save(file, optimize=True)
    asked = {"model": "tiny-8", "num_images": 2, "num_inference_steps": 3, "picture": handle_file(file)}
    line, given, message, rows = client.predict(**asked, seed=4, api_name="/coding")
    assert "2 of 2 pictures came back bit for bit" in status(line)
    assert np.array_equal(np.asarray(opened(given).convert("RGB"))[:8, :8], np.asarray(noise))
    found = table(rows)
    assert found["pictures"] == ("1", "2")
    assert int(found["PNG files, bytes"][0]) == file.stat().st_size
    sent = np.asarray(opened(message).convert("L")).flatten()
    bits = sent[sent != GROUND]
    assert len(bits) == 8 * int(found["message, bytes"][1].replace(",", ""))
    assert set(bits) == {0, 255}
    assert read_recipe(path(message))["run"]["num_images"] == 2


def test_a_message_is_drawn_bit_by_bit():
    drawn = np.asarray(bits_drawn(bytes([0b10000000, 0b11111111, 0b00000001])))
    assert drawn.shape == (5, 5)
    assert drawn.flatten().tolist() == [255, *7 * [0], *8 * [255], *7 * [0], 255, GROUND]


def test_the_corners_of_the_grid_are_the_four_seeds(client: Client, engine: Engine):
    answer = client.predict(model="tiny-8", edge=2, num_inference_steps=3, seed=9, api_name="/latent_grid")
    *_, frame = engine.run(SampleRequest(model="tiny-8", num_inference_steps=3, num_images=4, seed=9))
    picture = np.asarray(opened(answer[1]).convert("RGB")).astype(int)
    tiles = [picture[y : y + 8, x : x + 8] for y in (0, 9) for x in (0, 9)]
    assert np.abs(np.stack(tiles) - frame.images.permute(0, 2, 3, 1).numpy()).max() <= 1


def test_the_learned_variance_is_plotted_over_t_where_there_is_one(client: Client):
    line, v, sigma, _ = client.predict(model=MODEL, api_name="/variances")
    assert "learned no variance" in status(line)
    assert v is None
    assert set(table(sigma)["variance"]) == {"β", "β̃"}


def test_every_variance_of_the_model_has_its_block_and_its_curve(client: Client):
    answer = client.predict(**TINY, num_images=1, api_name="/respacing")
    pictures = answer[2]["value"] if isinstance(answer[2], dict) else answer[2]
    kinds = [read_recipe(each["image"])["variance_type"] for each in pictures]
    assert kinds == ["fixed_small", "fixed_large", "analytic"] * 2
    line, numbers, plot = client.predict(**TINY, api_name="/bounds")
    assert "4 bounds" in status(line)
    assert set(table(numbers)) == {"S", "fixed_small", "fixed_large"}
    assert len(table(plot)["bits/dim"]) == 4


def test_the_status_line_tells_that_the_variance_is_measured_the_first_time_alone(client: Client):
    settings = {"model": "tiny-8", "num_images": 1, "num_inference_steps": 9, "sampler": "ddpm"}

    def lines() -> list[str]:
        job = client.submit(**settings, variance_type="analytic", api_name="/sample")
        job.result()
        return [status(update[0]) for update in job.outputs()]

    first, again = lines(), lines()
    (told,) = [line for line in first if "Measuring the variance" in line and "left" in line][-1:]
    assert "about 0.0 s left" in told
    assert not [line for line in again if "Measuring" in line]
    assert "1 picture<" in again[-1]


def test_the_schedules_noise_one_picture_by_one_noise(client: Client):
    line, shown = client.predict(model="tiny-8", chosen=["linear", "cosine"], api_name="/schedules")
    assert "2 schedules" in status(line)
    assert read_recipe(path(shown))["schedules"] == ["linear", "cosine"]
    with pytest.raises(AppError, match="at least one schedule"):
        client.predict(model="tiny-8", chosen=[], api_name="/schedules")


@pytest.mark.parametrize("name", ["/consistency", "/reconstruct", "/respacing", "/bounds"])
@pytest.mark.parametrize(("steps", "said"), [([], "between 1 and 8"), ([0], "in 1.."), ([2000], "2000")])
def test_a_number_of_steps_that_cannot_be_gets_its_sentence(
    client: Client, name: str, steps: list, said: str
):
    with pytest.raises(AppError, match=said):
        client.predict(model=MODEL, steps=steps, api_name=name)


def test_numbers_of_steps_are_read_as_chosen_or_typed():
    assert step_counts([50, "10", 10, " 20 "]) == [10, 20, 50]
    for bad in (["ten"], [1.5], [True], [float("nan")]):
        assert "whole number" in refusal(lambda bad=bad: step_counts(bad))
    assert "got 9" in refusal(lambda: step_counts(range(1, 10)))


def test_distances_are_to_the_last_row_of_the_same_block():
    grid = StepGrid({"a": SampleRequest(num_images=1), "b": SampleRequest(num_images=1)}, [5, 10])
    levels = [0, 100, 30, 100]
    images = [torch.full((1, 1, 2, 2), level, dtype=torch.uint8) for level in levels]
    assert grid.distances(images).to_dict("list") == {"S": [5, 10], "a": [30.0, 0.0], "b": [0.0, 0.0]}
    assert [each.num_inference_steps for each in grid.requests] == [5, 5, 10, 10]


def test_a_figure_enlarges_its_tiles_under_titles_and_beside_labels():
    dark, light = (torch.full((1, 4, 4), level, dtype=torch.uint8) for level in (10, 240))
    drawn = figure([dark, light, None, light], ["S = 1", "S = 20"], {"one": 1, "a long title": 1}, (4, 4))
    pixels = np.asarray(drawn)
    solid = (pixels[..., 3] == 255) & (pixels[..., 0] != 128)
    assert (solid & (pixels[..., 0] == 10)).sum() == 16 * 16  # enlarged four times
    assert (solid & (pixels[..., 0] == 240)).sum() == 2 * 16 * 16
    rows, columns = np.nonzero(pixels[..., 3])
    assert columns.min() < 5  # the labels
    assert rows.min() < 10  # the titles
    assert figure([dark], ["S = 1"], {"": 1}, (4, 4)).height < drawn.height


def test_the_ratio_of_the_two_variances_rises_sooner_in_longer_chains(engine: Engine):
    found = ratios(engine.model("tiny-8").diffusion)
    assert found["β̃ / β"].between(0, 1).all()
    early = {
        length: part[part["t / T"].between(0.04, 0.12)]["β̃ / β"].mean()
        for length, part in found.groupby("steps")
    }
    assert early["25"] < early["100"] < early["1000"]
