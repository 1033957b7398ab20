import math

import pytest
import torch

from ddpm_app.evaluation.quality import (
    Features,
    frechet_distance,
    inception_score,
    moments,
    precision_recall,
    quality,
    some,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(size, seed):
    factor = normal(size, size, seed=seed)
    return factor @ factor.T / size


def test_between_independent_normals_the_distance_is_that_of_means_and_deviations():
    means, deviations = normal(2, 5), 0.2 + normal(2, 5, seed=1).abs()
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    found = frechet_distance(means[0], deviations[0].square().diag(), means[1], deviations[1].square().diag())
    assert found == pytest.approx(expected.item(), rel=1e-12)


def test_covariances_that_do_not_commute_agree_with_the_roots_of_their_product():
    a, b = covariance(7, 0), covariance(7, 1)
    assert not torch.allclose(a @ b, b @ a)
    roots = torch.linalg.eigvals(a @ b).sqrt()  # of a product that is not symmetric
    expected = (a.trace() + b.trace() - 2 * roots.real.sum()).item()
    assert frechet_distance(torch.zeros(7), a, torch.zeros(7), b) == pytest.approx(expected, rel=1e-10)


def test_the_distance_is_symmetric_and_zero_from_a_set_to_itself_even_with_few_rows():
    few, others = normal(5, 40), normal(8, 40, seed=1) + 1
    ours, theirs = moments(few), moments(others)
    assert frechet_distance(*ours, *ours) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(*ours, *theirs) == pytest.approx(frechet_distance(*theirs, *ours), rel=1e-8)


def test_moments_are_those_of_the_rows_in_double_precision():
    rows = normal(500, 3).float() + 1000
    mean, cov = moments(rows)
    assert mean.dtype == cov.dtype == torch.float64
    torch.testing.assert_close(mean, rows.double().mean(0))
    torch.testing.assert_close(cov.diag(), rows.double().var(0))


def test_the_score_is_1_without_any_preference_and_the_number_of_classes_when_sure_of_each():
    assert inception_score(torch.zeros(20, 8)) == (pytest.approx(1), None)
    sure = 1000 * torch.eye(8).repeat(5, 1)
    assert inception_score(sure) == (pytest.approx(8), None)
    one_class_alone = 1000 * torch.eye(8)[:1].repeat(20, 1)
    assert inception_score(one_class_alone)[0] == pytest.approx(1)


def test_the_score_is_the_exponential_of_what_the_classes_tell():
    logits = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log()
    marginal = (0.7, 0.3)
    told = [
        sum(p * math.log(p / m) for p, m in zip(row, marginal, strict=True))
        for row in ((0.9, 0.1), (0.5, 0.5))
    ]
    assert inception_score(logits)[0] == pytest.approx(math.exp(sum(told) / 2))


def test_from_5000_pictures_on_the_score_has_ten_splits_and_their_deviation():
    logits = 2 * normal(5000, 6)
    mean, deviation = inception_score(logits)
    parts = [inception_score(part)[0] for part in logits.chunk(10)]
    assert mean == pytest.approx(sum(parts) / 10)
    assert deviation == pytest.approx(torch.tensor(parts).std(correction=0).item(), rel=1e-4)


def naively(rows, manifold, neighbours):
    """Equation 1 of Kynkäänniemi et al., row by row."""
    radii = [sorted((each - row).norm().item() for each in manifold)[neighbours] for row in manifold]
    inside = [
        any((row - each).norm() <= radius for each, radius in zip(manifold, radii, strict=True))
        for row in rows
    ]
    return sum(inside) / len(inside)


def test_precision_and_recall_are_those_of_the_definition_however_the_rows_are_parted(monkeypatch):
    monkeypatch.setattr("ddpm_app.evaluation.quality.BLOCK", 7)
    real, generated = normal(40, 3), 0.7 * normal(30, 3, seed=1) + 0.5
    found = precision_recall(real, generated, neighbours=2)
    assert found == (naively(generated, real, 2), naively(real, generated, 2))
    assert 0 < found[1] < found[0] < 1


def test_samples_of_one_mode_of_two_are_precise_and_recall_half():
    real = torch.cat([normal(200, 2), normal(200, 2, seed=1) + 50])
    precision, recall = precision_recall(real, normal(200, 2, seed=2))
    assert precision > 0.95
    assert 0.4 < recall <= 0.5


def test_precision_compares_equally_many_and_the_distance_all():
    logits = torch.zeros(400, 4)
    data, ours = Features(normal(400, 3), logits), Features(normal(60, 3, seed=1), logits[:60])
    found = quality(ours, data)
    assert (found.num_images, found.num_reference, found.num_compared) == (60, 400, 60)
    assert found.fid == frechet_distance(*moments(ours.vectors), *moments(data.vectors))
    assert (found.precision, found.recall) == precision_recall(data.vectors[some(400, 60)], ours.vectors)
    assert len(set(some(400, 60).tolist())) == 60
