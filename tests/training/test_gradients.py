from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from ddpm_app.core.losses import TimestepSampler
from ddpm_app.training.batches import Batch, training_batch
from ddpm_app.training.gradients import MIN_PART, Gradients
from ddpm_app.training.network import build_unet
from tests.training.runs import picture

NUM_IMAGES = 3 * MIN_PART + 1


@pytest.fixture
def cores():
    """cores(n) gives torch n threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def batch(config):
    pixels = torch.stack([picture(seed) for seed in range(6)])
    plain = training_batch(replace(config, batch_size=NUM_IMAGES), pixels, TimestepSampler(1000), 0)
    return replace(plain, weight=torch.linspace(0.2, 3, NUM_IMAGES))


@pytest.fixture
def network(config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_unet(config)


def gradients_of(network, parts):
    def losses_of(part: Batch):
        return (network(part.x_0, part.t).sample - part.noise).square().flatten(1).mean(1)

    return Gradients(Accelerator(mixed_precision="no"), network, losses_of, parts)


def taken(network, parts, batch):
    """The losses and every gradient, after one `add`."""
    network.zero_grad()
    losses = gradients_of(network, parts).add(batch)
    return losses, [parameter.grad.clone() for parameter in network.parameters()]


def whole(network, batch):
    """The same by autograd, all at once."""
    losses = (network(batch.x_0, batch.t).sample - batch.noise).square().flatten(1).mean(1)
    return losses.detach(), torch.autograd.grad((losses * batch.weight).mean(), tuple(network.parameters()))


def assert_close(given, wanted):
    torch.testing.assert_close(given[0], wanted[0], rtol=1e-5, atol=1e-6)
    scale = max(each.abs().max() for each in wanted[1])
    for one, other in zip(given[1], wanted[1], strict=True):
        # float32 has 6e-8; sums in another order over 13 images of 64 pixels lose a hundred times that
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * scale.item())


@pytest.mark.parametrize("parts", [1, 2, 5, NUM_IMAGES, 100])
def test_parts_one_after_the_other_give_the_gradient_and_losses_of_the_whole(network, batch, parts):
    assert gradients_of(network, parts).cores == 1
    assert_close(taken(network, parts, batch), whole(network, batch))


@pytest.mark.parametrize(("threads", "parts"), [(2, 1), (3, 1), (2, 2), (4, 1)])
def test_parts_side_by_side_give_the_gradient_and_losses_of_the_whole(cores, network, batch, threads, parts):
    wanted = whole(network, batch)
    cores(threads)
    assert gradients_of(network, parts).cores == threads
    assert_close(taken(network, parts, batch), wanted)
    assert torch.get_num_threads() == threads


def test_cores_are_shared_out_only_where_every_part_is_worth_one(cores, batch):
    cores(4)
    network, seen = nn.Linear(192, 1), []

    def losses_of(part):
        seen.append(len(part))
        return network(part.x_0.flatten(1)).square().mean(1)

    for parts, sizes in ((1, [4, 4, 5]), (2, [6, 7])):  # 7 images are too few for two cores
        Gradients(Accelerator(mixed_precision="no"), network, losses_of, parts).add(batch)
        assert sorted(seen) == sizes
        seen.clear()


def test_side_by_side_is_the_same_bits_every_time(cores, network, batch):
    cores(3)
    first, second = (taken(network, 1, batch) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


@pytest.mark.parametrize("threads", [1, 3])
def test_gradients_are_added_to_those_already_there(cores, network, batch, threads):
    cores(threads)
    _, once = taken(network, 1, batch)
    gradients_of(network, 1).add(batch)
    for parameter, gradient in zip(network.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=1e-5, atol=1e-9)


def test_with_dropout_no_threads_are_used(cores, config):
    cores(4)
    dropping = build_unet(replace(config, dropout=0.1))
    assert any(isinstance(module, nn.Dropout) and module.p for module in dropping.modules())
    assert gradients_of(dropping, 1).cores == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_an_image_without_weight_teaches_nothing_but_its_loss_is_told(cores, network, batch, threads):
    cores(threads)
    weight = torch.ones(NUM_IMAGES)
    weight[0] = 0
    changed = batch.x_0.clone()
    changed[0] = 1
    one = taken(network, 1, replace(batch, weight=weight))
    other = taken(network, 1, replace(batch, weight=weight, x_0=changed))
    assert one[0][0] != other[0][0]
    assert_close((one[0][1:], one[1]), (other[0][1:], other[1]))


def test_a_heavier_image_has_more_of_the_gradient(network, batch):
    light, heavy = (taken(network, 1, replace(batch, weight=batch.weight * by)) for by in (1, 3))
    assert torch.equal(light[0], heavy[0])  # losses are told unweighted
    assert_close((heavy[0], heavy[1]), (light[0], [3 * gradient for gradient in light[1]]))
