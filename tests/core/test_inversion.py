from itertools import pairwise

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.inversion import encode, reconstruction_error, unclipped
from ddpm_app.core.oracle import image_set_denoiser, normal_denoiser
from ddpm_app.core.samplers import ddim, reverse
from ddpm_app.core.schedules import cosine_betas, linear_betas

SHAPE = (1, 4, 4)
MEAN, STD = 0.2, 0.4
X_0 = MEAN + STD * torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


T = 400


def linear(length):
    return linear_betas(length, 0.1 / length, 20 / length)


def diffusion(prediction_type="epsilon", betas=linear):
    return GaussianDiffusion(betas(T), prediction_type)


def encoded(chain, denoiser, x_0=X_0):
    return list(encode(chain, denoiser, x_0))


def round_trip(chain, denoiser, x_0=X_0):
    up = encoded(chain, denoiser, x_0)[-1].x_t
    *_, down = reverse(unclipped(chain), denoiser, ddim, range(len(x_0)), x_0.shape[1:], x_t=up)
    return down.x_t


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "posterior_mean"])
def test_for_normal_data_it_follows_the_closed_form_of_the_probability_flow(prediction_type):
    whole = diffusion(prediction_type)
    steps = encoded(whole, normal_denoiser(whole, MEAN, STD))
    assert [step.t for step in steps] == list(range(T))
    assert [step.remaining for step in steps[-2:]] == [1, 0]
    for t in (39, 199, 399):
        alpha_bar = whole.alphas_cumprod[t]
        deviation = (alpha_bar * STD**2 + 1 - alpha_bar).sqrt()
        expected = alpha_bar.sqrt() * MEAN + deviation * (X_0 - MEAN) / STD
        torch.testing.assert_close(steps[t].x_t, expected, atol=0.02, rtol=0)


def test_a_single_step_is_the_euler_step_from_alpha_bar_one():
    chain = diffusion().respaced([160])
    (step,) = encoded(chain, lambda x_t, t: torch.where(t.view(-1, 1, 1, 1) == 0, 0.3, torch.nan) * x_t)
    alpha_bar = chain.alphas_cumprod[0]
    torch.testing.assert_close(step.x_t, (alpha_bar.sqrt() + 0.3 * (1 - alpha_bar).sqrt()) * X_0)


@pytest.mark.parametrize("betas", [linear, cosine_betas])
def test_the_error_of_a_round_trip_falls_with_the_steps(betas):
    whole = diffusion(betas=betas)
    denoiser = normal_denoiser(whole, MEAN, STD)
    x_0 = X_0.clamp(-1, 1)
    errors = [
        reconstruction_error(x_0, round_trip(whole.respaced(steps, "leading"), denoiser, x_0)).mean().item()
        for steps in (10, 50, 400)
    ]
    assert all(later < earlier / 2 for earlier, later in pairwise(errors))
    assert errors[-1] < 2e-5


def test_a_picture_of_the_set_comes_back():
    pictures = torch.rand((4, *SHAPE), generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole = diffusion()
    again = round_trip(whole.respaced(100, "leading"), image_set_denoiser(whole, pictures), pictures)
    assert reconstruction_error(pictures, again).max() < 1e-4


def test_clipping_is_off_both_ways():
    whole = diffusion()
    outside = torch.full((1, *SHAPE), 1.8)
    again = round_trip(whole.respaced(200, "leading"), normal_denoiser(whole, MEAN, STD), outside)
    assert again.min() > 1.7
    assert whole.clip_denoised
    assert not unclipped(whole).clip_denoised


def test_the_error_is_on_pixels_between_0_and_1():
    x_0 = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)
    images = torch.tensor([0.0, 3.0]).view(2, 1, 1, 1)  # half a pixel's range away; beyond white, so cut off
    assert reconstruction_error(x_0, images).tolist() == [0.25, 0.0]
