from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ddpm_app.engine import Engine
from ddpm_app.engine.batching import PIXELS_PER_PASS
from ddpm_app.models import load_model
from tests.engine.visitors import Visitors


@pytest.fixture
def engine(tiny_pipeline):
    """An engine whose checkpoints are the tiny pipeline alone."""
    return Engine("cpu", tiny_pipeline.parent)


@pytest.fixture
def watch(monkeypatch):
    """watch(callback): every network of an engine calls `callback(x_t, t)` before it computes."""

    def install(callback):
        def watched(*args, **kwargs):
            model = load_model(*args, **kwargs)

            def denoiser(x_t, t):
                callback(x_t, t)
                return model.denoiser(x_t, t)

            return replace(model, denoiser=denoiser)

        monkeypatch.setattr("ddpm_app.engine.engine.load_model", watched)

    return install


@pytest.fixture
def images_per_pass(monkeypatch):
    """images_per_pass(5): no pass takes more images of 2 x 2 pixels."""
    return lambda bound: monkeypatch.setitem(PIXELS_PER_PASS, "cpu", 4 * bound)


@pytest.fixture
def visitors():
    with ThreadPoolExecutor(16) as pool:
        yield Visitors(pool)
