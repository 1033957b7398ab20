import math

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.langevin import score
from ddpm_app.core.oracle import image_set_denoiser
from ddpm_app.core.schedules import cosine_betas
from ddpm_app.core.toys import TOYS, log_density

DIFFUSION = GaussianDiffusion(cosine_betas(1000), clip_denoised=False)


@pytest.mark.parametrize("toy", TOYS)
def test_a_toy_set_is_centred_with_a_mean_variance_of_1_and_fits_the_plane(toy):
    points = TOYS[toy]()
    assert points.shape == (len(points), 2)
    torch.testing.assert_close(points.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-9)
    assert points.square().mean().item() == pytest.approx(1)
    assert points.abs().max() < 2.8
    assert len(points.unique(dim=0)) == len(points)


@pytest.mark.parametrize("t", [30, 400, 998])
def test_the_score_is_the_gradient_of_the_log_density(t):
    points = TOYS["spiral"]()
    x_t = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_t.requires_grad_()
    density = log_density(points, DIFFUSION.alphas_cumprod[t].item(), x_t)
    (uphill,) = torch.autograd.grad(density.sum(), x_t)
    denoiser = image_set_denoiser(DIFFUSION, points.view(-1, 2, 1, 1))
    eps = denoiser(x_t.detach().view(-1, 2, 1, 1), torch.full((50,), t))
    # float64, of which cdist and the softmax keep some ten digits
    torch.testing.assert_close(score(DIFFUSION, eps, t).flatten(1), uphill, rtol=1e-6, atol=1e-6)


def test_the_density_integrates_to_one():
    axis = torch.linspace(-6, 6, 400, dtype=torch.float64)
    plane = torch.cartesian_prod(axis, axis)
    mass = log_density(TOYS["two moons"](), 0.5, plane).exp().sum() * (12 / 399) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-6)


def test_a_picture_of_the_density_has_no_peak_narrower_than_asked():
    points = torch.zeros(1, 2, dtype=torch.float64)
    peak = log_density(points, 1.0, points, least_variance=0.01).item()
    assert peak == pytest.approx(-math.log(2 * math.pi * 0.01))
