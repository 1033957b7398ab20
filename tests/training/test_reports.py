from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.losses import training_target
from ddpm_app.core.oracle import image_set_denoiser
from ddpm_app.core.schedules import linear_betas
from ddpm_app.pictures import read_recipe
from ddpm_app.training import Progress, train
from ddpm_app.training.data import load_images
from ddpm_app.training.network import build_unet
from ddpm_app.training.records import PROGRESS
from ddpm_app.training.reports import begin_log, held_out_loss, log, save_samples
from tests.doubles import refusal
from tests.training.runs import assert_same_weights, logged, picture, save_pictures, state_of

DIFFUSION = GaussianDiffusion(linear_betas(1000))
PIXELS = torch.stack([picture(seed) for seed in range(5)])


def at(step):
    return Progress(step, 9, 0.5, 1e-3, 10.0, 1.0)


def test_the_log_is_what_was_told(config, pictures):
    told = list(train(replace(config, held_out=str(pictures), sample_every=2), report_every=1))
    assert [each.step for each in told] == [1, 2, 3, 4]
    assert logged(config.out) == [asdict(each) for each in told]
    assert [each.held_out_loss is None for each in told] == [True, False, True, False]
    assert told[-1].seconds_left == 0
    assert all(each.images_per_second > 0 for each in told)


def test_a_loss_is_the_mean_since_the_last_report(config, tmp_path):
    every, second = (
        list(train(replace(config, out=str(tmp_path / str(gap))), report_every=gap)) for gap in (1, 2)
    )
    for k, each in enumerate(second):
        assert each.loss == pytest.approx((every[2 * k].loss + every[2 * k + 1].loss) / 2, rel=1e-12)
        assert each.learning_rate == every[2 * k + 1].learning_rate


def test_a_run_that_goes_on_cuts_what_lies_beyond_its_state(config):
    steps = train(replace(config, save_every=2), report_every=1)
    while next(steps).step < 3:  # one step beyond the last save
        pass
    steps.close()
    first = logged(config.out)
    with Path(config.out, PROGRESS).open("a") as file:
        file.write('{"step": 4, "lo')  # a line that the end of its process cut short
    list(train(replace(config, save_every=2), report_every=1))
    assert [line["step"] for line in logged(config.out)] == [1, 2, 3, 4]
    assert logged(config.out)[:2] == first[:2]
    assert logged(config.out)[2]["loss"] == first[2]["loss"]
    assert logged(config.out)[2] != first[2]  # it was taken again, in another time


def test_a_log_begins_in_a_folder_that_is_not_there_yet(tmp_path):
    begin_log(tmp_path / "a" / "b", 0)
    log(tmp_path / "a" / "b", at(1))
    assert logged(tmp_path / "a" / "b") == [asdict(at(1))]
    begin_log(tmp_path / "a" / "b", 0)
    assert logged(tmp_path / "a" / "b") == []


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "samples").write_text("a file")
    oracle = image_set_denoiser(DIFFUSION, torch.zeros(1, 3, 8, 8))
    assert "samples" in refusal(lambda: save_samples(tmp_path, DIFFUSION, oracle, (3, 8, 8), 1))
    for work in (lambda out: begin_log(out, 0), lambda out: log(out, at(1))):
        assert "could not be written" in refusal(lambda work=work: work(tmp_path / "samples"))


def test_sheets_of_samples_are_kept_for_each_step_with_a_readable_recipe(config):
    list(train(replace(config, sample_every=3)))
    sheets = sorted(Path(config.out, "samples").iterdir())
    assert [file.name for file in sheets] == ["step-0000003.png", "step-0000004.png"]
    assert Path(config.out, "samples.png").read_bytes() == sheets[-1].read_bytes()
    assert [read_recipe(file)["training_steps"] for file in sheets] == [3, 4]
    recipe = read_recipe(Path(config.out, "samples.png"))
    assert (recipe["sampler"], recipe["num_inference_steps"], recipe["seed"]) == ("ddim", 8, 0)
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (4 * 8 + 3, 4 * 8 + 3)


