import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import from_uint8, to_uint8
from ddpm_app.core.likelihood import (
    decoder_log_likelihood,
    normal_kl,
    prior_bpd,
    strata,
    stratified_sum,
    vb_bpd,
)
from ddpm_app.core.oracle import normal_denoiser
from ddpm_app.core.schedules import linear_betas

DIFFUSION = GaussianDiffusion(linear_betas(1000))
LEVELS = from_uint8(torch.arange(256, dtype=torch.uint8))
MEAN, STD = 0.1, 0.25


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def test_normal_kl_is_that_of_torch():
    mean_1, log_variance_1, mean_2, log_variance_2 = 3 * randn(4, 200)
    expected = kl_divergence(
        Normal(mean_1, (log_variance_1 / 2).exp()), Normal(mean_2, (log_variance_2 / 2).exp())
    )
    torch.testing.assert_close(normal_kl(mean_1, log_variance_1, mean_2, log_variance_2), expected)


def test_normal_kl_is_zero_between_equals_only():
    mean, log_variance = randn(2, 50)
    assert normal_kl(mean, log_variance, mean, log_variance).abs().max() == 0
    assert (normal_kl(mean, log_variance, mean + 0.1, log_variance) > 0).all()
    assert (normal_kl(mean, log_variance, mean, log_variance + 0.1) > 0).all()


# L_0


@pytest.mark.parametrize("mean", [-1.3, -1.0, -0.2, 0.0, 0.501, 0.999, 2.0])
@pytest.mark.parametrize("log_variance", [-14.0, -9.8, -4.0, 0.0, 3.0])
def test_the_masses_of_the_256_levels_sum_to_one(mean, log_variance):
    masses = decoder_log_likelihood(
        LEVELS, torch.full((256,), mean), torch.full((256,), log_variance, dtype=torch.float64)
    ).exp()
    # neighbouring bins meet within float32 rounding of the levels: 1e-7 against a deviation of 1e-3
    assert masses.sum().item() == pytest.approx(1, abs=3e-4 if log_variance < -9 else 1e-5)


def test_the_darkest_and_the_brightest_bin_are_open():
    log_variance = torch.tensor(0.0)
    for level, mean in ((LEVELS[0], -6.0), (LEVELS[255], 6.0)):
        assert decoder_log_likelihood(level, torch.tensor(mean), log_variance).exp() > 0.99
    assert decoder_log_likelihood(LEVELS[1], torch.tensor(-6.0), log_variance).exp() < 1e-5


@pytest.mark.parametrize("deviation", [1e-3, 0.0074, 1.0])
def test_far_off_means_cost_much_but_stay_finite(deviation):
    means = torch.tensor([-300.0, -2.0, -1.0, 0.0, 1.0, 2.0, 300.0]).repeat_interleave(256)
    nats = decoder_log_likelihood(LEVELS.repeat(7), means, torch.tensor(2 * math.log(deviation)))
    assert nats.isfinite().all()
    assert (nats <= 0).all()
    # exp(-z^2 / 2) in the tail, where the mass itself underflows
    far = decoder_log_likelihood(torch.tensor(0.0), torch.tensor(300.0), torch.tensor(0.0)).item()
    assert far == pytest.approx(-(300**2) / 2, rel=0.02)


def test_the_decoder_is_the_difference_of_the_cdf_where_that_is_safe():
    inner = LEVELS[1:255].double()
    mean, log_variance = inner + 0.02 * randn(254), torch.tensor(2 * math.log(0.02), dtype=torch.float64)
    normal = Normal(mean, 0.02)
    naive = (normal.cdf(inner + 1 / 255) - normal.cdf(inner - 1 / 255)).log()
    torch.testing.assert_close(decoder_log_likelihood(inner, mean, log_variance), naive, rtol=0, atol=1e-9)


