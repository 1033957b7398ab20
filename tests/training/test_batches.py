from dataclasses import fields, replace

import pytest
import torch

from ddpm_app.core.images import from_uint8
from ddpm_app.core.losses import HISTORY, TimestepSampler
from ddpm_app.training.batches import Batch, epoch_order, training_batch
from tests.training.runs import picture

UNIFORM = TimestepSampler(1000)
PIXELS = torch.stack([picture(seed) for seed in range(6)])


def values(batch):
    return [getattr(batch, field.name) for field in fields(batch)]


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own():
    orders = [epoch_order(20, seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order.tolist()) == list(range(20)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 6


def test_batches_go_through_the_epochs_without_loss_or_repetition(config):
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(-1, 3, 8, 8)
    batches = [
        training_batch(config, pixels, UNIFORM, step).x_0 for step in range(5)
    ]  # 20 images: two epochs
    seen = ((torch.cat(batches)[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def test_a_batch_larger_than_the_data_set_is_filled_from_the_next_epochs(config):
    batch = training_batch(replace(config, batch_size=9), PIXELS[:2], UNIFORM, 3)
    assert batch.x_0.shape == batch.noise.shape == (9, 3, 8, 8)
    assert batch.t.shape == batch.weight.shape == (9,)
    assert len(batch) == 9


def test_the_batch_of_a_step_follows_from_seed_and_step_alone(config):
    config = replace(config, flip=True)
    first = training_batch(config, PIXELS, UNIFORM, 7)
    torch.randn(3)  # the global generator has no part in it
    later = training_batch(replace(config, num_steps=999, learning_rate=1e-5), PIXELS, UNIFORM, 7)
    assert all(torch.equal(a, b) for a, b in zip(values(first), values(later), strict=True))
    for other in (
        training_batch(config, PIXELS, UNIFORM, 8),
        training_batch(replace(config, seed=1), PIXELS, UNIFORM, 7),
    ):
        for name in ("x_0", "t", "noise"):
            assert not torch.equal(getattr(first, name), getattr(other, name))


def test_timesteps_cover_the_chain_and_the_noise_is_standard(config):
    batch = training_batch(replace(config, batch_size=4000), PIXELS[:1], UNIFORM, 0)
    assert batch.t.min() < 10
    assert batch.t.max() > 989
    assert batch.noise.mean().abs() < 0.01
    assert abs(batch.noise.std() - 1) < 0.01
    assert torch.equal(batch.weight, torch.ones(4000))


def test_timesteps_that_lose_more_come_more_often_and_weigh_less(config):
    timesteps = TimestepSampler(4, importance=True)
    loss = torch.tensor([1.0, 1.0, 1.0, 5.0])
    for _ in range(HISTORY):
        timesteps.record(torch.arange(4), loss)
    batch = training_batch(replace(config, batch_size=4000), PIXELS, timesteps, 0)
    share = (batch.t == 3).float().mean().item()
    assert share == pytest.approx(5 / 8, abs=0.03)
    assert batch.weight[batch.t == 3].unique().item() == pytest.approx(8 / 5 / 4, rel=0.01)
    # the weights keep the mean loss that of uniform timesteps, 2
    assert (loss[batch.t] * batch.weight).mean().item() == pytest.approx(2, rel=0.05)


def test_about_half_of_the_pictures_are_flipped_when_asked(config):
    x_0 = training_batch(replace(config, batch_size=400, flip=True), PIXELS[:1], UNIFORM, 0).x_0
    plain = from_uint8(PIXELS[0])
    flipped = sum(torch.equal(image, plain.flip(-1)) for image in x_0)
    assert flipped + sum(torch.equal(image, plain) for image in x_0) == 400
    assert 150 < flipped < 250


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_the_parts_of_a_batch_are_the_batch_in_order(config, count):
    whole = training_batch(replace(config, batch_size=7), PIXELS, UNIFORM, 0)
    parts = whole.parts(count)
    assert len(parts) == min(count, 7)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    joined = [torch.cat(each) for each in zip(*map(values, parts), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(values(whole), joined, strict=True))


def test_a_batch_moves_to_a_device_as_a_whole(config):
    moved = training_batch(config, PIXELS, UNIFORM, 0).to(torch.device("meta"))
    assert isinstance(moved, Batch)
    assert {each.device.type for each in values(moved)} == {"meta"}
