"""Agreement with diffusers' schedulers, step by step.

It runs diffusers' formulas on float64 tables, so that only the images' float32 rounding is left; what its own
float32 tables cost is among the departures.
"""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from ddpm_app.core.diffusion import GaussianDiffusion
from tests.core.beside_diffusers import (
    BETAS,
    NOISE,
    OUTPUT,
    ROUNDING,
    VARIANCE_OUTPUT,
    X_T,
    chain_of,
    clips,
    our_ddim,
    our_ddpm,
    places,
    predictions,
    their_ddim,
    their_ddpm,
    theirs,
)


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


def our_timesteps(steps, spacing):
    return GaussianDiffusion(BETAS).respaced(steps, spacing).timesteps.flip(0).tolist()


def their_timesteps(steps, spacing):
    return theirs(DDPMScheduler, steps, timestep_spacing=spacing).timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 2, 50, 100, 500, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_timesteps_are_those_of_diffusers_where_their_number_divides_T(steps, spacing):
    assert our_timesteps(steps, spacing) == their_timesteps(steps, spacing)


@pytest.mark.parametrize("steps", [2, 3, 7, 30, 600, 999])
@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
def test_trailing_and_linspace_timesteps_are_those_of_diffusers_for_any_number_above_1(steps, spacing):
    assert our_timesteps(steps, spacing) == their_timesteps(steps, spacing)


def test_q_sample_and_velocity_are_those_of_diffusers():
    scheduler, diffusion = theirs(DDPMScheduler), GaussianDiffusion(BETAS)
    for t in torch.tensor([[0], [1], [499], [999]]):
        # add_noise casts the table to float32 before it subtracts from 1: off by 8e-5 of 0.01 at t = 0
        tolerance = {"rtol": 0, "atol": 5e-6}
        expected = scheduler.add_noise(X_T, NOISE, t)
        torch.testing.assert_close(diffusion.q_sample(X_T, t, NOISE), expected, **tolerance)
        expected = scheduler.get_velocity(X_T, NOISE, t)
        torch.testing.assert_close(diffusion.velocity(X_T, t, NOISE), expected, **tolerance)
