"""Agreement with diffusers' schedulers, step by step, and each place where ours departs from them on purpose.

The agreement runs diffusers' formulas on float64 tables, so that only the images' float32 rounding is left;
what its own float32 tables cost is a test of its own. Seen with diffusers 0.42.
"""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.samplers import ddim, ddpm
from ddpm_app.core.schedules import linear_betas
from ddpm_app.errors import UserError

T = 1000
BETAS = linear_betas(T)
SHAPE = (1, 3, 8, 8)
NOISE_SEED = 5
ROUNDING = {"rtol": 1e-6, "atol": 1e-6}  # float32, the same products and sums in another order

predictions = pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
clips = pytest.mark.parametrize("clip", [True, False], ids=["clip", "free"])


def randn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X_T, OUTPUT, NOISE = randn(0, *SHAPE), randn(1, *SHAPE), randn(NOISE_SEED, *SHAPE)
VARIANCE_OUTPUT = randn(2, *SHAPE).tanh()


def theirs(kind, steps=T, float64=True, **config):
    scheduler = kind(**config)
    scheduler.set_timesteps(steps)
    if float64:
        scheduler.alphas_cumprod = torch.cumprod(1 - BETAS, 0)
    return scheduler


def chain_of(scheduler, prediction_type="epsilon", variance_type="fixed_small", clip=True):
    """Our chain over the timesteps that their scheduler visits."""
    trained = GaussianDiffusion(BETAS, prediction_type, variance_type, clip)
    return trained.respaced(scheduler.timesteps.tolist()[::-1])


def their_ddpm(scheduler, t, output=OUTPUT):
    return scheduler.step(output, t, X_T, generator=torch.Generator().manual_seed(NOISE_SEED)).prev_sample


def their_ddim(scheduler, t, eta=0.0, clipped=True, output=OUTPUT):
    noise = NOISE if eta else None
    options = {"eta": eta, "use_clipped_model_output": clipped, "variance_noise": noise}
    return scheduler.step(output, t, X_T, **options).prev_sample


def our_ddpm(chain, i, output=OUTPUT):
    return ddpm(chain, chain.p_mean_variance(output, X_T, torch.tensor([i])), X_T, i, lambda: NOISE)


def our_ddim(chain, i, eta=0.0, **options):
    p = chain.p_mean_variance(OUTPUT, X_T, torch.tensor([i]))
    return ddim(chain, p, X_T, i, lambda: NOISE, eta=eta, **options)


def places(chain):
    last = len(chain) - 1
    return sorted({0, 1, 2, last // 4, last // 2, last - 1, last})


def distance(a, b):
    return (a - b).abs().max().item()


# where both agree


@clips
@predictions
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize(("steps", "spacing"), [(1000, "leading"), (50, "leading"), (30, "linspace")])
def test_a_ddpm_step_is_that_of_diffusers(prediction_type, variance_type, steps, spacing, clip):
    config = {"prediction_type": prediction_type, "variance_type": variance_type, "clip_sample": clip}
    scheduler = theirs(DDPMScheduler, steps, timestep_spacing=spacing, **config)
    chain = chain_of(scheduler, prediction_type, variance_type, clip)
    output = torch.cat([OUTPUT, VARIANCE_OUTPUT], 1) if variance_type == "learned_range" else OUTPUT
    for i in places(chain):
        expected = their_ddpm(scheduler, int(chain.timesteps[i]), output)
        torch.testing.assert_close(our_ddpm(chain, i, output), expected, **ROUNDING)


@predictions
@pytest.mark.parametrize("steps", [50, 30, 600])
def test_a_trailing_ddpm_step_is_that_of_diffusers_but_for_the_last(prediction_type, steps):
    config = {"prediction_type": prediction_type, "timestep_spacing": "trailing"}
    scheduler = theirs(DDPMScheduler, steps, variance_type="fixed_large", **config)
    chain = chain_of(scheduler, prediction_type, "fixed_large")
    for i in places(chain)[1:]:
        expected = their_ddpm(scheduler, int(chain.timesteps[i]))
        torch.testing.assert_close(our_ddpm(chain, i), expected, **ROUNDING)


@clips
@predictions
@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize(("steps", "spacing"), [(1000, "leading"), (50, "leading"), (50, "trailing")])
def test_a_ddim_step_is_that_of_diffusers_with_its_clipped_output_option(
    prediction_type, eta, steps, spacing, clip
):
    config = {"prediction_type": prediction_type, "timestep_spacing": spacing, "clip_sample": clip}
    scheduler = theirs(DDIMScheduler, steps, **config)
    chain = chain_of(scheduler, prediction_type, clip=clip)
    for i in places(chain):
        expected = their_ddim(scheduler, int(chain.timesteps[i]), eta)
        torch.testing.assert_close(our_ddim(chain, i, eta), expected, **ROUNDING)


@pytest.mark.parametrize("steps", [1, 2, 50, 100, 500, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_timesteps_are_those_of_diffusers_where_their_number_divides_T(steps, spacing):
    scheduler = theirs(DDPMScheduler, steps, timestep_spacing=spacing)
    ours = GaussianDiffusion(BETAS).respaced(steps, spacing).timesteps
    assert ours.flip(0).tolist() == scheduler.timesteps.tolist()


@pytest.mark.parametrize("steps", [2, 3, 7, 30, 600, 999])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_trailing_and_linspace_timesteps_are_those_of_diffusers_for_any_number_above_1(steps, spacing):
    scheduler = theirs(DDPMScheduler, steps, timestep_spacing=spacing)
    ours = GaussianDiffusion(BETAS).respaced(steps, spacing).timesteps
    assert ours.flip(0).tolist() == scheduler.timesteps.tolist()


def test_q_sample_and_velocity_are_those_of_diffusers():
    scheduler, diffusion = theirs(DDPMScheduler), GaussianDiffusion(BETAS)
    for t in torch.tensor([[0], [1], [499], [999]]):
        # add_noise casts the table to float32 before it subtracts from 1: off by 8e-5 of 0.01 at t = 0
        tolerance = {"rtol": 0, "atol": 5e-6}
        expected = scheduler.add_noise(X_T, NOISE, t)
        torch.testing.assert_close(diffusion.q_sample(X_T, t, NOISE), expected, **tolerance)
        expected = scheduler.get_velocity(X_T, NOISE, t)
        torch.testing.assert_close(diffusion.velocity(X_T, t, NOISE), expected, **tolerance)


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
