"""The numbers at a chosen t."""

import pytest

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.schedules import linear_betas
from ddpm_app.engine import Engine
from ddpm_app.ui import build_app
from ddpm_app.ui.levels import noise_level
from tests.ui.conftest import MODEL


def test_the_numbers_at_t_are_those_of_the_paper_s_schedule():
    told = noise_level(GaussianDiffusion(linear_betas(1000)), 1000)
    assert "SNR 4.04e-05" in told
    assert "ᾱ 4.04e-05 · β 0.02" in told
    assert "1.000 ε" in told


@pytest.mark.parametrize("diffusion_steps", [0, 11])
def test_outside_the_chain_nothing_is_told(diffusion_steps: int):
    assert noise_level(GaussianDiffusion(linear_betas(10)), diffusion_steps) == ""


def test_a_model_that_is_not_here_yet_holds_up_no_handler(tiny_copy):
    engine = Engine("cpu", tiny_copy.parent)
    level = next(each.fn for each in build_app(engine, MODEL).fns.values() if each.name == "level")
    assert level("exact-normal", 10) == ""
    assert engine.loaded("exact-normal") is None
    engine.model("exact-normal")
    assert "SNR" in level("exact-normal", 10)
