"""`evaluate --metric fid`, alone and in two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from ddpm_app.evaluation.classifier import save_classifier, trained_on
from ddpm_app.pictures import read_recipe
from ddpm_app.training.labels import Labelled
from tests.commands.running import answer, complaint
from tests.training.runs import PROCESSES, picture, save_pictures
from tests.training.runs import run as run_command
from tests.training.test_processes import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def wanted(tiny_pipeline, tmp_path):
    """The command's words for twelve samples of a tiny model, with features learned in a moment."""
    save_pictures(tmp_path / "data", range(10))
    pixels = torch.stack([picture(k) for k in range(40)])
    features = trained_on(Labelled(pixels, torch.arange(40) % 2, 2, "noise"), steps=1)
    save_classifier(features, tmp_path / "features.safetensors")
    return [
        *("evaluate", "--metric", "fid", "--model", "tiny-8", "--checkpoints", str(tiny_pipeline.parent)),
        *("--device", "cpu", "--data", str(tmp_path / "data"), "--sampler", "ddim", "--steps", "4"),
        *("--num-images", "12", "--features", str(tmp_path / "features.safetensors"), "--seed", "3"),
    ]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DDPM_APP_CACHE", str(tmp_path / "cache"))


def samples(out):
    return {file.name: np.load(file) for file in sorted((out / "samples").glob("*.npy"))}


def test_it_writes_samples_a_report_and_a_scorecard_that_agree(capsys, tmp_path, wanted):
    out = tmp_path / "out"
    values = answer(capsys, *wanted, "--out", out, "--nll-images", 2, "--num-terms", 3)
    assert json.loads((out / "report.json").read_text()) == values
    text = (out / "scorecard.md").read_text()
    assert f"{values['samples']['fid']:.4g}" in text
    assert "not comparable with any published FID" in text
    assert f"≤ {values['nll']['bits_per_dim']:.3f}" in text
    assert values["samples"]["num_images"] == 12
    assert values["samples"]["num_reference"] == 10
    assert values["own"] is None
    assert values["request"]["seed"] == 3
    assert values["averaging"] == "not told by the checkpoint"
    assert read_recipe(out / "grid.png")["sampler"] == "ddim"
    assert read_recipe(out / "grid.png")["num_images"] == 12
    assert "num_images" not in values["request"]
    assert [len(array) for array in samples(out).values()] == [12]


def test_without_json_the_scorecard_is_printed(capsys, tmp_path, wanted):
    from ddpm_app.commands import main

    assert main([*wanted, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith((tmp_path / "out" / "scorecard.md").read_text())
    assert str(tmp_path / "out") in printed


def test_what_is_wrong_is_said_in_one_line(capsys, tmp_path, wanted):
    out = ["--out", tmp_path / "out"]
    assert "num_images" in complaint(capsys, *wanted, *out, "--num-images", 7)
    assert "1..1000" in complaint(capsys, *wanted, *out, "--steps", 1001)
    answer(capsys, *wanted, *out)
    assert "another seed" in complaint(capsys, *wanted, *out, "--seed", 4)


@pytest.mark.parametrize("taken", ["grid.png", "report.json", "scorecard.md", "features.safetensors"])
def test_what_cannot_be_written_is_told_in_one_line(capsys, tmp_path, wanted, taken):
    (tmp_path / "out" / taken).mkdir(parents=True)
    said = complaint(capsys, *wanted, "--out", tmp_path / "out")
    assert "could not be written" in said
    assert "give the same command again" in said


@pytest.mark.slow
def test_two_processes_draw_the_samples_of_one_and_the_first_speaks(capsys, tmp_path, wanted):
    many = [*wanted, "--num-images", "130"]  # three chunks
    alone = answer(capsys, *many, "--out", tmp_path / "alone")
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    said, together = tmp_path / "said", tmp_path / "together"
    ranks = [
        PROCESSES.Process(
            target=run_command,
            args=([*many, "--out", str(together), "--json"], said, None, shared | rank_of(rank)),
        )
        for rank in range(2)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0], said.read_text()
    (line,) = (line for line in said.read_text().splitlines() if line.startswith("{"))
    assert json.loads(line) | {"out": ""} == alone | {"out": ""}
    ours, theirs = samples(tmp_path / "alone"), samples(together)
    assert len(ours) == 3
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def rank_of(rank):
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_a_killed_evaluation_that_accelerate_launched_goes_on_and_ends_the_same(capsys, tmp_path, wanted):
    many = [*wanted, "--num-images", "384", "--steps", "20"]
    out = tmp_path / "out"
    launch = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
        *("--mixed_precision", "no", "--main_process_port", free_port(), "-m", "ddpm_app"),
        *(*many, "--out", str(out)),
    ]
    launcher = subprocess.Popen(launch, cwd=ROOT, env=os.environ | {"ACCELERATE_USE_CPU": "true"})
    with launcher:
        wait_until(lambda: len(samples_there(out)) >= 1 or launcher.poll() is not None, 120)
        for process in [*psutil.Process(launcher.pid).children(recursive=True), launcher]:
            process.kill()
    kept = samples_there(out)
    assert 1 <= len(kept) < 6
    written = {file: file.stat().st_mtime_ns for file in kept}
    again = answer(capsys, *many, "--out", out)
    assert {file: file.stat().st_mtime_ns for file in kept} == written
    assert again["samples"] == answer(capsys, *many, "--out", tmp_path / "whole")["samples"]
    ours, theirs = samples(out), samples(tmp_path / "whole")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def samples_there(out):
    return sorted((out / "samples").glob("*.npy"))
