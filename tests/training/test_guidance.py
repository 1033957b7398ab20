from dataclasses import replace

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.schedules import SCHEDULES
from ddpm_app.models import read_network
from ddpm_app.training import train
from ddpm_app.training.batches import Batch
from ddpm_app.training.guidance import Guidance
from ddpm_app.training.network import build_unet
from tests.doubles import refusal, save_pipeline
from tests.training.runs import assert_same_weights

T = 8


def model(folder, config, seed: int, **scheduler) -> str:
    """A model of random weights that the run's seeds do not make."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return str(save_pipeline(folder, build_unet(config), **scheduler))


@pytest.fixture
def guided(config, tmp_path):
    """A run that begins with one model and is led away from another."""
    betas = {"num_train_timesteps": T, "trained_betas": chain(config).betas.tolist()}
    better, weaker = (model(tmp_path / name, config, seed, **betas) for name, seed in (("a", 7), ("b", 8)))
    return replace(config, init_from=better, guide=weaker, guidance_scale=3.0)


def chain(config) -> GaussianDiffusion:
    return GaussianDiffusion(SCHEDULES[config.schedule](config.num_train_timesteps), config.prediction_type)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(T, 3, 8, 8, generator=generator) * 2 - 1
    return Batch(x_0, torch.arange(T), torch.randn(x_0.shape, generator=generator), torch.ones(T))


def x0_hat(name: str, diffusion: GaussianDiffusion, x_t, t):
    network = read_network(name)[0].eval()
    with torch.inference_mode():
        return diffusion.predict_x0(x_t, t, network(x_t, t).sample)


def test_the_guided_picture_lies_beyond_the_better_model_s_as_seen_from_the_weaker_one(guided):
    diffusion, given = chain(guided), batch()
    x_t = diffusion.q_sample(given.x_0, given.t, given.noise)
    better = x0_hat(guided.init_from, diffusion, x_t, given.t)
    weaker = x0_hat(guided.guide, diffusion, x_t, given.t)
    found = Guidance(guided, diffusion, torch.device("cpu"))(given)
    torch.testing.assert_close(found.x_0, weaker + 3 * (better - weaker), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(diffusion.q_sample(found.x_0, found.t, found.noise), x_t)
    assert torch.equal(found.t, given.t)


def test_below_its_first_timestep_the_pictures_themselves_are_learned(guided):
    given = batch()
    for share, first in ((0.5, 4), (1.0, 8)):
        guidance = Guidance(replace(guided, guidance_from=share), chain(guided), torch.device("cpu"))
        found = guidance(given)
        alike = [torch.equal(a, b) for a, b in zip(found.x_0, given.x_0, strict=True)]
        assert alike == [True] * first + [False] * (T - first)
        assert torch.equal(found.noise[:first], given.noise[:first])


def test_a_weaker_model_of_another_chain_is_asked_where_it_is_as_noisy(guided, config, tmp_path):
    other = model(tmp_path / "c", config, 9, num_train_timesteps=1000, prediction_type="v_prediction")
    guided, diffusion, given = replace(guided, guide=other), chain(guided), batch()
    network, its = read_network(other)
    apart = its.alphas_cumprod - diffusion.alphas_cumprod[:, None]
    its_t = apart.abs().argmin(1)
    assert apart.gather(1, its_t[:, None]).abs().max() < 0.01
    x_t = diffusion.q_sample(given.x_0, given.t, given.noise)
    with torch.inference_mode():
        v = network.eval()(x_t, its_t).sample
    weaker = its.gather(its.alphas_cumprod.sqrt(), its_t, x_t) * x_t
    weaker -= its.gather((1 - its.alphas_cumprod).sqrt(), its_t, x_t) * v
    better = x0_hat(guided.init_from, diffusion, x_t, given.t)
    found = Guidance(guided, diffusion, torch.device("cpu"))(given)
    torch.testing.assert_close(found.x_0, weaker + 3 * (better - weaker), rtol=1e-4, atol=1e-4)


def test_a_run_learns_what_its_teachers_say_whatever_the_pictures_are(guided, tmp_path):
    """With the better model's own prediction as the target there is nothing left to learn."""
    own = replace(guided, guidance_scale=1.0)
    assert next(train(own, report_every=1)).loss == pytest.approx(0, abs=1e-9)
    led = replace(guided, out=str(tmp_path / "led"), num_steps=40, learning_rate=3e-3, batch_size=16)
    losses = [at.loss for at in train(led, report_every=10)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_guided_run_that_was_stopped_and_resumed_ends_with_the_same_weights(guided, tmp_path):
    list(train(guided))
    stopped = replace(guided, out=str(tmp_path / "stopped"), save_every=2)
    asked = iter([False, True])
    list(train(stopped, stopping=lambda: next(asked)))
    list(train(stopped))
    assert_same_weights(guided.out, stopped.out)


def test_a_guide_of_other_pictures_is_refused(guided, config, tmp_path):
    gray = model(tmp_path / "gray", replace(config, channels=1), 7)
    assert "channels" in refusal(lambda: list(train(replace(guided, guide=gray))))
