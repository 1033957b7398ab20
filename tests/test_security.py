"""SECURITY.md tells numbers: they are those of the code."""

from pathlib import Path

import gradio as gr
import pytest

from ddpm_app import pictures
from ddpm_app.engine import limits
from ddpm_app.ui import app, files, gate, launch_options, public
from ddpm_app.ui.tabs import evaluate

TOLD = " ".join(Path(__file__).parents[1].joinpath("SECURITY.md").read_text(encoding="utf-8").split())
MB = 10**6


@pytest.fixture
def page() -> gr.Blocks:
    return app.build_app(training=False)


def test_the_budgets_are_those_told():
    assert limits.OPERATIONS["cpu"] == 7e12
    assert limits.OPERATIONS["cuda"] == 2e14
    assert "7 · 10¹² operations a CPU core, 2 · 10¹⁴ a CUDA device" in TOLD
    assert limits.PATIENCE == 120
    assert "within two minutes" in TOLD


def test_the_queue_is_as_long_as_told(page: gr.Blocks):
    queue = page._queue
    assert f"At most {queue.max_size} wait, {queue.default_concurrency_limit} go on side by side" in TOLD
    assert f"at most {public.MOST_EVENTS} at a time" in TOLD
    assert f"{launch_options(public=True)['state_session_capacity']} sessions are remembered" in TOLD


def test_uploads_and_pictures_are_bounded_as_told():
    assert launch_options(public=True)["max_file_size"] == "5mb"
    assert f"5 MB a file and {gate.MAX_UPLOAD // 2**20} MB in all" in TOLD
    assert f"another request {gate.MAX_JSON // 2**20} MB" in TOLD
    assert f"{pictures.MAX_PIXELS // MB} million pixels ({pictures.MAX_JPEG_PIXELS // MB} in a JPEG)" in TOLD
    assert f"decodes {evaluate.MOST_PIXELS / MB:g} million pixels at most" in TOLD


def test_temporary_files_go_as_told():
    _, age = files.PUBLIC_CACHE_SECONDS
    assert age == 3600
    assert files.PUBLIC_CACHE_BYTES == 2 * 2**30
    assert "deleted after an hour, and beyond 2 GB the oldest go" in TOLD
