"""A page for strangers on a real port."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio_client import Client

from ddpm_app.engine import Engine, Limits
from ddpm_app.ui import build_app, launch_options

MODEL = "exact-shapes"
ONE_CALL = 2e4 * 32 * 32  # what exact-shapes costs
CALLS = 2000
LIMITS = Limits((MODEL, "tiny-8"), CALLS * ONE_CALL, 60.0)


@pytest.fixture(scope="session")
def engine(tiny_pipeline: Path) -> Engine:
    return Engine("cpu", tiny_pipeline.parent, LIMITS)


@pytest.fixture(scope="session")
def page(engine: Engine) -> Iterator[gr.Blocks]:
    demo = build_app(engine, MODEL)
    engine.model(MODEL)
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options(public=True))
    yield demo
    demo.close()


@pytest.fixture
def client(page: gr.Blocks) -> Iterator[Client]:
    client = Client(page.local_url, verbose=False)
    yield client
    client.close()


def endpoints(page: gr.Blocks) -> dict:
    """The served functions by their names."""
    return {fn.api_name: fn for fn in page.fns.values() if fn.api_visibility == "public"}


def asked(page: gr.Blocks, name: str, settings: dict) -> httpx.Response:
    """The answer to a plain POST, which a script would send."""
    return httpx.post(f"{page.local_url}gradio_api/call/v2/{name}", json=settings, timeout=60)
