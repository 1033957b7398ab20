from dataclasses import replace

import pytest
import torch

from ddpm_app.core.images import from_uint8
from ddpm_app.evaluation.training_speed import _Pictures, _save_random_pictures, compare_training
from ddpm_app.training import TrainingConfig
from ddpm_app.training.data import load_images
from ddpm_app.training.network import build_unet

TINY = TrainingConfig(
    data="",
    out="",
    image_size=8,
    channels=1,
    block_out_channels=(32,),
    attention_resolutions=(),
    batch_size=3,
    flip=True,
)


@pytest.mark.slow
def test_both_sides_train_and_the_ratio_is_that_of_their_rates():
    before = torch.random.get_rng_state()
    report = compare_training(TINY, rounds=2, block=2)
    assert torch.equal(torch.random.get_rng_state(), before)  # the caller's own
    assert (report.batch_size, report.num_steps) == (3, 4)
    assert report.num_parameters == sum(each.numel() for each in build_unet(TINY).parameters())
    assert report.precision in ("no", "bf16", "fp16")
    assert report.images_per_second > 0
    assert report.diffusers_images_per_second > 0
    assert report.ratio == pytest.approx(report.images_per_second / report.diffusers_images_per_second)


@pytest.mark.parametrize("channels", [1, 3])
def test_both_sides_learn_from_the_same_pictures(tmp_path, channels):
    config = replace(TINY, data=str(tmp_path / "data"), channels=channels, flip=False)
    _save_random_pictures(tmp_path / "data", config)
    images = load_images(config.data, config.image_size, channels)
    theirs = torch.stack(list(_Pictures(config)))
    assert images.unreadable == ()
    torch.testing.assert_close(from_uint8(images.pixels), theirs)
    assert images.pixels.float().std() > 50
