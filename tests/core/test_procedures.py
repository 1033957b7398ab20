import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.procedures import lower_part, mix, slerp, slerp_grid, through
from ddpm_app.core.schedules import linear_betas

TRAINED = GaussianDiffusion(linear_betas(1000))
CHAINS = [TRAINED, TRAINED.respaced(10), TRAINED.respaced([3, 500, 998]), TRAINED.respaced(1)]
WEIGHTS = torch.linspace(0, 1, 5, dtype=torch.float64)
END_A, END_B = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("t", [0, 3, 499, 500, 999])
@pytest.mark.parametrize("chain", CHAINS, ids=len)
def test_a_chain_led_through_t_visits_t_and_all_it_visited_before(chain, t):
    led = through(chain, t)
    assert set(led.timesteps.tolist()) == {*chain.timesteps.tolist(), t}
    # the same process, only seen at one more timestep
    torch.testing.assert_close(led.alphas_cumprod, TRAINED.alphas_cumprod[led.timesteps])


@pytest.mark.parametrize("t", [0, 3, 499, 500, 999])
@pytest.mark.parametrize("chain", CHAINS, ids=len)
def test_the_lower_part_ends_at_t_and_steps_as_the_whole_chain_does(chain, t):
    whole, lower = through(chain, t), lower_part(chain, t)
    assert lower.timesteps[-1] == t
    assert lower.timesteps.tolist() == whole.timesteps.tolist()[: len(lower)]
    torch.testing.assert_close(lower.betas, whole.betas[: len(lower)])


def test_parts_of_a_chain_keep_its_variance_and_prediction():
    chain = GaussianDiffusion(linear_betas(1000), "sample", "fixed_small", clip_denoised=False).respaced(10)
    for part in (through(chain, 555), lower_part(chain, 555)):
        kept = part.prediction_type, part.variance_type, part.clip_denoised
        assert kept == ("sample", "fixed_small", False)


@pytest.mark.parametrize("path", [mix, slerp])
def test_a_path_leads_from_one_end_to_the_other(path):
    points = path(END_A, END_B, WEIGHTS)
    assert points.shape == (5, 3, 4, 4)
    torch.testing.assert_close(points[0], END_A)
    torch.testing.assert_close(points[-1], END_B)


@pytest.mark.parametrize("path", [mix, slerp])
def test_a_path_walked_backwards_is_the_same_path(path):
    torch.testing.assert_close(path(END_B, END_A, WEIGHTS), path(END_A, END_B, WEIGHTS).flip(0))


def test_a_mix_is_linear():
    torch.testing.assert_close(mix(END_A, END_B, WEIGHTS)[1], 0.75 * END_A + 0.25 * END_B)


def test_the_great_circle_keeps_the_norm():
    end_b = END_B * END_A.norm() / END_B.norm()
    points = slerp(END_A, end_b, WEIGHTS)
    torch.testing.assert_close(points.flatten(1).norm(dim=1), END_A.norm().expand(5))
    assert mix(END_A, end_b, WEIGHTS)[2].norm() < 0.9 * END_A.norm()  # which a straight line does not


def test_the_great_circle_turns_by_equal_angles():
    end_b = END_B * END_A.norm() / END_B.norm()
    points = slerp(END_A, end_b, WEIGHTS).flatten(1)
    cosines = torch.nn.functional.cosine_similarity(points[1:], points[:-1])
    torch.testing.assert_close(cosines, cosines[0].expand(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_between_equal_ends_the_great_circle_is_a_point(dtype):
    end = END_A.to(dtype)
    points = slerp(end, end.clone(), WEIGHTS.to(dtype))
    torch.testing.assert_close(points, end.expand(5, -1, -1, -1))


def test_a_grid_has_its_corners_and_walks_the_great_circle_along_its_sides():
    corners = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grid = slerp_grid(corners, WEIGHTS).view(5, 5, 3, 4, 4)
    torch.testing.assert_close(grid[[0, 0, 4, 4], [0, 4, 0, 4]], corners)
    torch.testing.assert_close(grid[0], slerp(corners[0], corners[1], WEIGHTS))
    torch.testing.assert_close(grid[:, 4], slerp(corners[1], corners[3], WEIGHTS))
    torch.testing.assert_close(grid[2], slerp(grid[2, 0], grid[2, 4], WEIGHTS))
