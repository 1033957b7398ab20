from dataclasses import replace
from functools import partial

import pytest
import torch

from ddpm_app.core.images import from_uint8, to_uint8
from ddpm_app.core.inversion import reconstruction_error
from ddpm_app.core.procedures import slerp
from ddpm_app.core.samplers import ddim, generators, reverse
from ddpm_app.engine import ReconstructRequest, SampleRequest, SlerpGridRequest
from ddpm_app.engine.procedures import chain_of
from tests.doubles import refusal

MODELS = ["tiny-8", "exact-normal"]
every_model = pytest.mark.parametrize("model", MODELS)


def pictures(engine, model, count=2):
    shape = (count, *engine.model(model).image_shape)
    pixels = torch.randint(80, 180, shape, generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    return tuple(pixels)


def reconstruction(engine, model, steps, **values):
    request = ReconstructRequest(
        model=model, pictures=pictures(engine, model), num_inference_steps=steps, **values
    )
    return request, list(engine.run(request))


@every_model
def test_pictures_go_up_to_x_T_and_come_down_from_it(engine, model):
    request, frames = reconstruction(engine, model, 4)
    assert [frame.t for frame in frames] == [0, 250, 500, 750, 750, 500, 250, 0]
    assert [frame.step for frame in frames] == list(range(1, 9))
    assert {frame.num_steps for frame in frames} == {8}
    assert request.num_images == len(frames[-1].images) == 2
    assert [frame.shared is None for frame in frames] == [True] * 4 + [False] * 4
    assert torch.equal(frames[-1].shared, frames[3].x_t)


def test_what_comes_back_is_the_closer_the_more_steps_it_took(engine):
    x_0 = from_uint8(torch.stack(pictures(engine, "exact-normal")))
    few, many, most = (
        reconstruction_error(x_0, reconstruction(engine, "exact-normal", steps)[1][-1].x_t).mean()
        for steps in (10, 50, 250)
    )
    assert most < many / 10 < few / 60
    assert most < 3e-5


def test_the_x_T_of_a_drawn_picture_is_nearly_the_one_it_was_drawn_from(engine):
    drawn = SampleRequest(model="exact-normal", num_inference_steps=200, num_images=2, seed=5)
    *_, made = engine.run(drawn)
    request = ReconstructRequest(
        model="exact-normal", pictures=tuple(made.images), num_inference_steps=200, timestep_spacing="auto"
    )
    *_, back = engine.run(request)
    x_T = torch.stack(
        [
            torch.randn(x.shape, generator=source)
            for x, source in zip(made.x_t, generators(drawn.seeds), strict=True)
        ]
    )
    assert (back.shared - x_T).abs().mean() < 0.05  # the pictures were rounded to bytes


def test_only_a_deterministic_sampler_can_be_run_upwards(engine):
    one = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for values in ({"eta": 0.5}, {"sampler": "ddpm"}, {"langevin_steps": 1}):
        assert "eta = 0" in refusal(lambda values=values: ReconstructRequest(pictures=(one,), **values))
    assert "1 to 256" in refusal(lambda: ReconstructRequest(pictures=()))
    assert "1 to 256" in refusal(lambda: ReconstructRequest(pictures=one))
    assert "uint8" in refusal(lambda: ReconstructRequest(pictures=[one.float()]))
    small = ReconstructRequest(model="tiny-8", pictures=(one[:, :4],))
    assert "resize" in refusal(lambda: list(engine.run(small)))


@every_model
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_corners_of_a_grid_start_from_its_four_seeds(engine, model, eta):
    request = SlerpGridRequest(model=model, edge=3, num_inference_steps=5, seed=11, eta=eta, sampler="ddim")
    assert request.num_images == 9
    assert request.corners == [11, 12, 13, 14]
    *_, last = engine.run(request)
    shape = engine.model(model).image_shape
    x_T = torch.stack([torch.randn(shape, generator=source) for source in generators(request.corners)])
    assert torch.equal(last.shared, x_T)
    corners = last.images[[0, 2, 6, 8]].int()
    if eta == 0:
        plain = SampleRequest(model=model, num_inference_steps=5, seed=11, num_images=4)
        *_, alone = engine.run(plain)
        assert (corners - alone.images.int()).abs().max() <= 1
    else:  # all by one noise, which is no corner's own
        loaded = engine.model(model)
        rule = partial(ddim, eta=eta)
        *_, alone = reverse(chain_of(request, loaded), loaded.denoiser, rule, [15] * 4, shape, x_t=x_T)
        assert (corners - to_uint8(alone.x_t).int()).abs().max() <= 1


def test_the_middle_of_a_side_starts_from_the_middle_of_the_circle(engine, watch):
    seen = []
    watch(lambda x_t, t: seen.append(x_t))
    (frame,) = engine.run(SlerpGridRequest(model="exact-normal", edge=3, num_inference_steps=1, seed=2))
    middle = slerp(frame.shared[0], frame.shared[1], torch.tensor([0.5]))
    torch.testing.assert_close(seen[0][1], middle[0])


def test_a_grid_is_corrected_as_it_is_asked_to_be(engine):
    plain = SlerpGridRequest(model="exact-normal", edge=2, num_inference_steps=5)
    *_, without = engine.run(plain)
    *_, corrected = engine.run(replace(plain, langevin_steps=2))
    assert not torch.allclose(without.x_t, corrected.x_t, atol=0.01)


def test_a_grid_has_two_to_twelve_pictures_along_a_side():
    for edge in (1, 13, 2.5, float("nan")):
        assert refusal(lambda edge=edge: SlerpGridRequest(edge=edge)).startswith(
            "edge must be a whole number"
        )
    assert replace(SlerpGridRequest(edge=4), edge=2).num_images == 4
