"""Every rule of a reverse step, the chain they are tried on, and where a run with one ends."""

from functools import partial

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.samplers import SAMPLERS, ddim, reverse
from ddpm_app.core.schedules import linear_betas

BETAS = linear_betas(1000)
TRAINED = GaussianDiffusion(BETAS)
SHAPE = (2, 4, 4)
RULES = {**SAMPLERS, "ddim, eta 0.5": partial(ddim, eta=0.5), "ddim, eta 1": partial(ddim, eta=1.0)}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def final(chain, denoiser, rule, seeds, shape=SHAPE, **options):
    *_, last = reverse(chain, denoiser, rule, seeds, shape, **options)
    return last.x_t


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
