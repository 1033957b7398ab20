import math
from typing import get_args

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion, PredictionType
from ddpm_app.core.losses import loss_simple, training_target
from ddpm_app.core.oracle import image_set_denoiser
from ddpm_app.core.schedules import linear_betas

BETAS = linear_betas(1000)
T_OF_EACH = torch.tensor([0, 1, 499, 999])


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X_0, NOISE = randn(4, 3, 8, 8, seed=0) / 3, randn(4, 3, 8, 8, seed=1)


def target_of(prediction_type):
    diffusion = GaussianDiffusion(BETAS, prediction_type)
    x_t = diffusion.q_sample(X_0, T_OF_EACH, NOISE)
    return x_t, training_target(diffusion, X_0, x_t, T_OF_EACH, NOISE)


def test_the_epsilon_target_is_the_noise_and_the_sample_target_is_the_image():
    assert torch.equal(target_of("epsilon")[1], NOISE)
    assert torch.equal(target_of("sample")[1], X_0)


def test_the_velocity_is_the_derivative_of_x_t_along_the_circle():
    # with sqrt(alpha-bar) = cos(phi), x_t = cos(phi) x_0 + sin(phi) noise and v = dx_t / dphi
    phi = torch.acos(torch.cumprod(1 - BETAS, 0)[T_OF_EACH].sqrt()).view(-1, 1, 1, 1)
    x_t, v = target_of("v_prediction")
    step = 1e-6
    ahead, behind = (torch.cos(phi + h) * X_0 + torch.sin(phi + h) * NOISE for h in (step, -step))
    # central difference: step^2 of truncation and 1e-16 / step of rounding; acos near 1 adds as much
    torch.testing.assert_close(v, (ahead - behind) / (2 * step), rtol=0, atol=1e-8)
    torch.testing.assert_close(v.square() + x_t.square(), X_0.square() + NOISE.square(), rtol=1e-9, atol=1e-9)


def test_the_posterior_mean_target_is_the_papers_mean_in_terms_of_the_noise():
    # eq. 10: (x_t - beta / sqrt(1 - alpha-bar) noise) / sqrt(alpha), a form the code does not use
    alpha_bar = torch.cumprod(1 - BETAS, 0)[T_OF_EACH].view(-1, 1, 1, 1)
    beta = BETAS[T_OF_EACH].view(-1, 1, 1, 1)
    x_t, target = target_of("posterior_mean")
    torch.testing.assert_close(target, (x_t - beta / (1 - alpha_bar).sqrt() * NOISE) / (1 - beta).sqrt())


@pytest.mark.parametrize("prediction_type", get_args(PredictionType))
def test_the_loss_is_the_squared_distance_from_the_target_image_by_image(prediction_type):
    diffusion = GaussianDiffusion(BETAS, prediction_type)
    x_t, target = target_of(prediction_type)
    error = torch.tensor([0.0, 1.0, -2.0, 3.0]).view(-1, 1, 1, 1)
    seen = []

    def off_by_error(noisy, t):
        seen.append((noisy, t))
        return (target + error).float()

    loss = loss_simple(diffusion, off_by_error, X_0.float(), T_OF_EACH, NOISE.float())
    assert loss.shape == (4,)
    torch.testing.assert_close(loss, torch.tensor([0.0, 1.0, 4.0, 9.0]), rtol=1e-5, atol=1e-10)
    torch.testing.assert_close(seen[0][0], x_t.float(), rtol=0, atol=1e-6)
    assert torch.equal(seen[0][1], T_OF_EACH)


def test_the_exact_denoiser_of_a_single_image_has_no_loss():
    diffusion = GaussianDiffusion(BETAS)
    x_0 = X_0[:1].expand(4, -1, -1, -1).float()
    loss = loss_simple(diffusion, image_set_denoiser(diffusion, X_0[:1]), x_0, T_OF_EACH, NOISE.float())
    # eps = (x_t - signal x_0) / 0.01 at t = 0 magnifies float32 rounding to 1e-5
    assert loss.max() < 1e-9


def test_predicting_no_noise_costs_1_on_average():
    num_images, num_pixels = 16, 3 * 16 * 16
    diffusion = GaussianDiffusion(BETAS)
    noise = randn(num_images, 3, 16, 16, seed=2).float()
    t = torch.arange(0, 1000, 63)
    loss = loss_simple(diffusion, lambda x_t, t: torch.zeros_like(x_t), torch.zeros_like(noise), t, noise)
    # a mean of n squared normals has standard deviation sqrt(2 / n), of which five are allowed
    torch.testing.assert_close(loss, torch.ones(16), rtol=0, atol=5 * math.sqrt(2 / num_pixels))
    assert loss.mean().item() == pytest.approx(1, abs=5 * math.sqrt(2 / num_pixels / num_images))
