"""The real page on a real port, with a tiny network and the exact models."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client

from ddpm_app.engine import Engine
from ddpm_app.ui import build_app, launch_options

MODEL = "exact-shapes"


@pytest.fixture(scope="session")
def engine(tiny_pipeline: Path) -> Engine:
    return Engine("cpu", tiny_pipeline.parent)


@pytest.fixture(scope="session")
def url(engine: Engine) -> Iterator[str]:
    demo: gr.Blocks = build_app(engine, MODEL)
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield demo.local_url
    demo.close()


@pytest.fixture(scope="session")
def client(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = Client(url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))
    yield client
    client.close()
