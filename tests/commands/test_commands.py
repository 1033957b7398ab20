"""The program: models, training, pushing, and what it says when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_app.commands import COMMANDS, main
from ddpm_app.models import HUB_MODELS
from ddpm_app.models.exact import EXACT_MODELS
from tests.commands.running import NORMAL, answer, complaint
from tests.uploads import TOKEN

ROOT = Path(__file__).parents[2]

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


@pytest.mark.slow
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


@pytest.mark.slow
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
    (tmp_path / "empty").mkdir()
    assert "no picture" in complaint(capsys, *wanted, "--data", tmp_path / "empty")


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
