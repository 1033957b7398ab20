"""Which timesteps a shorter chain visits, and the tables it has there."""

from typing import get_args

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion, Spacing, spaced_timesteps
from ddpm_app.core.schedules import SCHEDULES, linear_betas, zero_terminal_snr
from ddpm_app.errors import UserError

T = 1000
LINEAR = linear_betas(T)
COUNTS = [1, 2, 3, 7, 30, 600, 999, 1000]


@pytest.mark.parametrize("spacing", get_args(Spacing))
@pytest.mark.parametrize("steps", COUNTS)
def test_a_number_of_steps_gives_exactly_that_many_whether_or_not_it_divides_T(steps, spacing):
    visited = GaussianDiffusion(LINEAR).respaced(steps, spacing).timesteps
    assert len(visited) == steps
    assert (visited.diff() > 0).all()
    assert visited[0] >= 0
    assert visited[-1] < T
    # nowhere further apart than evenness and rounding ask for
    assert steps == 1 or visited.diff().max() <= (T - 1) / (steps - 1) + 1


@pytest.mark.parametrize("spacing", get_args(Spacing))
def test_every_count_fits_into_a_chain_of_40(spacing):
    for steps in range(1, 41):
        visited = spaced_timesteps(40, steps, spacing)
        assert len(visited) == steps
        assert visited == sorted(set(visited) & set(range(40)))


@pytest.mark.parametrize(
    ("spacing", "steps", "first_visited", "last_visited"),
    [
        ("leading", 50, 980, 0),
        ("leading", 600, 998, 0),
        ("leading", 1, 0, 0),
        ("trailing", 50, 999, 19),
        ("trailing", 600, 999, 1),
        ("trailing", 1, 999, 999),
        ("linspace", 50, 999, 0),
        ("linspace", 600, 999, 0),
        ("linspace", 1, 999, 999),
    ],
)
def test_the_spacing_decides_where_sampling_starts_and_ends(spacing, steps, first_visited, last_visited):
    timesteps = GaussianDiffusion(LINEAR, timestep_spacing=spacing).respaced(steps).timesteps
    assert (timesteps[-1], timesteps[0]) == (first_visited, last_visited)


@pytest.mark.parametrize("timesteps", [*COUNTS, [0, 1, 2], [999], [0, 3, 500, 501, 999]], ids=str)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_respaced_chain_has_the_alpha_bar_of_the_visited_timesteps(timesteps, name):
    trained = GaussianDiffusion(SCHEDULES[name](T))
    chain = trained.respaced(timesteps)
    visited = chain.timesteps
    # multiplied up again from the new betas: 1000 roundings, each 1e-16 where beta is near 1
    torch.testing.assert_close(chain.alphas_cumprod, trained.alphas_cumprod[visited], rtol=1e-10, atol=1e-15)
    before = torch.cat([torch.ones(1, dtype=torch.float64), trained.alphas_cumprod[visited[:-1]]])
    torch.testing.assert_close(chain.alphas_cumprod_prev, before, rtol=1e-10, atol=0)
    torch.testing.assert_close(chain.betas, 1 - trained.alphas_cumprod[visited] / before, rtol=1e-12, atol=0)


def test_the_timestep_before_is_the_one_visited_next_and_not_t_minus_T_over_S():
    trained = GaussianDiffusion(LINEAR)
    chain = trained.respaced(7, "trailing")
    assert chain.timesteps.tolist() == [142, 285, 428, 570, 713, 856, 999]
    assert chain.alphas_cumprod_prev[3].item() == pytest.approx(trained.alphas_cumprod[428].item())
    assert chain.alphas_cumprod_prev[0] == 1


def test_a_chain_of_all_its_timesteps_is_the_trained_one():
    trained = GaussianDiffusion(LINEAR)
    chain = trained.respaced(T)
    # 1 - alpha-bar[t] / alpha-bar[t - 1] rounds at 1e-16, beta is 1e-4
    torch.testing.assert_close(chain.betas, trained.betas, rtol=5e-12, atol=0)


def test_respacing_a_respaced_chain_goes_back_to_the_trained_one():
    trained = GaussianDiffusion(LINEAR)
    twice = trained.respaced(7).respaced(600)
    assert twice.trained is trained
    assert torch.equal(twice.timesteps, trained.respaced(600).timesteps)
    assert torch.equal(twice.betas, trained.respaced(600).betas)


def test_respacing_keeps_what_else_the_chain_was_told():
    chain = GaussianDiffusion(LINEAR, "sample", "fixed_small", False, timestep_spacing="trailing").respaced(5)
    kept = (chain.prediction_type, chain.variance_type, chain.clip_denoised, chain.timestep_spacing)
    assert kept == ("sample", "fixed_small", False, "trailing")


@pytest.mark.parametrize("timesteps", [[], [5, 5], [7, 3], [-1, 4], [0, 1000]], ids=str)
def test_timesteps_that_do_not_increase_within_the_chain_raise(timesteps):
    with pytest.raises(UserError, match=r"timesteps must increase within 0\.\.999"):
        GaussianDiffusion(LINEAR).respaced(timesteps)


@pytest.mark.parametrize("steps", [0, -1, 1001, 2000])
def test_a_number_of_steps_outside_the_chain_raises_and_tells_the_range(steps):
    with pytest.raises(UserError, match=rf"num_inference_steps must lie in 1\.\.1000.*got {steps}"):
        GaussianDiffusion(LINEAR).respaced(steps)


def test_learned_variances_of_single_steps_cannot_be_respaced():
    diffusion = GaussianDiffusion(LINEAR, variance_type="learned")
    with pytest.raises(UserError, match="needs all 1000"):
        diffusion.respaced(50)
    assert len(diffusion.respaced(T)) == T
    assert len(diffusion.with_variance("fixed_small").respaced(50)) == 50


def test_alpha_bar_of_a_respaced_chain_is_that_of_the_trained_one_to_the_last_bit():
    diffusion = GaussianDiffusion(linear_betas(4000))
    for steps in (1, 2, 7):
        chain = diffusion.respaced(steps, "trailing")
        assert torch.equal(chain.alphas_cumprod, diffusion.alphas_cumprod[chain.timesteps])
        assert torch.equal(chain.with_variance("fixed_small").alphas_cumprod, chain.alphas_cumprod)


def test_predicting_eps_is_refused_where_nothing_of_the_image_is_left():
    with pytest.raises(UserError, match="v_prediction"):
        GaussianDiffusion(zero_terminal_snr(LINEAR), "epsilon")


def test_a_learned_variance_of_single_steps_is_refused_on_a_respaced_chain_however_it_is_asked_for():
    with pytest.raises(UserError, match="single steps"):
        GaussianDiffusion(LINEAR).respaced(50).with_variance("learned")