@pytest.mark.parametrize("log_variance", [-14.0, -9.8, -4.0, 3.0])
def test_the_decoders_gradient_is_that_of_finite_differences_far_into_the_tails(log_variance):
    pixels = torch.tensor([-1.0, 1 / 255, 1.0], dtype=torch.float64).repeat(9)
    means = torch.tensor([-300.0, -2.0, -1.004, -1.0, 0.0, 1.0, 1.004, 2.0, 300.0], dtype=torch.float64)
    means = means.repeat_interleave(3).requires_grad_()
    log_variances = torch.full_like(means, log_variance).requires_grad_()
    # each pixel by its own size: -z^2 / 2 reaches 1e11
    size = decoder_log_likelihood(pixels, means, log_variances).detach().abs() + 1

    def nats(means, log_variances):
        return decoder_log_likelihood(pixels, means, log_variances) / size

    assert torch.autograd.gradcheck(nats, (means, log_variances), rtol=1e-4, atol=1e-7)


def test_the_decoder_follows_the_density_however_narrow_or_wide():
    zero, one = torch.tensor([0.0, 1.0], dtype=torch.float64)
    # the tail of a normal at z is its density / z
    z = (1 - 1 / 255) * math.exp(10)
    tail = -(z**2) / 2 - math.log(z * math.sqrt(2 * math.pi))
    assert decoder_log_likelihood(zero, one, zero - 20).item() == pytest.approx(tail, rel=1e-12)
    # a bin so narrow beside the deviation is its width times the density
    flat = math.log(2 / 255) - 15 - math.log(2 * math.pi) / 2
    assert decoder_log_likelihood(zero, one, zero + 30).item() == pytest.approx(flat, abs=1e-6)


@pytest.mark.parametrize("log_variance", [-1e3, -60.0, 80.0, 1e3])
def test_absurd_variances_leave_the_decoder_and_its_gradient_finite(log_variance):
    pixels, means = LEVELS.repeat(4), torch.tensor([-1e3, -1.0, 0.3, 1e3]).repeat_interleave(256)
    inputs = means.requires_grad_(), torch.full_like(means, log_variance).requires_grad_()
    nats = decoder_log_likelihood(pixels, *inputs)
    assert nats.isfinite().all()
    assert all(found.isfinite().all() for found in torch.autograd.grad(nats.sum(), inputs))


# L_T


def test_the_prior_term_has_its_published_values():
    half = torch.full((1, 1, 8, 8), 0.5)
    assert prior_bpd(DIFFUSION, half).item() == pytest.approx(7.28e-6, rel=1e-3)
    half[..., ::2] *= -1
    assert prior_bpd(DIFFUSION, half).item() == pytest.approx(7.28e-6, rel=1e-3)
    assert prior_bpd(DIFFUSION, 2 * half).item() == pytest.approx(2.91e-5, rel=1e-3)


# L_{t-1}, with data whose best denoiser is known


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_the_terms_of_normal_data_are_those_of_the_closed_form(variance_type):
    chain = DIFFUSION.with_variance(variance_type)
    i = torch.tensor([1, 5, 40, 200, 600, 999])
    x_0 = MEAN + STD * randn(1, 1, 200, 200).expand(6, -1, -1, -1)
    terms = vb_bpd(chain, normal_denoiser(chain, MEAN, STD), x_0, i, randn(6, 1, 200, 200, seed=1))
    alpha_bar, small = chain.alphas_cumprod[i], chain.posterior_variance[i]
    unknown = STD**2 * (1 - alpha_bar) / (alpha_bar * STD**2 + 1 - alpha_bar)  # Var(x_0 | x_t)
    variance = small if variance_type == "fixed_small" else chain.betas[i]
    ratio = small / variance
    missed = chain.posterior_mean_coef1[i] ** 2 * unknown / variance
    expected = (ratio - 1 - ratio.log() + missed) / 2 / math.log(2)
    # 40,000 pixels leave 0.7 percent of sampling error
    torch.testing.assert_close(terms, expected, rtol=0.03, atol=1e-7)


