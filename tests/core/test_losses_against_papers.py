"""L_simple, L_vlb and L_hybrid against the equations of the papers, in float64.

The expected values go by eps (eq. 11) where the code goes by x0-hat (eqs. 7 and 15).
"""

import math
from typing import get_args

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion, PredictionType, VarianceType
from ddpm_app.core.likelihood import prior_bpd, vb_bpd
from ddpm_app.core.losses import LOSSES, loss_hybrid, loss_simple, loss_vlb, min_snr_weight, training_target
from ddpm_app.core.schedules import linear_betas

PREDICTION_TYPES, VARIANCE_TYPES = get_args(PredictionType), get_args(VarianceType)
LEARNED = ("learned", "learned_range")


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BETAS, T_OF_EACH = linear_betas(1000), torch.tensor([0, 1, 499, 999])
X_0, NOISE = (
    (randn(4, 3, 8, 8, seed=0) * 42 + 127).round().clamp(0, 255) / 127.5 - 1,
    randn(4, 3, 8, 8, seed=1),
)
X_0[..., 0], X_0[..., 1] = -1, 1  # the open bins
BETA, ALPHA_BAR = (table[T_OF_EACH].view(-1, 1, 1, 1) for table in (BETAS, torch.cumprod(1 - BETAS, 0)))
ALPHA_BAR_BEFORE = torch.cumprod(1 - BETAS, 0)[T_OF_EACH - 1].view(-1, 1, 1, 1)
ALPHA_BAR_BEFORE[0] = 1
BETA_TILDE = (1 - ALPHA_BAR_BEFORE) / (1 - ALPHA_BAR) * BETA  # eq. 7
X_T = ALPHA_BAR.sqrt() * X_0 + (1 - ALPHA_BAR).sqrt() * NOISE  # eq. 4


def eps_meant_by(prediction_type, prediction):
    if prediction_type == "epsilon":
        return prediction
    if prediction_type == "sample":
        return (X_T - ALPHA_BAR.sqrt() * prediction) / (1 - ALPHA_BAR).sqrt()
    if prediction_type == "v_prediction":
        return ALPHA_BAR.sqrt() * prediction + (1 - ALPHA_BAR).sqrt() * X_T
    return (X_T - (1 - BETA).sqrt() * prediction) * (1 - ALPHA_BAR).sqrt() / BETA  # eq. 11


def log_variance_meant_by(variance_type, v):
    at_1 = BETA_TILDE[1].log()  # beta-tilde is 0 at t = 0, where its next value stands
    small = torch.cat([at_1[None], BETA_TILDE[1:].log()])
    if variance_type == "fixed_large":
        return torch.cat([at_1[None], BETA[1:].log()])
    if variance_type == "learned_range":
        return (v + 1) / 2 * BETA.log() + (1 - v) / 2 * small  # Improved DDPM, eq. 15
    return v if variance_type == "learned" else small


def expected_vlb(prediction_type, variance_type, output):
    """T L_{t-1} in bits/dim (eqs. 5, 7, 11 and 13)."""
    eps = eps_meant_by(prediction_type, output[:, :3])
    mean = (X_T - BETA / (1 - ALPHA_BAR).sqrt() * eps) / (1 - BETA).sqrt()
    variance = log_variance_meant_by(variance_type, output[:, 3:]).exp()
    posterior_mean = ALPHA_BAR_BEFORE.sqrt() * BETA / (1 - ALPHA_BAR) * X_0
    posterior_mean += (1 - BETA).sqrt() * (1 - ALPHA_BAR_BEFORE) / (1 - ALPHA_BAR) * X_T
    kl = (variance / BETA_TILDE).log() + (BETA_TILDE + (posterior_mean - mean) ** 2) / variance - 1
    nats = kl.flatten(1).mean(1) / 2
    edges = [(X_0 + side / 255 - mean) / variance.sqrt() for side in (-1, 1)]
    below, above = (torch.special.erfc(-edge / math.sqrt(2)) / 2 for edge in edges)
    above = torch.where(X_0 == 1, 1.0, above)
    mass = above - torch.where(X_0 == -1, 0.0, below)
    nats[0] = -mass.log()[0].mean()
    return 1000 * nats / math.log(2)


