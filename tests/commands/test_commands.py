"""The program: sampling, models, benchmarks, training, pushing, and what it says when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_app.commands import COMMANDS, main
from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.evaluation.solvers import CONTENDERS
from ddpm_app.models import HUB_MODELS
from ddpm_app.models.exact import EXACT_MODELS
from ddpm_app.pictures import read_recipe
from tests.commands.running import NORMAL, answer, complaint
from tests.doubles import edit, save_pipeline, tiny_network
from tests.uploads import TOKEN

ROOT = Path(__file__).parents[2]

# sample


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
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("name", ["taken", "taken/below", "x" * 300])
def test_a_folder_that_cannot_be_written_is_said_before_the_work(capsys, tmp_path, name):
    (tmp_path / "taken").write_text("a file")
    assert "--out" in complaint(capsys, "sample", *NORMAL, "--steps", 1000, "--out", tmp_path / name)


def test_sample_measures_the_analytic_variance_first(capsys, tmp_path):
    wanted = ["sample", *NORMAL, "--steps", 5, "--variance", "analytic", "--num-images", 1]
    values = answer(capsys, *wanted, "--out", tmp_path / "out")
    assert values["variance_type"] == "analytic"
    assert read_recipe(tmp_path / "out" / "00000.png")["variance_type"] == "analytic"


# models


def test_models_lists_what_is_at_hand_and_what_the_hub_has(capsys, tiny_pipeline):
    values = answer(capsys, "models", "--checkpoints", tiny_pipeline.parent)
    assert values["models"] == ["tiny-8", *EXACT_MODELS]
    assert values["hub_models"] == list(HUB_MODELS)


def test_models_tells_how_one_model_is_understood(capsys, tiny_pipeline):
    values = answer(capsys, "models", "tiny-8", "--checkpoints", tiny_pipeline.parent)
    assert values["image_shape"] == [3, 8, 8]
    assert values["num_train_timesteps"] == 1000
    assert values["variance_type"] == "fixed_small"
    assert values["num_parameters"] > 1000
    assert "no-such-model" in complaint(capsys, "models", "no-such-model")


# bench


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_bench_agrees_with_diffusers_and_gives_the_ratio(capsys, tiny_pipeline, sampler):
    values = answer(
        capsys,
        "bench",
        *["--model", "tiny-8", "--checkpoints", tiny_pipeline.parent, "--device", "cpu"],
        *["--sampler", sampler, "--steps", 4, "--num-images", 1, 3, "--rounds", 1],
    )
    assert [row["num_images"] for row in values["rows"]] == [1, 3]
    for row in values["rows"]:
        assert row["largest_difference"] <= 1
        assert row["ratio"] == pytest.approx(row["diffusers_seconds"] / row["seconds"])
        assert row["seconds"] > 0


def test_bench_says_what_cannot_be_compared(capsys, tiny_pipeline):
    tiny = ["bench", "--model", "tiny-8", "--checkpoints", tiny_pipeline.parent, "--device", "cpu"]
    assert "divide 1000" in complaint(capsys, *tiny, "--steps", 30)
    assert "--rounds" in complaint(capsys, *tiny, "--rounds", 0)
    assert "no weights" in complaint(capsys, "bench", *NORMAL)
    for what in ("visitors", "load"):
        assert "--visitors" in complaint(capsys, "bench", what, *NORMAL, "--visitors", 0)
    assert "1..256" in complaint(capsys, "bench", "visitors", *NORMAL, "--num-images", 300)
    assert "no model" in complaint(capsys, "bench", "visitors", "--model", "no-such")


@pytest.mark.parametrize(
    ("settings", "sampler", "said"),
    [
        ({"variance_type": "learned_range"}, "ddim", "--sampler ddpm"),
        ({"variance_type": "learned"}, "ddpm", "logarithm"),
        ({"prediction_type": "posterior_mean"}, "ddpm", "mu-tilde"),
    ],
)
def test_bench_refuses_what_diffusers_would_do_otherwise(capsys, tmp_path, settings, sampler, said):
    outputs = 6 if "variance_type" in settings else 3
    save_pipeline(tmp_path / "own", tiny_network(out_channels=outputs))
    edit(tmp_path / "own" / "scheduler" / "scheduler_config.json", **settings)
    wanted = ["bench", "--model", tmp_path / "own", "--device", "cpu", "--sampler", sampler]
    assert said in complaint(capsys, *wanted)


def test_bench_holds_the_samplers_against_a_long_run_and_the_data(capsys, pictures):
    wanted = ["bench", "solvers", *NORMAL, "--steps", 3, "--data", pictures]
    rows = answer(capsys, *wanted)["rows"]
    assert [row["sampler"] for row in rows] == [*CONTENDERS]
    assert {row["num_inference_steps"] for row in rows} == {3}
    assert all(row["nearest_distance"] > 0 for row in rows)
    assert "at least 8" in complaint(capsys, *wanted, "--num-images", 7)
    for picture in sorted(pictures.iterdir())[1:]:
        picture.unlink()
    assert "at least 2" in complaint(capsys, *wanted)


def test_bench_times_training_steps_beside_diffusers_example(capsys):
    values = answer(capsys, "bench", "training", "--num-images", 1, 2, "--steps", 1, "--rounds", 1)
    assert [row["batch_size"] for row in values["rows"]] == [1, 2]
    for row in values["rows"]:
        assert row["ratio"] == pytest.approx(row["images_per_second"] / row["diffusers_images_per_second"])
        assert row["ratio"] > 0
    assert "--steps" in complaint(capsys, "bench", "training", "--steps", 0)
    assert "--num-images" in complaint(capsys, "bench", "training", "--num-images", 0)


# train


def test_train_ends_with_a_model_that_sample_runs(capsys, tmp_path, pictures):
    out = tmp_path / "trained"
    values = answer(
        capsys,
        *["train", "--data", pictures, "--out", out, "--image-size", 8, "--channels", 1],
        *["--block-out-channels", 32, "--attention-resolutions", 4, "--num-steps", 2, "--batch-size", 2],
    )
    assert values["out"] == str(out)
    assert 0 < values["loss"] < 10
    wanted = ["sample", "--model", out, "--device", "cpu", "--steps", 2, "--num-images", 1]
    answer(capsys, *wanted, "--out", tmp_path / "samples")
    assert (tmp_path / "samples" / "00000.png").exists()


def test_training_that_is_done_already_says_so_without_a_loss(capsys, tmp_path, pictures):
    wanted = [
        *["train", "--data", pictures, "--out", tmp_path / "trained", "--image-size", 8, "--channels", 1],
        *["--block-out-channels", 32, "--num-steps", 1, "--batch-size", 2],
    ]
    assert answer(capsys, *wanted)["loss"] > 0
    assert answer(capsys, *wanted)["loss"] is None
    longer = [*wanted, "--num-steps", 2]
    assert answer(capsys, *longer)["steps"] == 2
    assert answer(capsys, *wanted)["steps"] == 2  # which is what the model has


def test_a_training_whose_reader_has_gone_trains_on_and_a_command_without_one_ends(tmp_path, pictures):
    train = ["train", "--data", pictures, "--out", tmp_path / "trained", "--image-size", 8, "--channels", 1]
    train += ["--block-out-channels", 32, "--num-steps", 3, "--batch-size", 2]
    for wanted in (train, ["models"]):
        command = [sys.executable, "-m", "ddpm_app", *map(str, wanted)]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        run.stdout.close()
        assert "Error" not in run.stderr.read()
        run.stderr.close()
        assert run.wait(200) == 1
    assert json.loads((tmp_path / "trained" / "training.json").read_text())["steps_done"] == 3


def test_train_says_what_is_wrong(capsys, tmp_path):
    wanted = ["train", "--out", tmp_path / "out"]
    assert "--data" in complaint(capsys, *wanted)
    assert "--data" in complaint(capsys, *wanted, "--data", tmp_path / "missing")
    assert "no picture" in complaint(capsys, *wanted, "--data", tmp_path)


# push


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the real client
def test_push_answers_with_the_address_at_which_the_model_is(capsys, tiny_copy, upload_hub):
    values = answer(capsys, "push", tiny_copy, "owner/tiny-8", "--token", TOKEN, "--private")
    assert values["address"] == f"{upload_hub.url}/owner/tiny-8"
    assert "unet/diffusion_pytorch_model.safetensors" in upload_hub.files("owner/tiny-8")
    assert upload_hub.private == {"owner/tiny-8"}


def test_push_says_what_is_wrong(capsys, tmp_path, tiny_copy, upload_hub):
    assert "hf auth login" in complaint(capsys, "push", tiny_copy, "owner/tiny-8")
    assert "token" in complaint(capsys, "push", tiny_copy, "owner/tiny-8", "--token", "hf_other")
    assert "google" in complaint(capsys, "push", tiny_copy, "google/tiny-8", "--token", TOKEN)
    assert "owner/tiny-8" in complaint(capsys, "push", tiny_copy, "tiny-8", "--token", TOKEN)
    assert "model_index.json" in complaint(capsys, "push", tmp_path, "owner/tiny-8", "--token", TOKEN)
    assert "repository" in complaint(capsys, "push", tiny_copy)


# the program


@pytest.mark.parametrize("arguments", [[], ["paint"]], ids=str)
def test_without_a_command_the_commands_are_named(capsys, arguments):
    assert all(name in complaint(capsys, *arguments) for name in (COMMANDS if arguments else ["command"]))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_each_of_its_options(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_the_sources_of_pictures_are_listed_in_the_help(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(
        source in told for source in ("folder", ".zip", ".parquet", "owner/name:split@revision", "shapes")
    )


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(options):
        raise ZeroDivisionError

    monkeypatch.setattr(COMMANDS["models"], "run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["models"])


def test_stopping_by_the_keyboard_is_no_bug(capsys, monkeypatch):
    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS["models"], "run", stopped)
    assert main(["models"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_the_package_runs_as_a_program(tmp_path):
    command = [sys.executable, "-m", "ddpm_app", "sample", *NORMAL, "--num-images", "0"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: num_images must be")
    assert run.stderr.count("\n") == 1
