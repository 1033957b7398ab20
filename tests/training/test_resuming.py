"""A run that was stopped or killed, and what the next one into the same folder makes of it."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddpm_app.models import load_model
from ddpm_app.training import train
from ddpm_app.training.checkpoints import PARTIAL, STATE
from tests.training.runs import (
    OBJECTIVES,
    assert_same_weights,
    start,
    state_of,
    weights_of,
)


@pytest.mark.parametrize(
    "changes", [{"dropout": 0.3}, OBJECTIVES["importance"], OBJECTIVES["hybrid"]], ids=str
)
def test_a_run_that_was_stopped_and_resumed_ends_with_the_same_weights(config, tmp_path, changes):
    config = replace(config, save_every=2, **changes)
    list(train(config))
    stopped = replace(config, out=str(tmp_path / "stopped"))
    steps = train(stopped, report_every=1)
    while next(steps).step < 3:  # one step beyond the last save
        pass
    steps.close()
    torch.randn(5)
    assert [at.step for at in train(stopped, report_every=1)] == [3, 4]
    assert_same_weights(config.out, stopped.out)


def test_a_resumed_run_tells_once_that_its_pictures_are_no_longer_the_same(config, pictures, capsys):
    for num_steps in (2, 3):
        list(train(replace(config, num_steps=num_steps)))
    assert "no longer those" not in capsys.readouterr().out
    next(pictures.iterdir()).unlink()
    for said in ("the pictures are no longer those of the first 3 steps", ""):
        num_steps += 1
        list(train(replace(config, num_steps=num_steps)))
        assert capsys.readouterr().out.partition(";")[0] == said


def test_a_run_that_is_done_trains_no_further(config):
    list(train(config))
    before = weights_of(config.out)
    assert list(train(config)) == []
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(config.out), strict=True))


def test_a_run_that_begins_anew_shows_no_sheet_of_the_one_before(config):
    list(train(config))
    next(train(replace(config, num_steps=3, save_every=1), resume=False, report_every=1))
    assert not Path(config.out, "samples.png").exists()
    assert not Path(config.out, "samples").exists()
    assert "samples.png" not in Path(config.out, "README.md").read_text()


def test_what_a_killed_process_had_begun_to_write_is_gone_after_the_next_though_nothing_is_left_to_do(config):
    list(train(config))
    begun = Path(config.out, PARTIAL, "unet")
    begun.mkdir(parents=True)
    (begun / "config.json").write_text("{")
    list(train(config))
    assert not Path(config.out, PARTIAL).exists()


def test_a_run_that_is_told_to_stop_ends_saved_after_the_step_at_hand(config, tmp_path):
    answers = iter([False, True])
    told = list(train(config, stopping=lambda: next(answers)))
    assert [at.step for at in told] == [2]
    assert state_of(config.out)["step"] == 2
    assert Path(config.out, "samples.png").exists()
    list(train(config))
    whole = replace(config, out=str(tmp_path / "whole"))
    list(train(whole))
    assert_same_weights(config.out, whole.out)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_until_it_is_done_ends_with_the_same_weights(config, tmp_path):
    config = replace(config, num_steps=8, save_every=1, sample_every=3)
    list(train(config))
    killed = replace(config, out=str(tmp_path / "killed"))
    moments, kills, reached = random.Random(0), 0, 0
    while True:
        process = start(killed, tmp_path / "said")
        process.join(0.2 + moments.uniform(0, 0.3 * 1.5**kills))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
        if Path(killed.out, STATE).exists():  # at every moment a whole state, and a whole model no older
            assert state_of(killed.out)["step"] >= reached
            reached = state_of(killed.out)["step"]
            assert load_model("killed", "cpu", checkpoints=tmp_path).image_shape == (3, 8, 8)
    assert process.exitcode == 0, (tmp_path / "said").read_text()
    assert kills > 1
    assert_same_weights(config.out, killed.out)
    assert not Path(killed.out, PARTIAL).exists()
    wanted, given = (
        Path(each.out, "unet", "diffusion_pytorch_model.safetensors") for each in (config, killed)
    )
    assert wanted.read_bytes() == given.read_bytes()
