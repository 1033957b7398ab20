import math
from typing import get_args

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion, PredictionType
from ddpm_app.core.losses import TimestepSampler, loss_simple, training_target
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


# which timesteps to train on


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sampler_with(losses):
    """An importance sampler that has recorded the columns of `losses` (T, n), one batch a column."""
    sampler = TimestepSampler(len(losses), importance=True)
    for column in losses.T:
        sampler.record(torch.arange(len(losses)), column)
    return sampler


def test_timesteps_are_uniform_until_each_has_ten_losses():
    sampler = sampler_with(torch.tensor([[1.0], [2.0], [3.0]]).expand(3, 9))
    sampler.record(torch.tensor([0, 1, 1]), torch.tensor([1.0, 2.0, 2.0]))
    assert sampler.probabilities.tolist() == [1 / 3] * 3
    assert sampler.draw(8, generator())[1].tolist() == [1] * 8
    sampler.record(torch.tensor([2]), torch.tensor([3.0]))
    share = 0.001 / 3
    expected = [0.999 / 6 + share, 0.999 / 3 + share, 0.999 / 2 + share]
    assert sampler.probabilities.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_timestep_is_as_probable_as_its_root_mean_square_loss():
    # root mean squares 1, 3 and 0; the mean of the first would be 0.6
    losses = torch.zeros(3, 10, dtype=torch.float64)
    losses[0, ::5], losses[0, 1::5] = 1, 2
    losses[1] = 3
    expected = [0.999 / 4 + 0.001 / 3, 0.999 * 3 / 4 + 0.001 / 3, 0.001 / 3]
    assert sampler_with(losses).probabilities.tolist() == pytest.approx(expected, rel=1e-12)


def test_the_weighted_mean_of_importance_is_the_uniform_mean_in_expectation():
    losses = randn(5, 10, seed=3).abs() + 0.1
    sampler, now = sampler_with(losses), randn(5, seed=4)
    t, weight = sampler.draw(500, generator())
    weight_of = torch.zeros(5, dtype=torch.float64)
    weight_of[t] = weight.double()
    expectation = (sampler.probabilities * weight_of * now).sum()
    # weights are float32
    torch.testing.assert_close(expectation, now.mean(), rtol=0, atol=1e-6)
    assert sampler.probabilities.sum().item() == pytest.approx(1, abs=1e-12)
    assert weight.dtype == torch.float32


@pytest.mark.parametrize("importance", [False, True])
def test_draws_follow_the_probabilities_and_the_generator(importance):
    sampler = sampler_with(torch.arange(1.0, 5.0)[:, None].expand(4, 10))
    sampler.importance = importance
    t, weight = sampler.draw(20_000, generator(1))
    again, other = sampler.draw(20_000, generator(1)), sampler.draw(20_000, generator(2))
    assert torch.equal(t, again[0])
    assert torch.equal(weight, again[1])
    assert not torch.equal(t, other[0])
    p = sampler.probabilities
    expected = [0.1, 0.2, 0.3, 0.4] if importance else [0.25] * 4
    assert p.tolist() == pytest.approx(expected, rel=0.002)
    # five standard deviations of a share of 20,000 draws are at most 0.018
    torch.testing.assert_close(t.bincount() / 20_000, p.float(), rtol=0, atol=0.018)


def test_the_newest_loss_takes_the_place_of_the_oldest():
    sampler = sampler_with(torch.arange(1.0, 14.0).expand(2, 13))
    assert sorted(sampler.history[0].tolist()) == list(range(4, 14))
    sampler.record(torch.tensor([1]), torch.tensor([99.0]))
    assert sorted(sampler.history[1].tolist()) == [*range(5, 14), 99]
    assert sorted(sampler.history[0].tolist()) == list(range(4, 14))


def test_a_batch_may_hold_many_losses_of_one_timestep():
    sampler = TimestepSampler(2, importance=True)
    sampler.record(torch.tensor([0, 1, *[0] * 11]), torch.arange(13.0))
    assert sampler.counts.tolist() == [12, 1]
    assert sorted(sampler.history[0].tolist()) == list(range(3, 13))
    assert sorted(sampler.history[1].tolist()) == [0] * 9 + [1]


def test_history_and_counts_are_the_whole_state():
    first = sampler_with(randn(6, 13, seed=5).abs())
    second = TimestepSampler(6, importance=True)
    second.history, second.counts = first.history.clone(), first.counts.clone()
    for sampler in (first, second):
        sampler.record(torch.arange(6), torch.arange(6.0))
    assert torch.equal(first.history, second.history)
    assert all(map(torch.equal, first.draw(50, generator()), second.draw(50, generator())))


def test_uniform_timesteps_record_nothing():
    sampler = TimestepSampler(3)
    for _ in range(10):
        sampler.record(torch.arange(3), torch.tensor([1.0, 2.0, 3.0]))
    assert not sampler.history.any()
    assert not sampler.counts.any()
    assert sampler.draw(7, generator())[1].tolist() == [1] * 7
