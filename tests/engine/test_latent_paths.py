"""Interpolation of latents: a path on the sphere between two seeds."""

import pytest
import torch

from ddpm_app.core.procedures import slerp
from ddpm_app.core.samplers import SAMPLERS, generators, reverse
from ddpm_app.engine import (
    SampleRequest,
    SlerpRequest,
)
from tests.engine.test_procedures import STEPS, close, every_model


def reached_by(frame, model):
    """p(x_{t-1} | x_T) at the two ends of a latent path of two steps."""
    chain = model.diffusion.respaced(2)
    t = torch.full((2,), int(chain.timesteps[-1]))
    return chain.p_mean_variance(model.denoiser(frame.shared, t), frame.shared, torch.tensor([1, 1]))


@every_model
@pytest.mark.parametrize("seeds", [(3, 8), (8, 3), (3, 3), (3, 4)])
def test_the_ends_of_a_latent_path_are_the_samples_of_the_two_seeds(engine, model, seeds):
    plain = {"model": model, "num_inference_steps": STEPS}
    *_, path = engine.run(SlerpRequest(**plain, seed=seeds[0], other_seed=seeds[1], num_images=4))
    for k, seed in zip((0, -1), seeds, strict=True):
        *_, alone = engine.run(SampleRequest(**plain, seed=seed, num_images=1))
        assert close(path.x_t[k], alone.x_t[0])


def test_a_latent_path_starts_on_the_great_circle(engine):
    request = SlerpRequest(model="exact-normal", num_inference_steps=2, seed=3, other_seed=8, num_images=4)
    frame = next(engine.run(request))
    x_T = torch.stack([torch.randn(1, 16, 16, generator=source) for source in generators([3, 8])])
    assert torch.equal(frame.shared, x_T)
    model = engine.model("exact-normal")
    chain = model.diffusion.respaced(2)
    states = slerp(*x_T, torch.linspace(0, 1, 4))
    expected = next(reverse(chain, model.denoiser, SAMPLERS["ddim"], [0] * 4, model.image_shape, x_t=states))
    torch.testing.assert_close(frame.x_t, expected.x_t)


@pytest.mark.parametrize("seeds", [(0, 1), (5, 5), (7, 6)])
def test_the_noise_along_a_latent_path_is_in_neither_of_its_ends(engine, seeds):
    request = SlerpRequest(
        model="exact-normal",
        sampler="ddpm",
        num_inference_steps=2,
        num_images=2,
        seed=seeds[0],
        other_seed=seeds[1],
    )
    frame, model = next(engine.run(request)), engine.model("exact-normal")
    p = reached_by(frame, model)
    noise = (frame.x_t - p.mean) / (p.log_variance / 2).exp()
    torch.testing.assert_close(noise[0], noise[1], rtol=0, atol=1e-3)
    for end in frame.shared:
        # over 256 pixels independent noise correlates by 0.06, and by 0.3 never
        assert torch.corrcoef(torch.stack([noise[0].flatten(), end.flatten()]))[0, 1].abs() < 0.3
