import pytest
import torch

from ddpm_app.evaluation.peak import flops_per_image, peak_flops
from tests.doubles import tiny_network


def test_a_network_s_operations_are_those_of_its_convolutions_and_products():
    network, size = tiny_network(), 8
    counted = 0

    def count(module, inputs, output):
        nonlocal counted
        weights = module.weight.numel()
        places = output.shape[2:].numel() if isinstance(module, torch.nn.Conv2d) else 1
        tokens = inputs[0].shape[1] if inputs[0].ndim == 3 else 1
        counted += 2 * weights * places * tokens

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    channels = network.config["in_channels"]
    with torch.inference_mode():
        network(torch.zeros(1, channels, size, size), torch.zeros(1))
    once = counted
    flops = flops_per_image(network, (channels, size, size))
    assert once <= flops <= 1.1 * once  # attention's own products come on top


def test_the_peak_is_that_of_some_machine():
    assert 1e8 < peak_flops(torch.device("cpu"), rounds=3) < 1e14


@pytest.mark.gpu
def test_the_peak_of_a_gpu_is_above_that_of_the_processor():
    assert peak_flops(torch.device("cuda")) > peak_flops(torch.device("cpu"))
