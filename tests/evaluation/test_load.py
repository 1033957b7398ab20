"""A public page under load: fifty visitors at once, and two hundred runs of a few."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpm_app.engine import Engine
from ddpm_app.evaluation.load import measure_load
from ddpm_app.evaluation.server import serving

SHEET = {"num_images": 2, "num_inference_steps": 5, "sampler": "ddpm", "model": "tiny-8"}
GROWTH = 40  # MB that another 150 runs may add to a server after 50 of them


@pytest.fixture(scope="module")
def url(tiny_pipeline: Path) -> Iterator[str]:
    arguments = ["--model", "tiny-8", "--checkpoints", str(tiny_pipeline.parent), "--device", "cpu"]
    with serving([*arguments, "--public"]) as url:
        yield url


@pytest.fixture(scope="module")
def alone(tiny_pipeline: Path) -> Engine:
    return Engine("cpu", tiny_pipeline.parent)


@pytest.mark.slow
def test_fifty_visitors_at_once_are_served_or_told_and_each_gets_the_own_pictures(url: str, alone: Engine):
    report = measure_load(url, 50, 1, SHEET, alone)
    print(report)
    assert report.served + report.refused == 50
    assert report.served >= 40
    assert report.mixed_up == 0


@pytest.mark.slow
def test_two_hundred_runs_leave_the_memory_as_it_was(url: str, alone: Engine):
    report = measure_load(url, 8, 25, SHEET, alone)
    print(report)
    assert (report.served, report.refused, report.mixed_up) == (200, 0, 0)
    assert report.memory_after < report.memory_before + GROWTH
