import math
from decimal import Decimal, localcontext

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler, rescale_zero_terminal_snr

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.schedules import (
    SCHEDULES,
    cosine_betas,
    linear_betas,
    quadratic_betas,
    sigmoid_alpha_bar_betas,
    sigmoid_betas,
    zero_terminal_snr,
)
from ddpm_app.errors import UserError, one_of

T = 1000


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("num_train_timesteps", [10, 1000, 4000])
def test_every_schedule_is_float64_and_rises_within_0_and_1(name, num_train_timesteps):
    betas = SCHEDULES[name](num_train_timesteps)
    assert betas.dtype == torch.float64
    assert betas.shape == (num_train_timesteps,)
    assert betas.min() > 0
    assert betas.max() < 1
    assert (betas.diff() > 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_minus_alpha_bar_is_accurate_at_every_t(name):
    # alpha-bar rounds at 1e-16, which 1 - alpha-bar = 4e-5 turns into 3e-12; float32 would be 1e-4 off
    betas = SCHEDULES[name](T)
    ours = 1 - GaussianDiffusion(betas).alphas_cumprod
    with localcontext() as context:
        context.prec = 40
        alpha_bar, exact = Decimal(1), []
        for beta in betas.tolist():
            alpha_bar *= 1 - Decimal(beta)
            exact.append(float(1 - alpha_bar))
    torch.testing.assert_close(ours, torch.tensor(exact, dtype=torch.float64), rtol=1e-11, atol=0)


@pytest.mark.parametrize(
    ("t", "alpha_bar"), [(249, 0.5240854), (499, 0.0785872), (749, 0.00335055), (999, 4.035830e-5)]
)
def test_linear_alpha_bar_has_the_published_values(t, alpha_bar):
    # as many digits as are published
    assert float(GaussianDiffusion(linear_betas(T)).alphas_cumprod[t]) == pytest.approx(alpha_bar, rel=1e-6)


def test_linear_schedule_has_its_published_sums_and_ends():
    diffusion = GaussianDiffusion(linear_betas(T))
    assert diffusion.betas[0].item() == pytest.approx(1e-4)
    assert diffusion.betas[-1].item() == pytest.approx(0.02)
    assert diffusion.betas.sum().item() == pytest.approx(10.05)
    assert diffusion.posterior_variance[1].item() == pytest.approx(5.453188e-5, rel=1e-7)
    assert diffusion.alphas_cumprod[999].sqrt().item() == pytest.approx(0.0063528, rel=1e-5)
    assert 1 - diffusion.alphas_cumprod[999].item() == pytest.approx(0.9999596, abs=5e-8)


@pytest.mark.parametrize(("power", "published"), [(0.25, 7.28e-6), (1.0, 2.91e-5)])
def test_x_T_keeps_the_published_bits_about_x_0(power, published):
    # KL(N(sqrt(a) x_0, 1 - a) || N(0, 1)) in bits, three digits published
    alpha_bar = GaussianDiffusion(linear_betas(T)).alphas_cumprod[-1].item()
    nats = 0.5 * (alpha_bar * power + (1 - alpha_bar) - 1 - math.log1p(-alpha_bar))
    assert nats / math.log(2) == pytest.approx(published, rel=2e-3)


def test_cosine_schedule_has_the_published_values_and_exactly_one_clipped_beta():
    betas = cosine_betas(T)
    alphas_cumprod = GaussianDiffusion(betas).alphas_cumprod
    assert betas[0].item() == pytest.approx(4.12842e-5, rel=1e-6)
    assert (betas == 0.999).nonzero().flatten().tolist() == [999]
    assert alphas_cumprod[499].item() == pytest.approx(0.4938436, abs=5e-8)
    assert alphas_cumprod[999].item() == pytest.approx(2.4288e-9, rel=1e-4)


def test_cosine_alpha_bar_is_the_squared_cosine_up_to_the_clipped_step():
    u = (torch.arange(T, dtype=torch.float64) + 1) / T
    squared = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    alphas_cumprod = GaussianDiffusion(cosine_betas(T)).alphas_cumprod
    torch.testing.assert_close(alphas_cumprod[:-1], squared[:-1], rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("betas", "theirs"),
    [
        (linear_betas, "linear"),
        (quadratic_betas, "scaled_linear"),
        (cosine_betas, "squaredcos_cap_v2"),
        (sigmoid_betas, "sigmoid"),
    ],
)
def test_a_schedule_agrees_with_the_one_diffusers_calls_otherwise(betas, theirs):
    # their betas are float32, good to 1.2e-7; theirs lose a few more bits in the square and the sigmoid
    scheduler = DDPMScheduler(beta_schedule=theirs)
    torch.testing.assert_close(betas(T), scheduler.betas.double(), rtol=5e-7, atol=0)


def test_quadratic_keeps_the_ends_it_is_given():
    betas = quadratic_betas(T, 0.00085, 0.012)
    theirs = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).betas
    assert betas[[0, -1]].tolist() == pytest.approx([0.00085, 0.012])
    torch.testing.assert_close(betas, theirs.double(), rtol=5e-7, atol=0)


def test_alpha_bar_falls_along_a_sigmoid_from_1_to_0():
    betas = sigmoid_alpha_bar_betas(T)
    alpha_bar = torch.cumprod(1 - betas, 0)
    # Jabri et al., appendix B, at a quarter, a half and three quarters of [-3, 3]
    low, high = (1 / (1 + math.exp(-x)) for x in (-3, 3))
    for t, x in ((249, 1.5), (499, 0.0), (749, -1.5)):
        expected = (1 / (1 + math.exp(-x)) - low) / (high - low)
        assert alpha_bar[t].item() == pytest.approx(expected, rel=1e-9)
    assert (betas == 0.999).nonzero().flatten().tolist() == [999]


@pytest.mark.parametrize("name", SCHEDULES)
def test_zero_terminal_snr_ends_at_0_keeps_the_first_and_agrees_with_diffusers(name):
    betas = SCHEDULES[name](T)
    rescaled = zero_terminal_snr(betas)
    before, after = GaussianDiffusion(betas), GaussianDiffusion(rescaled, "v_prediction")
    assert after.alphas_cumprod[-1].item() == 0
    assert after.snr[-1].item() == 0
    assert after.alphas_cumprod[0].item() == pytest.approx(before.alphas_cumprod[0].item(), rel=1e-14)
    # the same arithmetic in float64, up to the order of its operations
    torch.testing.assert_close(rescaled, rescale_zero_terminal_snr(betas.clone()), rtol=0, atol=1e-14)


def test_zero_terminal_snr_leaves_the_betas_given_as_they_were():
    betas = linear_betas(T)
    zero_terminal_snr(betas)
    assert torch.equal(betas, linear_betas(T))


def test_an_unknown_schedule_raises_and_names_the_choices():
    with pytest.raises(UserError, match=r"linear, cosine, quadratic, sigmoid.*'linaer'"):
        one_of("schedule", "linaer", SCHEDULES)


@pytest.mark.parametrize("betas", [[], [0.0, 0.1], [0.1, 1.1], [-0.1], [[0.1]], [float("nan")]])
def test_betas_outside_their_range_raise(betas):
    with pytest.raises(UserError, match="betas"):
        GaussianDiffusion(torch.tensor(betas))
