"""The noised pictures that an engine answers with."""

import pytest
import torch

from ddpm_app.engine import ForwardRequest


@pytest.mark.parametrize("schedule", ["linear", "cosine", "quadratic", "sigmoid"])
def test_no_diffusion_steps_leave_the_picture_itself(engine, schedule):
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    noised = engine.forward(ForwardRequest(picture=levels, schedule=schedule, diffusion_steps=(0, 1, 1000)))
    assert noised.shape == (3, 1, 16, 16)
    assert torch.equal(noised[0], levels)
    assert 0 < (noised[1].int() - levels).abs().max() < 20


def test_forward_uses_one_noise_for_all_steps(engine):
    grey = torch.full((1, 16, 16), 128, dtype=torch.uint8)
    few, many = engine.forward(ForwardRequest(picture=grey, diffusion_steps=(20, 80), seed=3)).double() - 128
    assert torch.corrcoef(torch.stack([few.flatten(), many.flatten()]))[0, 1] > 0.99
    other = engine.forward(ForwardRequest(picture=grey, diffusion_steps=(20,), seed=4)).double()[0] - 128
    assert torch.corrcoef(torch.stack([few.flatten(), other.flatten()]))[0, 1].abs() < 0.3
