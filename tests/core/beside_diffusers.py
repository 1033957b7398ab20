"""Steps of diffusers' schedulers and of our chain, from the same x_t, output and noise (diffusers 0.42)."""

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.samplers import ddim, ddpm
from ddpm_app.core.schedules import linear_betas

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