def output_near_the_target(prediction_type, variance_type, error=0.01):
    target = training_target(GaussianDiffusion(BETAS, prediction_type), X_0, X_T, T_OF_EACH, NOISE)
    v = log_variance_meant_by("fixed_large", None) if variance_type == "learned" else 0
    return torch.cat([target + error * randn(*target.shape, seed=3), v + randn(*target.shape, seed=4) / 2], 1)


def of_each(loss, diffusion, output, **options):
    return loss(diffusion, lambda x_t, t: output, X_0, T_OF_EACH, NOISE, **options)


@pytest.mark.parametrize("variance_type", VARIANCE_TYPES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_bound_is_that_of_the_papers(prediction_type, variance_type):
    diffusion = GaussianDiffusion(BETAS, prediction_type, variance_type)
    output = output_near_the_target(prediction_type, variance_type)
    vlb = expected_vlb(prediction_type, variance_type, output)
    # 1 - alpha-bar at t = 0 and 1 leaves 1e-12 of rounding, a mean of posterior_mean 1e-8
    torch.testing.assert_close(of_each(loss_vlb, diffusion, output), vlb, rtol=1e-7, atol=1e-7)
    target = training_target(diffusion, X_0, X_T, T_OF_EACH, NOISE)
    simple = (output[:, :3] - target).square().flatten(1).mean(1)
    torch.testing.assert_close(of_each(loss_simple, diffusion, output), simple)
    hybrid = of_each(loss_hybrid, diffusion, output)
    torch.testing.assert_close(hybrid, simple + 0.001 * vlb, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_the_bound_weighs_the_squared_error_of_eps_as_in_equation_12(variance_type):
    diffusion = GaussianDiffusion(BETAS, "epsilon", variance_type)
    error = 30 * randn(*NOISE.shape, seed=5)  # far outside of what clipping would leave
    vlb, least = (of_each(loss_vlb, diffusion, NOISE + e) for e in (error, torch.zeros_like(error)))
    variance = BETA_TILDE if variance_type == "fixed_small" else BETA
    weight = BETA**2 / (2 * variance * (1 - BETA) * (1 - ALPHA_BAR))
    expected = 1000 / math.log(2) * (weight * error**2).flatten(1).mean(1)
    torch.testing.assert_close((vlb - least)[1:], expected[1:], rtol=1e-9, atol=0)


def test_the_mean_of_the_bound_over_all_timesteps_and_the_prior_term_is_the_likelihoods_total():
    betas, places = linear_betas(30, 1e-3, 0.3), torch.arange(30)
    x_0 = X_0[:1].expand(30, -1, -1, -1)
    noise = randn(30, 3, 8, 8, seed=6)

    def denoiser(x_t, t):
        return torch.cat([0.9 * x_t + t.view(-1, 1, 1, 1) / 30, x_t.tanh()], dim=1)

    clipping, free = (GaussianDiffusion(betas, "epsilon", "learned_range", clip) for clip in (True, False))
    total = loss_vlb(clipping, denoiser, x_0, places, noise).mean() + prior_bpd(clipping, x_0[:1])
    expected = vb_bpd(free, denoiser, x_0, places, noise).sum() + prior_bpd(free, x_0[:1])
    torch.testing.assert_close(total, expected)
    assert not torch.isclose(vb_bpd(clipping, denoiser, x_0, places, noise).sum(), expected)


# which gradient reaches whom


def gradient(loss, diffusion, output, **options):
    output = output.clone().requires_grad_()
    (found,) = torch.autograd.grad(of_each(loss, diffusion, output, **options).sum(), output)
    return found[:, :3], found[:, 3:]


@pytest.mark.parametrize("options", [{}, {"min_snr_gamma": 5.0}])
@pytest.mark.parametrize("variance_type", LEARNED)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_hybrid_teaches_the_mean_by_l_simple_and_the_variance_by_the_bound(
    prediction_type, variance_type, options
):
    diffusion = GaussianDiffusion(BETAS, prediction_type, variance_type)
    output = output_near_the_target(prediction_type, variance_type)
    mean, variance = gradient(loss_hybrid, diffusion, output, **options)
    mean_by_simple, variance_by_simple = gradient(loss_simple, diffusion, output, **options)
    mean_by_bound, variance_by_bound = gradient(loss_vlb, diffusion, output)
    assert torch.equal(mean, mean_by_simple)
    assert not variance_by_simple.any()
    torch.testing.assert_close(variance, 0.001 * variance_by_bound, rtol=1e-9, atol=1e-17)
    assert variance_by_bound.flatten(1).any(1).all()
    assert mean_by_bound.flatten(1).any(1).all()


def test_a_hybrid_of_a_fixed_variance_has_the_gradient_of_l_simple():
    diffusion = GaussianDiffusion(BETAS, "epsilon", "fixed_small")
    output = NOISE + 0.1
    assert torch.equal(
        gradient(loss_hybrid, diffusion, output)[0], gradient(loss_simple, diffusion, output)[0]
    )


@pytest.mark.parametrize("variance_type", VARIANCE_TYPES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_the_gradient_of_the_bound_is_that_of_finite_differences(prediction_type, variance_type):
    diffusion = GaussianDiffusion(torch.tensor([1e-4, 0.01, 0.1, 0.4]), prediction_type, variance_type)
    t, x_0 = torch.arange(4), torch.tensor([-1.0, 1.0, 0.2], dtype=torch.float64).expand(4, 1, 1, 3)
    noise, off = randn(2, 4, 1, 1, 3, seed=9)
    target = training_target(diffusion, x_0, diffusion.q_sample(x_0, t, noise), t, noise)
    v = [off - 2] if variance_type in LEARNED else []
    output = torch.cat([target + 0.01 * off, *v], dim=1).requires_grad_()

    def bound(output):
        return loss_vlb(diffusion, lambda x_t, t: output, x_0, t, noise)

    # losses of up to 1e4 leave 1e-6 of rounding
    assert torch.autograd.gradcheck(bound, output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variance_type", VARIANCE_TYPES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_wild_outputs_leave_every_gradient_finite_at_every_timestep(prediction_type, variance_type):
    diffusion = GaussianDiffusion(BETAS, prediction_type, variance_type)
    x_0 = torch.tensor([-1.0, 1.0, 0.2]).repeat(1000, 1, 1, 4)
    noise = randn(*x_0.shape, seed=7).float()
    wild = [torch.tensor([-1e3, 0.0, 3.0, 1e3]).repeat_interleave(3).expand_as(x_0)]
    for v in (-30.0, 0.0, 100.0, 1e3) if variance_type in LEARNED else (0.0,):
        output = torch.cat([*wild, torch.full_like(x_0, v)], dim=1).requires_grad_()
        for name, loss in LOSSES.items():
            terms = loss(diffusion, lambda x_t, t, o=output: o, x_0, torch.arange(1000), noise)
            (found,) = torch.autograd.grad(terms.sum(), output)
            assert terms.isfinite().all(), name
            assert found.isfinite().all(), name


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_half_precision_output_is_scored_in_the_precision_of_the_images(loss):
    diffusion = GaussianDiffusion(BETAS)
    for dtype in (torch.float32, torch.float64):
        x_0, noise = X_0.to(dtype), NOISE.to(dtype)
        found, expected = (
            loss(diffusion, lambda x_t, t, o=o: o, x_0, T_OF_EACH, noise)
            for o in (NOISE.half(), NOISE.half().to(dtype))
        )
        assert found.dtype == dtype
        assert torch.equal(found, expected)


# min-SNR


@pytest.mark.parametrize("gamma", [0.1, 5.0, math.inf])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_min_snr_weighs_the_squared_error_of_x0_hat(prediction_type, gamma):
    diffusion = GaussianDiffusion(BETAS, prediction_type)
    output = randn(*NOISE.shape, seed=8)
    pred_x0 = (X_T - (1 - ALPHA_BAR).sqrt() * eps_meant_by(prediction_type, output)) / ALPHA_BAR.sqrt()
    weight = (ALPHA_BAR / (1 - ALPHA_BAR)).clamp(max=gamma)
    expected = (weight * (pred_x0 - X_0) ** 2).flatten(1).mean(1)
    found = of_each(loss_simple, diffusion, output, min_snr_gamma=gamma)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)
    added = of_each(loss_hybrid, diffusion, output, min_snr_gamma=gamma)
    plain = of_each(loss_hybrid, diffusion, output) - of_each(loss_simple, diffusion, output)
    torch.testing.assert_close(added - found, plain)


def test_without_a_bound_on_the_snr_eps_weighs_every_timestep_alike():
    assert torch.equal(min_snr_weight(GaussianDiffusion(BETAS), math.inf), torch.ones_like(BETAS))
