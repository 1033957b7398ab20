"""A public page under load: fifty visitors, and two hundred runs of a few."""

import pytest

from ddpm_app.evaluation.load import LoadReport, measure_load
from ddpm_app.evaluation.server import serving

SHEET = {"num_images": 2, "num_inference_steps": 5, "sampler": "ddpm", "model": "tiny-8"}
GROWTH = 40  # MB that two hundred runs may add to a server that is warm


@pytest.fixture
def url(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    arguments = ["--model", "tiny-8", "--checkpoints", str(tiny_pipeline.parent), "--device", "cpu"]
    with serving([*arguments, "--public"]) as url:
        yield url


def sound(report: LoadReport, runs: int) -> None:
    assert report.served + report.refused == runs
    assert report.mixed_up == 0


@pytest.mark.slow
def test_fifty_visitors_at_once_are_all_served_or_told_and_each_gets_the_own_pictures(url, record_property):
    report = measure_load(url, visitors=50, runs_each=1, settings=SHEET)
    record_property("report", report)
    sound(report, 50)
    assert report.served >= 40
    print(report)


@pytest.mark.slow
def test_two_hundred_runs_leave_the_memory_as_it_was(url, record_property):
    report = measure_load(url, visitors=8, runs_each=25, settings=SHEET)
    record_property("report", report)
    sound(report, 200)
    assert report.refused == 0
    assert report.memory_after < report.memory_before + GROWTH
    print(report)
