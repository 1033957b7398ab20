import pytest
import torch

from ddpm_app.core.toys import TOYS
from ddpm_app.engine.flow import ARROWS, EXTENT, NUM_LEVELS, PIXELS, FlowRequest, field_of, flow
from tests.doubles import refusal

HOW = {
    "ddpm": {"sampler": "ddpm"},
    "ddim": {"sampler": "ddim"},
    "predictor-corrector": {"sampler": "ddpm", "langevin_steps": 1},
    "annealed Langevin": {"sampler": "langevin", "langevin_steps": 2},
}


@pytest.mark.parametrize("how", HOW.values(), ids=HOW.keys())
def test_every_particle_comes_from_its_own_noise_and_ends_at_a_point_of_the_data(how):
    found = flow(FlowRequest(toy="five points", num_inference_steps=40, num_particles=12, seed=3, **how))
    assert found.particles.shape == (41, 12, 2)
    assert found.t[0] == 1000
    assert found.t[-1] == 0
    own = torch.randn((2, 1, 1), generator=torch.Generator().manual_seed(3 + 4))
    assert torch.equal(found.particles[0, 4], own.flatten())
    distances = torch.cdist(found.particles[-1].double(), TOYS["five points"]())
    assert distances.amin(1).max() < 1e-3
    assert len(distances.argmin(1).unique()) > 1


def test_a_particle_flows_alike_alone_and_among_others():
    many = flow(FlowRequest(num_inference_steps=5, num_particles=6, seed=3, langevin_steps=1))
    alone = flow(FlowRequest(num_inference_steps=5, num_particles=1, seed=7, langevin_steps=1))
    # float32 rounding of sums over the points
    torch.testing.assert_close(many.particles[:, 4], alone.particles[:, 0], rtol=0, atol=1e-5)


def test_the_field_points_home_at_every_level_and_upwards_is_a_later_row():
    field = field_of("five points")
    assert field.t[0] == 1000
    assert field.t[-1] == 0
    scores = field.scores.view(NUM_LEVELS, ARROWS, ARROWS, 2)
    assert (scores[:, 0, :, 1] > 0).all()  # from the lowest row up
    assert (scores[:, :, -1, 0] < 0).all()  # from the rightmost column to the left
    x, y = field.points[0]
    row, column = (int((value / EXTENT + 1) / 2 * PIXELS) for value in (y, x))
    assert field.density[-1, row, column] > 0.3
    assert field.density.amax((1, 2)).tolist() == [1.0] * NUM_LEVELS
    assert field.density.amin() < 1e-6


def test_what_cannot_flow_gets_its_sentence():
    assert "two moons" in refusal(lambda: FlowRequest(toy="square"))
    assert "ddpm" in refusal(lambda: FlowRequest(sampler="magic"))
    assert "langevin_snr" in refusal(lambda: FlowRequest(langevin_snr=float("nan")))
    assert "num_particles" in refusal(lambda: FlowRequest(num_particles=10**6))
