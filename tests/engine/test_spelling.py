"""What a request is called on the command line and in Python, and that both draw the same pictures."""

import shlex
from argparse import ArgumentParser
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_app.commands import main, sample
from ddpm_app.engine import (
    BranchRequest,
    Engine,
    Fork,
    InterpolateRequest,
    SampleRequest,
    SlerpRequest,
    StochasticRequest,
    command_line,
    flag,
    snippet,
)
from ddpm_app.pictures import as_source, save_png, to_picture

PLAIN = SampleRequest(model="exact-shapes", num_inference_steps=3, num_images=2, seed=5)
OTHER = {
    "model": "owner/a model",
    "sampler": "ddpm",
    "num_inference_steps": 3,
    "eta": 0.3,
    "variance_type": "fixed_small",
    "timestep_spacing": "trailing",
    "num_images": 5,
    "seed": 2**63 - 1,
    "precision": "fast",
    "rederive_eps": False,
    "langevin_steps": 2,
    "langevin_snr": 0.07,
}


def size(file: Path) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size


def as_the_command_reads_it(line: str) -> SampleRequest:
    parser = ArgumentParser()
    sample.add_arguments(parser)
    program, words = shlex.split(line)[:4], shlex.split(line)[4:]
    assert program == ["python", "-m", "ddpm_app", "sample"]
    said = vars(parser.parse_args(words))
    return SampleRequest(**{each.name: said[flag(each.name)] for each in fields(SampleRequest)})


def test_the_examples_differ_from_every_default():
    assert set(OTHER) == {each.name for each in fields(SampleRequest)}
    assert not any(OTHER[each.name] == each.default for each in fields(SampleRequest))


@pytest.mark.parametrize("name", OTHER)
def test_the_command_line_says_every_field_of_a_request(name: str):
    request = replace(SampleRequest(), **{name: OTHER[name]})
    assert as_the_command_reads_it(command_line(request)) == request


def test_the_command_line_says_them_together():
    request = SampleRequest(**OTHER)
    assert as_the_command_reads_it(command_line(request)) == request


def test_the_command_line_draws_the_same_pixels(tmp_path: Path):
    *_, frame = Engine("cpu").run(PLAIN)
    assert main(shlex.split(command_line(PLAIN, str(tmp_path)))[3:]) == 0
    drawn = np.load(tmp_path / "samples.npz")["arr_0"]
    assert np.array_equal(drawn, frame.images.permute(0, 2, 3, 1).numpy())


def test_another_folder_of_models_is_said(tiny_pipeline: Path, tmp_path: Path):
    request = replace(PLAIN, model=tiny_pipeline.name)
    assert main(shlex.split(command_line(request, str(tmp_path), tiny_pipeline.parent))[3:]) == 0
    assert size(tmp_path / "00001.png") == (8, 8)


PICTURE = torch.arange(3 * 32 * 32, dtype=torch.uint8).reshape(3, 32, 32)
ENDS = {"picture_a": PICTURE, "picture_b": 255 - PICTURE}
SETTINGS = {"model": "exact-shapes", "num_inference_steps": 3, "num_images": 2, "seed": 5}
RUNS = {
    "sample": [PLAIN],
    "rows": [replace(PLAIN, num_inference_steps=count, sampler="ddpm") for count in (2, 3)],
    "stochastic": [StochasticRequest(**SETTINGS, diffusion_steps=400)],
    "from a picture": [StochasticRequest(**SETTINGS, diffusion_steps=400, picture=PICTURE)],
    "between": [InterpolateRequest(**SETTINGS, **ENDS, diffusion_steps=t) for t in (200, 0)],
    "sphere": [SlerpRequest(**SETTINGS, other_seed=9)],
}


@pytest.mark.parametrize("name", RUNS)
def test_the_snippet_draws_the_same_pixels(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    requests = RUNS[name]
    begun = {"picture": PICTURE, **ENDS}
    run = {"run": {name: as_source(picture) for name, picture in begun.items()}}
    save_png(to_picture(PICTURE), tmp_path / "sheet.png", requests[0].recipe() | run)
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    exec(snippet(requests, columns=2), space)
    again = torch.cat(space["rows"])
    engine = Engine("cpu")
    expected = torch.cat([list(engine.run(each))[-1].images for each in requests])
    assert torch.equal(again, expected)
    assert size(tmp_path / "again.png") == (65, 33 * len(requests) - 1)


def test_the_snippet_finds_models_in_another_folder(
    tiny_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    exec(snippet([replace(PLAIN, model=tiny_pipeline.name)], 2, tiny_pipeline.parent), {})
    assert size(tmp_path / "again.png") == (17, 8)


def test_the_snippet_of_a_fork_on_a_fork_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    chain = {"model": "exact-shapes", "num_inference_steps": 5}
    request = BranchRequest(**chain, diffusion_steps=400, branch_seed=12, forks=(Fork(800, 8),))
    exec(snippet([request], columns=1), space := {})
    assert torch.equal(space["rows"][0], list(Engine("cpu").run(request))[-1].images)
