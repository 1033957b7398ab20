"""The whole bound on normal data, against the value that theory gives, in float64.

The expectation over x_0 runs over the 256 levels with their own masses, that over the noise over the nodes of
Gauss and Hermite, so that nothing is sampled: rows are levels, columns are nodes.
"""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.images import from_uint8
from ddpm_app.core.likelihood import prior_bits, vb_bits
from ddpm_app.core.oracle import normal_denoiser
from ddpm_app.core.schedules import cosine_betas, linear_betas

MEAN, STD = 0.1, 0.25
LEVELS = from_uint8(torch.arange(256, dtype=torch.uint8)).double()
EDGES = Normal(torch.tensor(MEAN, dtype=torch.float64), STD).cdf((LEVELS[1:] + LEVELS[:-1]) / 2)
MASS = torch.cat([EDGES[:1], EDGES.diff(), 1 - EDGES[-1:]])
ENTROPY = -(MASS * MASS.log2()).sum().item()  # bits a pixel, below which no code can go
SCHEDULES = {"linear": linear_betas, "cosine": cosine_betas}


def chain(schedule, variance_type, num_steps=1000):
    return GaussianDiffusion(SCHEDULES[schedule](num_steps), "epsilon", variance_type, clip_denoised=False)


def measured_terms(diffusion, i, num_nodes):
    """The terms at the places i of this data as the program computes them."""
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(num_nodes))
    x_0 = LEVELS[:, None].expand(len(i), 1, 256, num_nodes)
    x_t = diffusion.q_sample(x_0, i, nodes)
    bits, _ = vb_bits(diffusion, normal_denoiser(diffusion, MEAN, STD), x_0, x_t, i)
    return (bits[:, 0] * MASS[:, None] * weights / weights.sum()).sum((1, 2))


def theory_of_the_steps(diffusion):
    """L_1, ..., L_{T-1} by what is unknown of x_0 at each signal-to-noise ratio.

    With the small variance each is half the drop of the SNR times that error (Kingma et al. 2021, eq. 14); a
    variance r times as large divides it by r and adds what the wrong width costs.
    """
    snr = diffusion.alphas_cumprod / (1 - diffusion.alphas_cumprod)
    spread = (MASS * (LEVELS - MEAN) ** 2).sum()  # of the levels, a little more than STD^2
    shrunk = 1 / (1 + STD**2 * snr)  # x_0 - x0-hat = shrunk (x_0 - mean) - noise's part
    unknown = shrunk**2 * spread + (1 - shrunk) ** 2 / snr
    fixed = diffusion.betas if diffusion.variance_type == "fixed_large" else diffusion.posterior_variance
    ratio = (fixed / diffusion.posterior_variance)[1:]
    nats = (snr[:-1] - snr[1:]) * unknown[1:] / 2 / ratio + (1 / ratio - 1 + ratio.log()) / 2
    return nats / math.log(2)


def theory_of_the_decoder(diffusion):
    """L_0: minus the log-mass of each level's bin around x0-hat, over all levels and a fine grid of noise."""
    z = torch.linspace(-7, 7, 4001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    signal, noise_variance = diffusion.alphas_cumprod[0].sqrt(), 1 - diffusion.alphas_cumprod[0]
    x_1 = signal * LEVELS[:, None] + noise_variance.sqrt() * z
    precision = 1 / STD**2 + signal**2 / noise_variance
    pred_x0 = (MEAN / STD**2 + signal * x_1 / noise_variance) / precision  # the normal posterior
    bin_of = Normal(pred_x0, diffusion.posterior_variance[1].sqrt())
    inside = slice(1, 255)
    mass = torch.empty(256, 4001, dtype=torch.float64)
    mass[inside] = (bin_of.cdf(LEVELS[:, None] + 1 / 255) - bin_of.cdf(LEVELS[:, None] - 1 / 255))[inside]
    mass[0], mass[255] = bin_of.cdf(LEVELS[:1] + 1 / 255)[0], 1 - bin_of.cdf(LEVELS[255:] - 1 / 255)[255]
    return -(MASS[:, None] * density * mass.clamp(min=1e-300).log2()).sum()


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_bound_on_normal_data_is_what_theory_gives(schedule, variance_type):
    diffusion = chain(schedule, variance_type)
    steps = measured_terms(diffusion, torch.arange(1, 1000), 3)  # exact for a square of the noise
    torch.testing.assert_close(steps, theory_of_the_steps(diffusion), rtol=1e-8, atol=1e-14)
    decoder = measured_terms(diffusion, torch.tensor([0]), 96)
    assert decoder.item() == pytest.approx(theory_of_the_decoder(diffusion).item(), rel=1e-6)
    prior = MASS @ prior_bits(diffusion, LEVELS.view(1, 1, 256, 1)).flatten()
    left = diffusion.alphas_cumprod[-1]
    theory_of_the_prior = (left * (MASS @ LEVELS**2) - left - torch.log1p(-left)) / 2 / math.log(2)
    assert prior.item() == pytest.approx(theory_of_the_prior.item(), rel=1e-6)
    gap = (prior + steps.sum() + decoder).item() - ENTROPY
    assert 0 < gap < (0.25 if variance_type == "fixed_large" else 0.8)


def test_more_steps_bring_the_bound_towards_the_entropy_of_the_data():
    gaps = []
    for num_steps in (50, 200, 1000):
        diffusion = chain("linear", "fixed_small").respaced(num_steps)
        gaps.append(
            (theory_of_the_steps(diffusion).sum() + theory_of_the_decoder(diffusion)).item() - ENTROPY
        )
    assert gaps[0] > gaps[1] > gaps[2] > 0