def test_the_whole_bound_on_normal_data_lies_just_above_its_entropy():
    chain = DIFFUSION.with_variance("fixed_large")
    i, denoiser = torch.arange(1000), normal_denoiser(chain, MEAN, STD)
    gaps = []
    for seed in range(6):
        x_0 = from_uint8(to_uint8(MEAN + STD * randn(1, 1, 24, 24, seed=seed)))
        noise = randn(1000, 1, 24, 24, seed=100 + seed).float()
        bound = vb_bpd(chain, denoiser, x_0.expand(1000, -1, -1, -1), i, noise).sum() + prior_bpd(chain, x_0)
        normal, pixels = Normal(torch.tensor(MEAN, dtype=torch.float64), STD), x_0.double()
        mass = normal.cdf(pixels + 1 / 255) - normal.cdf(pixels - 1 / 255)
        gaps.append((bound + mass.log2().mean()).item())
    entropy = math.log2(STD * math.sqrt(2 * math.pi * math.e)) - math.log2(2 / 255)
    assert -mass.log2().mean().item() == pytest.approx(entropy, abs=0.2)  # 7.04 bits/dim
    # a reverse variance that is fixed costs about 0.14 bits/dim, almost all of it at the last steps
    assert 0 < sum(gaps) / 6 < 0.25


def test_each_image_has_its_own_term_at_its_own_place():
    x_0, noise = randn(2, 3, 1, 8, 8).float()
    i = torch.tensor([0, 7, 900])
    denoiser = normal_denoiser(DIFFUSION, MEAN, STD)
    together = vb_bpd(DIFFUSION, denoiser, x_0, i, noise)
    alone = [vb_bpd(DIFFUSION, denoiser, x_0[k, None], i[k, None], noise[k, None]) for k in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


# which terms to measure


@pytest.mark.parametrize("num_terms", [1, 2, 3, 10, 50, 400, 998, 999, 5000])
@pytest.mark.parametrize("num_places", [2, 3, 100, 1000, 4000])
def test_the_strata_cover_every_place_but_the_first_once(num_places, num_terms):
    parts = strata(num_places, num_terms, generator())
    assert sum(size for _, size in parts) == num_places - 1
    low = 1
    for places, size in parts:
        assert ((low <= places) & (places < low + size)).all()
        assert len(places.unique()) == len(places) == min(len(places), size) > 0
        low += size


@pytest.mark.parametrize("num_terms", [10, 50, 200, 500, 900, 998])
def test_about_as_many_terms_are_measured_as_were_asked_for(num_terms):
    measured = sum(len(places) for places, _ in strata(1000, num_terms, generator()))
    assert 0.9 * num_terms <= measured <= num_terms


def test_with_enough_terms_the_sum_is_exact():
    terms = randn(1000).abs()
    total, error = stratified_sum(
        [(terms[places][:, None], size) for places, size in strata(1000, 999, generator())]
    )
    assert total == pytest.approx(terms[1:].sum().item())
    assert error == 0


def test_a_chain_of_one_step_has_nothing_between_prior_and_decoder():
    parts = strata(1, 10, generator())
    assert stratified_sum([(places.double()[:, None], size) for places, size in parts]) == (0, 0)


def test_the_estimated_sum_is_unbiased_and_its_error_honest():
    place = torch.arange(1000, dtype=torch.float64)
    terms = (place + 1) ** -1.3 * (1 + 0.3 * (place / 3).sin())
    truth, repeats = terms[1:].sum().item(), 600
    estimates = [
        stratified_sum([(terms[places][:, None], size) for places, size in strata(1000, 20, generator(seed))])
        for seed in range(repeats)
    ]
    totals, errors = torch.tensor(estimates, dtype=torch.float64).T
    deviation = totals.std().item()
    assert totals.mean().item() == pytest.approx(truth, abs=4 * deviation / repeats**0.5)
    # the squared error is an unbiased estimate of the variance; 600 repeats leave a few percent
    assert errors.square().mean().item() ** 0.5 == pytest.approx(deviation, rel=0.15)


@pytest.mark.parametrize("num_terms", [20, 200, 999])
def test_with_several_draws_the_error_is_that_of_the_noise_too(num_terms):
    place = torch.arange(1000, dtype=torch.float64)
    terms, noise, repeats = (place + 1) ** -1.3, 0.2 * (place + 1) ** -1, 200
    draws = terms[:, None] + noise[:, None] * torch.randn(repeats, 1000, 3, generator=generator())
    estimates = [
        stratified_sum([(drawn[places], size) for places, size in strata(1000, num_terms, generator(seed))])
        for seed, drawn in enumerate(draws)
    ]
    totals, errors = torch.tensor(estimates, dtype=torch.float64).T
    assert errors.square().mean().item() ** 0.5 == pytest.approx(totals.std().item(), rel=0.2)
