"""What ends a run before its time, told with what to do; the last good state is on disk."""

import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddpm_app.core.losses import LOSSES
from ddpm_app.models import load_model
from ddpm_app.training import train, trainer
from tests.doubles import refusal
from tests.training.runs import (
    assert_same_weights,
    start,
    state_of,
    weights_of,
)


def spoil(monkeypatch, step, damage):
    """From that step on of a run on one core, `damage` is done to the losses of its network."""
    simple, calls = LOSSES["simple"], []

    def spoiled(diffusion, denoiser, *rest):
        calls.append(1)
        losses = simple(diffusion, denoiser, *rest)
        return damage(losses) if len(calls) >= step else losses

    monkeypatch.setitem(LOSSES, "simple", spoiled)


def test_a_loss_that_is_no_number_leaves_the_last_save(config, monkeypatch):
    spoil(monkeypatch, 4, lambda losses: losses * math.inf)
    config = replace(config, save_every=2)
    sentence = refusal(lambda: list(train(config)))
    assert "at step 4; resume, from step 2, with a lower learning_rate" in sentence
    assert state_of(config.out)["step"] == 2  # of step 3 the next one is no number again, whatever the rate


def test_where_nothing_was_saved_the_state_before_such_a_loss_is(config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        spoil(patch, 3, lambda losses: losses * math.nan)
        sentence = refusal(lambda: list(train(config)))
    assert "no longer a number at step 3" in sentence
    assert "begin again, with --no-resume and a lower learning_rate" in sentence
    before = replace(config, out=str(tmp_path / "before"))
    answers = iter([False, True])
    list(train(before, stopping=lambda: next(answers)))
    assert_same_weights(config.out, before.out)
    assert load_model("run", "cpu", checkpoints=tmp_path).num_parameters > 1000
    assert [at.step for at in train(replace(config, learning_rate=1e-5), report_every=1)] == [3, 4]
    assert all(each.isfinite().all() for each in weights_of(config.out))


@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_gradient_that_is_no_number_is_not_learned_from(config, monkeypatch, max_grad_norm):
    # the square root of nothing has no slope, though the loss stays what it is
    spoil(monkeypatch, 3, lambda losses: losses + (losses * 0).sqrt())
    config = replace(config, max_grad_norm=max_grad_norm, save_every=1)
    assert "at step 3" in refusal(lambda: list(train(config)))
    assert state_of(config.out)["step"] == 2
    assert all(each.isfinite().all() for each in weights_of(config.out))


@pytest.mark.parametrize(
    "said",
    ["[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory", "CUDA"],
    ids=["cpu", "gpu"],
)
def test_too_little_memory_is_told_with_what_to_do(config, monkeypatch, said):
    error = torch.OutOfMemoryError("CUDA out of memory") if said == "CUDA" else RuntimeError(said)

    def full(losses):
        raise error

    spoil(monkeypatch, 2, full)
    sentence = refusal(lambda: list(train(replace(config, save_every=1))))
    assert "double gradient_accumulation_steps (1)" in sentence
    assert "batch_size (4)" in sentence
    assert state_of(config.out)["step"] == 1


@pytest.mark.parametrize("work", ["save_samples", "held_out_loss"])
def test_too_little_memory_to_look_at_the_model_is_told_too(config, pictures, monkeypatch, work):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer, work, full)
    config = replace(config, held_out=str(pictures), save_every=1)
    assert "double gradient_accumulation_steps" in refusal(lambda: list(train(config)))
    assert state_of(config.out)["step"] == 3


@pytest.mark.parametrize("flag", ["data", "held_out"])
def test_a_run_does_not_write_its_sheets_among_its_pictures(config, pictures, flag):
    inside = {"out": str(pictures / "model"), "data": "shapes", flag: str(pictures)}
    assert "lies within --" + flag.replace("_", "-") in refusal(
        lambda: list(train(replace(config, **inside)))
    )
    assert not (pictures / "model").exists()
    same = replace(config, out=str(pictures))
    assert "lies within --data" in refusal(lambda: list(train(same)))


@pytest.mark.slow
def test_the_drawn_shapes_are_no_folder_of_that_name(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = replace(config, data="shapes", out="shapes", num_steps=1)
    list(train(drawn))
    assert [at.step for at in train(replace(drawn, num_steps=2))] == [2]


def test_any_other_error_of_the_network_keeps_its_traceback(config, monkeypatch):
    def broken(losses):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    spoil(monkeypatch, 1, broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(train(config))


@pytest.mark.parametrize("name", ["", "samples"])
def test_a_place_that_is_taken_is_told(config, name):
    place = Path(config.out, name)
    place.parent.mkdir(exist_ok=True)
    place.write_text("a file")
    assert "could not be written" in refusal(lambda: list(train(config)))


def test_a_folder_that_is_removed_is_made_again(config, tmp_path):
    steps = train(config, report_every=1)
    next(steps)
    shutil.rmtree(config.out)
    assert "could not be written" in refusal(lambda: list(steps))
    assert list(train(config))[-1].step == 4


@pytest.mark.parametrize("largest_file", [100_000, 1_500_000], ids=["model", "state"])
def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(config, tmp_path, largest_file):
    """A limit on the size of files stands for the disk: the model is 0.5 MB, the state 5 MB."""
    whole = replace(config, out=str(tmp_path / "whole"))
    list(train(whole))
    answers = iter([False, True])
    list(train(config, stopping=lambda: next(answers)))
    process = start(config, tmp_path / "said", largest_file=largest_file)
    process.join()
    said = (tmp_path / "said").read_text().splitlines()[-1]
    assert process.exitcode == 2
    assert said.startswith(f"error: {config.out} could not be written")
    assert "Traceback" not in (tmp_path / "said").read_text()
    assert state_of(config.out)["step"] == 2
    assert load_model("run", "cpu", checkpoints=tmp_path).image_shape == (3, 8, 8)
    list(train(config))
    assert_same_weights(config.out, whole.out)


def test_a_tracker_without_its_package_is_told(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert "pip install tensorboard" in refusal(lambda: list(train(replace(config, log_with="tensorboard"))))
