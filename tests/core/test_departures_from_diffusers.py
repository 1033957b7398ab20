"""Each place where our steps depart from those of diffusers' schedulers on purpose."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.errors import UserError
from tests.core.beside_diffusers import (
    BETAS,
    NOISE,
    OUTPUT,
    ROUNDING,
    SHAPE,
    X_T,
    T,
    chain_of,
    clips,
    distance,
    our_ddim,
    our_ddpm,
    places,
    predictions,
    their_ddim,
    their_ddpm,
    theirs,
)

# timesteps


@pytest.mark.parametrize(
    ("steps", "their_start", "our_start"), [(600, 599, 998), (7, 852, 857), (30, 957, 966)]
)
def test_leading_diffusers_starts_low_in_the_chain_where_the_number_does_not_divide_T(
    steps, their_start, our_start
):
    # it steps by T // S, so 600 steps of 1 begin with pure noise at t = 599, whose alpha-bar is 0.025
    assert theirs(DDPMScheduler, steps).timesteps[0] == their_start
    assert GaussianDiffusion(BETAS).respaced(steps, "leading").timesteps[-1] == our_start


def test_linspace_diffusers_visits_only_the_clean_end_when_it_has_one_step():
    assert theirs(DDPMScheduler, 1, timestep_spacing="linspace").timesteps.tolist() == [0]
    assert GaussianDiffusion(BETAS).respaced(1, "linspace").timesteps.tolist() == [999]


@pytest.mark.parametrize(("steps", "spacing"), [(30, "trailing"), (600, "trailing"), (50, "linspace")])
def test_ddim_in_diffusers_steps_to_t_minus_T_over_S_although_it_visits_another_timestep_next(steps, spacing):
    scheduler = theirs(DDIMScheduler, steps, timestep_spacing=spacing)
    visited = scheduler.timesteps.tolist()
    missed = [(t, t - T // steps) for t, nxt in pairwise(visited) if t - T // steps != nxt]
    assert len(missed) > len(visited) / 4
    t, imagined = missed[-1]
    i = visited[::-1].index(t)
    step_to_imagined = GaussianDiffusion(BETAS).respaced([imagined, t])
    expected = their_ddim(scheduler, t)
    torch.testing.assert_close(our_ddim(step_to_imagined, 1), expected, **ROUNDING)
    # a part in a hundred of a pixel's range in this one step
    assert distance(our_ddim(chain_of(scheduler), i), expected) > 0.01


@pytest.mark.parametrize("steps", [7, 600])
def test_trailing_ddim_in_diffusers_stops_at_alpha_bar_0_instead_of_1(steps):
    scheduler = theirs(DDIMScheduler, steps, timestep_spacing="trailing")
    t = int(scheduler.timesteps[-1])
    assert t - T // steps == 0  # so it takes alphas_cumprod[0] for the last, and leaves noise in the image
    chain = chain_of(scheduler)
    pred_x0 = chain.p_mean_variance(OUTPUT, X_T, torch.tensor([0])).pred_x0
    torch.testing.assert_close(our_ddim(chain, 0), pred_x0, **ROUNDING)
    assert distance(their_ddim(scheduler, t), pred_x0) > 0.01


# the last step


@pytest.mark.parametrize(("steps", "deviation"), [(100, 0.0435), (30, 0.1172)])
def test_trailing_ddpm_in_diffusers_adds_noise_at_its_last_step(steps, deviation):
    # it asks whether t > 0, and not whether the step is the last
    scheduler = theirs(DDPMScheduler, steps, timestep_spacing="trailing", variance_type="fixed_large")
    chain = chain_of(scheduler, variance_type="fixed_large")
    pred_x0 = chain.p_mean_variance(OUTPUT, X_T, torch.tensor([0])).pred_x0
    torch.testing.assert_close(our_ddpm(chain, 0), pred_x0, **ROUNDING)
    added = their_ddpm(scheduler, int(chain.timesteps[0])) - pred_x0
    torch.testing.assert_close(added, chain.betas[0].sqrt().float() * NOISE, rtol=0, atol=1e-5)
    assert chain.betas[0].sqrt().item() == pytest.approx(deviation, abs=5e-5)


def test_ddim_in_diffusers_without_set_alpha_to_one_does_not_end_at_x0_hat():
    scheduler = theirs(DDIMScheduler, 50, float64=False, set_alpha_to_one=False)
    chain = chain_of(scheduler)
    p = chain.p_mean_variance(OUTPUT, X_T, torch.tensor([0]))
    # timestep 0 to alpha-bar[0], which is timestep 0 again: the last evaluation changes nothing
    expected = chain.alphas_cumprod[0].sqrt() * p.pred_x0 + (1 - chain.alphas_cumprod[0]).sqrt() * p.eps
    torch.testing.assert_close(their_ddim(scheduler, 0), expected.float(), rtol=0, atol=5e-5)
    torch.testing.assert_close(our_ddim(chain, 0), p.pred_x0, **ROUNDING)


# clipping


def test_ddim_in_diffusers_mixes_a_clipped_x0_hat_with_the_eps_of_the_unclipped_one_unless_told():
    scheduler, i = theirs(DDIMScheduler, 50), 40
    chain = chain_of(scheduler)
    t = int(chain.timesteps[i])
    p = chain.p_mean_variance(OUTPUT, X_T, torch.tensor([i]))
    before = chain.alphas_cumprod_prev[i]
    mixed = before.sqrt().float() * p.pred_x0 + (1 - before).sqrt().float() * OUTPUT
    torch.testing.assert_close(their_ddim(scheduler, t, clipped=False), mixed, **ROUNDING)
    assert distance(our_ddim(chain, i), mixed) > 0.1


@clips
@predictions
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_without_rederiving_eps_a_ddim_step_is_that_of_diffusers_untold(prediction_type, eta, clip):
    scheduler = theirs(DDIMScheduler, 50, prediction_type=prediction_type, clip_sample=clip)
    chain = chain_of(scheduler, prediction_type, clip=clip)
    for i in places(chain):
        expected = their_ddim(scheduler, int(chain.timesteps[i]), eta, clipped=False)
        torch.testing.assert_close(our_ddim(chain, i, eta, rederive_eps=False), expected, **ROUNDING)


# tables


def test_the_float32_tables_of_diffusers_are_2_in_10000_off_at_the_clean_end():
    # at t = 0, where 1 - alpha-bar is beta
    assert 1 - DDPMScheduler().alphas_cumprod[0].item() == pytest.approx(1e-4 * (1 + 1.66e-4), rel=1e-6)
    assert 1 - GaussianDiffusion(BETAS).alphas_cumprod[0].item() == pytest.approx(1e-4, rel=1e-11)


def test_the_float32_tables_of_diffusers_move_a_step_at_the_clean_end_by_3_in_10000():
    coarse, fine = theirs(DDPMScheduler, float64=False), theirs(DDPMScheduler)
    moved = [distance(their_ddpm(coarse, t), their_ddpm(fine, t)) for t in (2, 500, 999)]
    assert 1e-4 < moved[0] < 1e-3
    assert max(moved[1:]) < 1e-5


# variances


def their_variance(variance_type, t, **options):
    return theirs(DDPMScheduler, variance_type=variance_type)._get_variance(t, **options)


def our_variance(variance_type, t, output=OUTPUT):
    diffusion = GaussianDiffusion(BETAS, variance_type=variance_type)
    return diffusion.p_mean_variance(output, X_T, torch.tensor([t])).variance.double()


@pytest.mark.parametrize(("variance_type", "their_first"), [("fixed_small", 1e-20), ("fixed_large", 1e-4)])
def test_at_0_diffusers_has_1e_20_or_beta_where_we_have_beta_tildes_second_value(variance_type, their_first):
    assert their_variance(variance_type, 0).item() == pytest.approx(their_first)
    assert our_variance(variance_type, 0).item() == pytest.approx(5.453188e-5, rel=1e-6)
    for t in (1, 500, 999):
        expected = their_variance(variance_type, t).item()
        assert our_variance(variance_type, t).item() == pytest.approx(expected, rel=1e-5)


def test_at_0_the_learned_range_of_diffusers_reaches_down_to_1e_20():
    lowest = torch.full(SHAPE, -1.0)
    theirs_at_0 = their_variance("learned_range", 0, predicted_variance=lowest).exp()
    ours_at_0 = our_variance("learned_range", 0, torch.cat([OUTPUT, lowest], 1))
    assert theirs_at_0.max().item() == pytest.approx(1e-20, rel=1e-4)
    assert ours_at_0.min().item() == pytest.approx(5.453188e-5, rel=1e-5)


def test_learned_is_a_log_variance_here_and_a_variance_in_diffusers_which_takes_its_root():
    log_variance = torch.full(SHAPE, -4.0)
    output = torch.cat([OUTPUT, log_variance], 1)
    chain = GaussianDiffusion(BETAS, variance_type="learned")
    mean = chain.p_mean_variance(output, X_T, torch.tensor([500])).mean
    torch.testing.assert_close(
        our_ddpm(chain, 500, output) - mean, NOISE * torch.tensor(-2.0).exp(), **ROUNDING
    )
    assert their_ddpm(theirs(DDPMScheduler, variance_type="learned"), 500, output).isnan().all()


def test_fixed_large_log_is_nan_in_diffusers_and_no_choice_here():
    # the root of a logarithm below 0
    assert their_ddpm(theirs(DDPMScheduler, variance_type="fixed_large_log"), 500).isnan().all()
    with pytest.raises(UserError, match="variance_type"):
        GaussianDiffusion(BETAS, variance_type="fixed_large_log")


def test_fixed_small_log_of_diffusers_is_fixed_small_by_another_name():
    by_log, plain = (theirs(DDPMScheduler, variance_type=name) for name in ("fixed_small_log", "fixed_small"))
    for t in (1, 500, 999):
        torch.testing.assert_close(their_ddpm(by_log, t), their_ddpm(plain, t), **ROUNDING)


def test_an_unknown_variance_type_is_beta_tilde_in_diffusers_and_an_error_here():
    nonsense, plain = (theirs(DDPMScheduler, variance_type=name) for name in ("nonsense", "fixed_small"))
    assert torch.equal(their_ddpm(nonsense, 500), their_ddpm(plain, 500))
    with pytest.raises(UserError, match="nonsense"):
        GaussianDiffusion(BETAS, variance_type="nonsense")


def test_a_learned_variance_beside_a_fixed_one_is_ignored_here_and_a_second_channel_in_diffusers():
    grey, output = X_T[:, :1], OUTPUT[:, :2]
    assert theirs(DDPMScheduler).step(output, 500, grey).prev_sample.shape == (1, 2, 8, 8)
    p = GaussianDiffusion(BETAS, variance_type="fixed_small").p_mean_variance(
        output, grey, torch.tensor([500])
    )
    assert p.mean.shape == grey.shape
