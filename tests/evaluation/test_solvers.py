import pytest
import torch

from ddpm_app.core.images import from_uint8
from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.evaluation.solvers import CONTENDERS, compare_solvers, kernel_distance, nearest_distance

REQUEST = SampleRequest(model="exact-normal", num_images=8)


def pictures(num_images, seed, mean=128):
    """Independent normal pixels with deviation 20, uint8 (N, 1, 4, 4)."""
    noise = torch.randn(num_images, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (mean + 20 * noise).round().clamp(0, 255).to(torch.uint8)


def test_the_kernel_distance_is_its_sum_over_pairs():
    ours, theirs = pictures(3, 1), pictures(4, 2, 150)
    x, y = (from_uint8(some).double().flatten(1) for some in (ours, theirs))

    def mean(pairs):
        values = [float(a @ b / 16 + 1) ** 3 for a, b in pairs]
        return sum(values) / len(values)

    def apart(some):
        return [(some[j], some[k]) for j in range(len(some)) for k in range(len(some)) if j != k]

    expected = mean(apart(x)) + mean(apart(y)) - 2 * mean([(a, b) for a in x for b in y])
    assert kernel_distance(ours, theirs) == pytest.approx(1000 * expected)


def test_the_kernel_distance_of_two_draws_of_one_distribution_is_zero_in_the_mean():
    draws = torch.tensor([kernel_distance(pictures(5, k), pictures(7, 100 + k)) for k in range(60)])
    assert draws.mean().abs() < 4 * draws.std() / 60**0.5
    assert kernel_distance(pictures(5, 1), pictures(7, 2, 160)) > 10 * draws.std()


def test_the_nearest_picture_counts_in_levels():
    theirs = pictures(6, 0)
    assert nearest_distance(theirs[2:4] + 3, theirs) == pytest.approx(3, rel=1e-4)


def test_each_sampler_is_held_against_the_long_run_and_the_data():
    data = torch.full((5, 1, 16, 16), 220, dtype=torch.uint8)
    rows = [row for steps in (5, 20) for row in compare_solvers(Engine("cpu"), REQUEST, steps, data)]
    assert [row.sampler for row in rows] == [*CONTENDERS] * 2
    rmse = {(row.sampler, row.num_inference_steps): row.rmse for row in rows}
    assert rmse["ddim", 20] < rmse["ddim", 5] / 2
    assert rmse["unipc", 20] < rmse["ddim", 20]
    assert {name for (name, _), value in rmse.items() if value is None} == {
        "sde-dpmsolver++",
        "ddim, eta 1",
        "ddpm",
    }
    assert all(
        row.kernel_distance > 0 and row.standard_error > 0 and row.nearest_distance > 0 for row in rows
    )
    assert next(compare_solvers(Engine("cpu"), REQUEST, 5)).kernel_distance is None
