"""The numbers at a chosen t."""

import pytest

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.schedules import linear_betas
from ddpm_app.ui.levels import noise_level


def test_the_numbers_at_t_are_those_of_the_paper_s_schedule():
    told = noise_level(GaussianDiffusion(linear_betas(1000)), 1000)
    assert "SNR 4.04e-05" in told
    assert "ᾱ 4.04e-05 · β 0.02" in told
    assert "1.000 ε" in told


@pytest.mark.parametrize("diffusion_steps", [0, 11])
def test_outside_the_chain_nothing_is_told(diffusion_steps: int):
    assert noise_level(GaussianDiffusion(linear_betas(10)), diffusion_steps) == ""
