import math
from functools import partial

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.langevin import correct, langevin, score
from ddpm_app.core.oracle import normal_denoiser
from ddpm_app.core.samplers import ddim, ddpm, generators, reverse
from ddpm_app.core.schedules import linear_betas

DIFFUSION = GaussianDiffusion(linear_betas(1000), clip_denoised=False)
MEAN, STD = 0.2, 0.5
DENOISER = normal_denoiser(DIFFUSION, MEAN, STD)
SHAPE = (1, 64, 64)


def drawing(seeds, shape=SHAPE):
    sources = generators(seeds)
    return lambda: torch.stack([torch.randn(shape, generator=source) for source in sources])


def final(chain, rule, seeds, shape=SHAPE, **options):
    *_, last = reverse(chain, DENOISER, rule, seeds, shape, **options)
    return last.x_t


@pytest.mark.parametrize("t", [0, 300, 999])
def test_the_score_of_normal_data_is_that_of_the_normal_x_t(t):
    x_t = drawing([0])().double()
    alpha_bar = DIFFUSION.alphas_cumprod[t]
    variance = alpha_bar * STD**2 + 1 - alpha_bar
    found = score(DIFFUSION, DENOISER(x_t, torch.tensor([t])), t)
    # float64
    torch.testing.assert_close(found, (alpha_bar.sqrt() * MEAN - x_t) / variance, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("snr", [0.1, 0.3])
def test_langevin_steps_reach_the_level_from_afar_and_stay_there(snr):
    i, seeds = 300, [0, 1]
    alpha_bar = DIFFUSION.alphas_cumprod[i].item()
    mean, std = math.sqrt(alpha_bar) * MEAN, math.sqrt(alpha_bar * STD**2 + 1 - alpha_bar)
    afar = torch.full((2, *SHAPE), 2.0)
    x_t = correct(DIFFUSION, DENOISER, afar, i, drawing(seeds), num_steps=round(8 / snr**2), snr=snr)
    # steps of 2 alpha r^2 times the variance widen it by 1 / (1 - alpha r^2); four standard errors besides
    error = 4 * std / math.sqrt(x_t.numel())
    inflated = std / math.sqrt(1 - DIFFUSION.alphas[i].item() * snr**2)
    assert x_t.mean().item() == pytest.approx(mean, abs=error)
    assert x_t.std().item() == pytest.approx(inflated, abs=error)


@pytest.mark.parametrize("timesteps", [1000, [10, 999]], ids=str)
def test_a_step_is_that_of_algorithm_5_with_the_alpha_of_the_trained_chain(timesteps):
    chain = DIFFUSION.respaced(timesteps)
    x_t, noise = drawing([0, 1])().double(), drawing([2, 3])().double()
    found = correct(chain, DENOISER, x_t, len(chain) - 1, lambda: noise, num_steps=1, snr=0.2)
    uphill = score(DIFFUSION, DENOISER(x_t, torch.tensor([999, 999])), 999)
    for k in range(2):
        delta = 2 * (1 - 0.02) * (0.2 * noise[k].norm() / uphill[k].norm()) ** 2
        # float64
        torch.testing.assert_close(
            found[k], x_t[k] + delta * uphill[k] + (2 * delta).sqrt() * noise[k], rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("rule", [ddpm, ddim], ids=["ddpm", "ddim"])
def test_predictor_and_corrector_recover_normal_data(rule):
    chain = DIFFUSION.respaced(200)
    pixels = final(chain, rule, [0, 1], corrector=partial(correct, num_steps=1, snr=0.1))
    error = 4 * STD / math.sqrt(pixels.numel())
    assert pixels.mean().item() == pytest.approx(MEAN, abs=error)
    # 1 % for the Langevin steps' own width and for 200 steps in place of infinitely many
    assert pixels.std().item() == pytest.approx(STD, abs=error + 0.01 * STD)


def test_a_corrector_mends_what_too_few_large_steps_widen():
    chain = DIFFUSION.respaced(20)
    plain = final(chain, ddpm, [0, 1]).std().item()
    mended = final(chain, ddpm, [0, 1], corrector=partial(correct, num_steps=8, snr=0.1)).std().item()
    assert abs(mended - STD) < 0.5 * abs(plain - STD)


def test_no_corrector_steps_leave_the_sampler_as_it_was():
    chain = DIFFUSION.respaced(10)
    corrected = final(chain, ddpm, [3, 4], corrector=partial(correct, num_steps=0))
    assert torch.equal(corrected, final(chain, ddpm, [3, 4]))


@pytest.mark.parametrize("rule", [ddpm, langevin], ids=["ddpm", "langevin"])
def test_a_corrected_image_depends_on_its_own_seed_alone(rule):
    chain, corrector = DIFFUSION.respaced(6), partial(correct, num_steps=2)
    batch = final(chain, rule, [3, 4, 5], corrector=corrector)
    for k, seed in enumerate([3, 4, 5]):
        assert torch.equal(final(chain, rule, [seed], corrector=corrector)[0], batch[k])


def test_the_network_is_asked_at_the_level_that_is_corrected_and_never_after_the_last_step():
    chain, asked = DIFFUSION.respaced([10, 500, 900]), []

    def denoiser(x_t, t):
        asked.append(int(t[0]))
        return DENOISER(x_t, t)

    list(reverse(chain, denoiser, ddpm, [0], SHAPE, corrector=partial(correct, num_steps=2)))
    assert asked == [900, 500, 500, 500, 10, 10, 10]
