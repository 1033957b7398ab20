import pytest
import torch

from ddpm_app.core.analytic import gamma_of, knowing, with_analytic_variance, x0_variance
from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.oracle import normal_denoiser
from ddpm_app.core.schedules import linear_betas
from ddpm_app.core.step_schedule import survey
from tests.doubles import refusal

DIFFUSION = GaussianDiffusion(linear_betas(1000), clip_denoised=False)
MEAN, STD = 0.1, 0.25
ALPHA_BAR = DIFFUSION.alphas_cumprod
NOISY_VARIANCE = ALPHA_BAR * STD**2 + 1 - ALPHA_BAR  # of x_t
GAMMA = (1 - ALPHA_BAR) / NOISY_VARIANCE  # eps = sqrt(1 - alpha-bar) (x_t - its mean) / its variance


def test_gamma_of_normal_data_is_its_closed_form():
    chain = DIFFUSION.respaced([0, 200, 999])
    x_0 = MEAN + STD * torch.randn(8, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    *_, found = survey(chain, normal_denoiser(DIFFUSION, MEAN, STD), x_0, source)
    # four standard errors of a mean of 32,768 squares
    torch.testing.assert_close(found.gamma, GAMMA[chain.timesteps], rtol=4 * (2 / x_0.numel()) ** 0.5, atol=0)


def test_the_known_length_of_the_noise_steadies_gamma_where_little_signal_is_left():
    x_0 = MEAN + STD * torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
    for t in (500, 700, 900):
        place = torch.full((8,), t)
        x_t = DIFFUSION.q_sample(x_0, place, noise)
        eps = normal_denoiser(DIFFUSION, MEAN, STD)(x_t, place)
        plain, steadied = eps.double().square().mean(), gamma_of(eps, noise)
        assert (steadied - GAMMA[t]).abs() < 0.2 * (plain - GAMMA[t]).abs()
        assert steadied.item() == pytest.approx(GAMMA[t].item(), abs=0.003)


def test_gamma_of_an_eps_that_is_a_share_of_the_noise_is_its_square_whatever_was_drawn():
    noise = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert noise.square().mean().item() != pytest.approx(1, abs=0.01)
    assert gamma_of(0.6 * noise, noise).item() == pytest.approx(0.36, rel=1e-6)  # float32


def test_gamma_is_of_the_eps_that_the_network_answered_though_its_x0_hat_is_clipped():
    chain = GaussianDiffusion(linear_betas(1000)).respaced([999])
    x_0 = torch.zeros(2, 1, 8, 8)
    *_, found = survey(chain, lambda x_t, t: 0.5 * x_t, x_0, torch.Generator().manual_seed(1))
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
    x_t = chain.q_sample(x_0, torch.tensor([0, 0]), noise)
    assert found.gamma.item() == pytest.approx(gamma_of(0.5 * x_t, noise).item(), rel=1e-5)  # float32


def test_what_is_uncertain_about_normal_x_0_follows_from_gamma():
    truth = STD**2 * (1 - ALPHA_BAR) / NOISY_VARIANCE
    torch.testing.assert_close(x0_variance(DIFFUSION, GAMMA), truth, rtol=1e-9, atol=0)


def test_no_estimate_leaves_the_bounds_of_pixels():
    for gamma in (0.0, 1.0, 1.5):
        uncertain = x0_variance(DIFFUSION, torch.full((1000,), gamma))
        assert 0 < uncertain.min() <= uncertain.max() <= 1


@pytest.mark.parametrize("timesteps", [1000, 20, [3, 500, 998]], ids=str)
def test_the_analytic_variance_is_that_of_the_true_reverse_step(timesteps):
    chain = with_analytic_variance(DIFFUSION, GAMMA).respaced(timesteps)
    # x_{t-1} and x_t of normal data are jointly normal
    before = chain.alphas_cumprod_prev * STD**2 + 1 - chain.alphas_cumprod_prev
    after = chain.alphas_cumprod * STD**2 + 1 - chain.alphas_cumprod
    truth = before - chain.alphas * before**2 / after
    torch.testing.assert_close(chain.analytic_variance, truth, rtol=1e-7, atol=0)
    x_t, place = torch.zeros(1, 1, 2, 2, dtype=torch.float64), torch.tensor([len(chain) - 1])
    p = chain.p_mean_variance(x_t, x_t, place)
    assert p.variance.item() == pytest.approx(truth[-1].item(), rel=1e-7)


def test_a_diffusion_that_knows_some_timesteps_takes_the_variance_in_chains_of_these():
    knows = knowing(DIFFUSION, {t: GAMMA[t].item() for t in (3, 500, 998)})
    assert knows.variance_type == DIFFUSION.variance_type
    chain = knows.with_variance("analytic").respaced([3, 500, 998])
    whole = with_analytic_variance(DIFFUSION, GAMMA).respaced([3, 500, 998])
    torch.testing.assert_close(chain.analytic_variance, whole.analytic_variance, rtol=1e-9, atol=0)
    part = knows.with_variance("analytic").respaced([3, 4])
    assert part.analytic_variance.isnan().tolist() == [False, True]


def test_analytic_is_a_choice_where_gamma_is_known_alone():
    known = with_analytic_variance(DIFFUSION, GAMMA)
    assert (
        known.respaced(7).with_variance("fixed_small").with_variance("analytic").variance_type == "analytic"
    )
    assert "fixed_small" in refusal(lambda: DIFFUSION.with_variance("analytic"))
