"""`sample`: its pictures, its lines, its refusals."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_app.commands import main
from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.pictures import read_recipe
from tests.commands.running import NORMAL, answer, complaint

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("model", ["exact-normal", "tiny"])
def test_sample_writes_pictures_a_sheet_and_an_array_that_agree(capsys, tmp_path, tiny_pipeline, model):
    out = tmp_path / "deep" / "out"
    model = str(tiny_pipeline) if model == "tiny" else model
    wanted = ["--model", model, "--steps", 4, "--num-images", 5, "--seed", 9, "--sampler", "ddpm"]
    values = answer(capsys, "sample", *wanted, "--device", "cpu", "--out", out)
    assert sorted(file.name for file in out.iterdir()) == [
        *(f"{k:05d}.png" for k in range(5)),
        "grid.png",
        "samples.npz",
    ]
    with np.load(out / "samples.npz") as arrays:
        assert list(arrays) == ["arr_0"]
        array = arrays["arr_0"]
    assert array.dtype == np.uint8
    assert array.ndim == 4
    for k in range(5):
        with Image.open(out / f"{k:05d}.png") as picture:
            assert np.array_equal(np.atleast_3d(np.array(picture)), array[k])
    assert (values["seed"], values["num_images"], values["out"]) == (9, 5, str(out))
    *_, last = Engine("cpu").run(SampleRequest(**read_recipe(out / "grid.png")))
    assert np.array_equal(last.images.permute(0, 2, 3, 1).numpy(), array)


def test_each_picture_carries_the_recipe_of_itself_alone(capsys, tmp_path):
    answer(capsys, "sample", *NORMAL, "--steps", 3, "--num-images", 3, "--seed", 9, "--out", tmp_path)
    *_, alone = Engine("cpu").run(SampleRequest(**read_recipe(tmp_path / "00002.png")))
    with Image.open(tmp_path / "00002.png") as picture:
        assert np.array_equal(np.array(picture), alone.images[0, 0].numpy())


def test_a_shorter_run_leaves_no_picture_of_a_longer_one_beside_its_own(capsys, tmp_path):
    answer(capsys, "sample", *NORMAL, "--steps", 2, "--num-images", 3, "--out", tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "00007.png")  # somebody else's
    answer(capsys, "sample", *NORMAL, "--steps", 2, "--num-images", 1, "--out", tmp_path)
    assert [file.name for file in sorted(tmp_path.glob("0*.png"))] == ["00000.png", "00007.png"]


@pytest.mark.parametrize("taken", ["00001.png", "grid.png", "samples.npz"])
def test_pictures_that_cannot_be_written_are_told_in_one_line(capsys, tmp_path, taken):
    (tmp_path / taken).mkdir()
    said = complaint(capsys, "sample", *NORMAL, "--steps", 2, "--num-images", 2, "--out", tmp_path)
    assert f"{tmp_path} could not be written" in said
    assert "give the same command again" in said


def test_without_json_sample_says_what_it_did(capsys, tmp_path):
    assert main(["sample", *NORMAL, "--steps", "2", "--num-images", "2", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"2 pictures in {tmp_path}")


def test_sample_tells_the_timesteps_it_visited_counted_from_1(capsys, tmp_path):
    wanted = [*NORMAL, "--steps", 5, "--num-images", 1, "--spacing", "trailing", "--out", tmp_path]
    values = answer(capsys, "sample", *wanted)
    assert values["visits"] == "t = 1000, 800, …, 200 (5 of 1000, trailing)"
    assert values["visited"] == [1000, 800, 600, 400, 200]
    assert main(["sample", *map(str, wanted)]) == 0
    assert values["visits"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", 0], "num_inference_steps"),
        (["--steps", 1001], "1..1000"),
        (["--num-images", 0], "num_images"),
        (["--num-images", 10**9], "1..256"),
        (["--seed", -1], "seed"),
        (["--seed", 2**64], "seed"),
        (["--eta", "nan"], "eta"),
        (["--variance", "small"], "fixed_small"),
        (["--spacing", "even"], "trailing"),
        (["--sampler", "euler"], "ddim"),
        (["--precision", "half"], "fast"),
        (["--steps", "many"], "--steps"),
        (["--device", "tpu"], "cpu"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--model", ""], "no name"),
        (["--fast"], "--fast"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_sample_cannot_do_it_says_in_one_line(capsys, tmp_path, arguments, said):
    out = tmp_path / "out"
    assert said in complaint(capsys, "sample", *NORMAL, "--out", out, *arguments)
    assert not out.exists()


@pytest.mark.parametrize("name", ["taken", "taken/below", "x" * 300])
def test_a_folder_that_cannot_be_written_is_said_before_the_work(capsys, tmp_path, name):
    (tmp_path / "taken").write_text("a file")
    assert "--out" in complaint(capsys, "sample", *NORMAL, "--steps", 1000, "--out", tmp_path / name)


def test_sample_measures_the_analytic_variance_first(capsys, tmp_path):
    wanted = ["sample", *NORMAL, "--steps", 5, "--variance", "analytic", "--num-images", 1]
    values = answer(capsys, *wanted, "--out", tmp_path / "out")
    assert values["variance_type"] == "analytic"
    assert read_recipe(tmp_path / "out" / "00000.png")["variance_type"] == "analytic"
