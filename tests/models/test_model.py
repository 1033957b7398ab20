import pytest
import torch

from ddpm_app.models.model import network_denoiser, resolve_device
from tests.doubles import noisy_batch, refusal, tiny_network

CPU = torch.device("cpu")


def test_a_network_that_was_training_denoises_without_dropout_and_gradients():
    denoiser, _ = network_denoiser(tiny_network(dropout=0.5).train(), CPU, "exact")
    first, second = denoiser(*noisy_batch()), denoiser(*noisy_batch())
    assert torch.equal(first, second)
    assert not first.requires_grad


def test_an_image_depends_on_its_own_noise_and_timestep_alone():
    denoiser, _ = network_denoiser(tiny_network(), CPU, "exact")
    x_t, t = noisy_batch()
    alone = torch.cat([denoiser(x_t[k : k + 1], t[k : k + 1]) for k in range(2)])
    torch.testing.assert_close(denoiser(x_t, t), alone, rtol=0, atol=1e-5)


def test_the_fast_network_gives_float32_close_to_the_exact_one():
    exact, exact_name = network_denoiser(tiny_network(), CPU, "exact")
    fast, _ = network_denoiser(tiny_network(), CPU, "fast")
    outputs = exact(*noisy_batch()), fast(*noisy_batch())
    assert outputs[1].dtype == torch.float32
    assert (outputs[0] - outputs[1]).abs().mean() < 0.02  # bfloat16 keeps 8 bits
    assert str(exact_name) == "torch float32 on cpu"


def test_a_precision_that_does_not_exist_is_told():
    assert "exact, fast" in refusal(lambda: network_denoiser(tiny_network(), CPU, "best"))


def test_auto_is_a_device_that_is_there():
    assert torch.zeros(1, device=resolve_device("auto")).sum() == 0


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cpu:x", ""])
def test_a_device_that_is_not_there_is_told(device):
    assert "device" in refusal(lambda: resolve_device(device))