def test_a_sheet_shows_what_the_denoiser_has_learned(tmp_path):
    white = image_set_denoiser(DIFFUSION, torch.ones(1, 3, 8, 8))
    save_samples(tmp_path, DIFFUSION, white, (3, 8, 8), 7)
    with Image.open(tmp_path / "samples.png") as sheet:
        assert np.asarray(sheet)[:8, :8].min() >= 254


def test_how_many_are_taken_at_once_changes_neither_the_sheet_nor_the_held_out_loss(tmp_path):
    x_0 = PIXELS[:2].float() / 127.5 - 1
    oracle = image_set_denoiser(DIFFUSION, x_0)
    sheets, losses = [], []
    for at_once in (16, 3):
        save_samples(tmp_path, DIFFUSION, oracle, (3, 8, 8), 1, at_once)
        sheets.append((tmp_path / "samples.png").read_bytes())
        losses.append(held_out_loss(DIFFUSION, oracle, PIXELS, at_once))
    assert sheets[0] == sheets[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_held_out_loss_is_the_squared_error_over_evenly_spread_timesteps():
    pixels = torch.stack([picture(seed) for seed in range(70)])  # more than are taken at once
    total, generator = 0.0, torch.Generator().manual_seed(0)
    x_0 = pixels.float() / 127.5 - 1
    noise = torch.cat([torch.randn(len(part), 3, 8, 8, generator=generator) for part in x_0.split(64)])
    for k, t in enumerate(torch.linspace(0, 999, 70).long()):
        x_t = DIFFUSION.q_sample(x_0[k : k + 1], t[None], noise[k : k + 1])
        target = training_target(DIFFUSION, x_0[k : k + 1], x_t, t[None], noise[k : k + 1])
        total += (x_t / 2 - target).square().mean().item()
    given = held_out_loss(DIFFUSION, lambda x_t, t: x_t / 2, pixels)
    assert given == pytest.approx(total / 70, rel=1e-5)


def test_a_network_that_knows_the_picture_has_no_held_out_loss():
    x_0 = PIXELS[:1].float() / 127.5 - 1
    same = PIXELS[:1].expand(8, -1, -1, -1)
    # eps = (x_t - signal x_0) / 0.01 at t = 0 magnifies float32 rounding to 1e-5
    assert held_out_loss(DIFFUSION, image_set_denoiser(DIFFUSION, x_0), same) < 1e-9


@pytest.mark.parametrize("learning", [{}, {"variance_type": "learned_range", "objective": "hybrid"}])
def test_the_held_out_loss_told_is_that_of_the_averaged_weights(config, tmp_path, learning):
    held_out = save_pictures(tmp_path / "others", range(20, 25))
    config = replace(config, held_out=str(held_out), dropout=0.2, **learning)
    *_, last = train(config)
    unet = build_unet(config).eval()
    for parameter, average in zip(
        unet.parameters(), state_of(config.out)["ema"]["shadow_params"], strict=True
    ):
        parameter.data = average
    pixels = load_images(config.held_out, 8, 3).pixels
    given = held_out_loss(
        GaussianDiffusion(linear_betas(8), variance_type=config.variance_type),
        lambda x_t, t: unet(x_t, t).sample,
        pixels,
    )
    assert last.held_out_loss == pytest.approx(given, rel=1e-6)


def test_held_out_pictures_are_never_learned_from(config, tmp_path):
    held_out = save_pictures(tmp_path / "others", range(20, 25))
    looking = replace(config, out=str(tmp_path / "looking"), held_out=str(held_out), sample_every=2)
    list(train(config))
    told = list(train(looking))
    assert_same_weights(config.out, looking.out)
    assert told[0].held_out_loss != told[1].held_out_loss
