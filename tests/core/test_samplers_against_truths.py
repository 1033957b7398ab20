"""Samplers on data whose denoiser is known in closed form: what a run must end at, told by formula."""

import math

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.oracle import image_set_denoiser, normal_denoiser
from ddpm_app.core.samplers import ddim, ddpm
from tests.core.rules import BETAS, SHAPE, TRAINED, every_rule, final, randn


@every_rule
def test_every_sampler_recovers_the_mean_and_deviation_of_normal_data(rule):
    mean, std, num_pixels = 0.2, 0.5, 2 * 64 * 64
    diffusion = GaussianDiffusion(BETAS, clip_denoised=False)
    pixels = final(diffusion, normal_denoiser(diffusion, mean, std), rule, [0, 1], (1, 64, 64))
    # four standard errors, and 1.5 % for a thousand steps in place of infinitely many
    assert pixels.mean().item() == pytest.approx(mean, abs=4 * std / math.sqrt(num_pixels))
    assert pixels.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * num_pixels) + 0.015)


@pytest.mark.parametrize("steps", [50, 1000])
def test_ddim_on_normal_data_is_the_straight_map_its_closed_form_says(steps):
    mean, std = 0.2, 0.5
    diffusion = GaussianDiffusion(BETAS, clip_denoised=False)
    chain = diffusion.respaced(steps)
    slope, offset = 1.0, 0.0  # x_t = slope x_T + offset
    for i in reversed(range(steps)):
        alpha_bar, before = chain.alphas_cumprod[i].item(), chain.alphas_cumprod_prev[i].item()
        gain = math.sqrt(alpha_bar) * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)  # of x0-hat in x_t
        rest = mean * (1 - gain * math.sqrt(alpha_bar))
        along = math.sqrt((1 - before) / (1 - alpha_bar))
        factor = math.sqrt(before) * gain + along * (1 - math.sqrt(alpha_bar) * gain)
        slope = factor * slope
        offset = factor * offset + (math.sqrt(before) - along * math.sqrt(alpha_bar)) * rest
    x_T = randn(1, 1, 8, 8)
    x_0 = final(chain, normal_denoiser(diffusion, mean, std), ddim, [0], (1, 8, 8), x_t=x_T)
    # a thousand float32 steps
    torch.testing.assert_close(x_0, slope * x_T + offset, rtol=0, atol=1e-4)
    # and the map of normal noise to normal data is x_0 = mean + std x_T, which few steps miss by more
    assert slope == pytest.approx(std, rel=0.1 if steps == 50 else 0.005)
    assert offset == pytest.approx(mean, rel=0.02)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_ddpm_in_few_steps_has_the_deviation_its_closed_form_says(variance_type):
    std, num_pixels = 0.5, 2 * 64 * 64
    diffusion = GaussianDiffusion(BETAS, variance_type=variance_type, clip_denoised=False)
    chain = diffusion.respaced(20)
    variance = 1.0
    for i in reversed(range(20)):
        alpha_bar, before = chain.alphas_cumprod[i].item(), chain.alphas_cumprod_prev[i].item()
        beta = 1 - alpha_bar / before
        small = beta * (1 - before) / (1 - alpha_bar)
        gain = math.sqrt(alpha_bar) * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        of_x_0 = math.sqrt(before) * beta / (1 - alpha_bar)
        of_x_t = math.sqrt(1 - beta) * (1 - before) / (1 - alpha_bar)
        factor = of_x_0 * gain + of_x_t
        sigma2 = 0 if i == 0 else {"fixed_small": small, "fixed_large": beta}[variance_type]
        variance = factor**2 * variance + sigma2
    pixels = final(chain, normal_denoiser(diffusion, 0.0, std), ddpm, [0, 1], (1, 64, 64))
    # four standard errors
    assert pixels.std().item() == pytest.approx(math.sqrt(variance), rel=4 / math.sqrt(2 * num_pixels))


@every_rule
def test_every_sample_of_a_set_of_images_ends_at_one_of_them(rule):
    images = randn(3, *SHAPE).tanh()
    chain = TRAINED.respaced(40)
    samples = final(chain, image_set_denoiser(TRAINED, images), rule, range(12))
    distances = (samples[:, None] - images).abs().amax((2, 3, 4))
    # at the last steps all weight is on one image, and float32 rounding is left
    assert distances.amin(1).max() < 1e-4
    assert set(distances.argmin(1).tolist()) == {0, 1, 2}
