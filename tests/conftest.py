"""What every test shares: an environment without network or telemetry, and one tiny checkpoint."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# networks this small lose more than they gain by sharing work between threads
os.environ.setdefault("OMP_NUM_THREADS", "1")
# pytest's own folders stay to be looked into; all else goes with the session: Gradio's client leaves an empty
# folder at each call, with no way to say where
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
_TEMP = tempfile.TemporaryDirectory(prefix="ddpm-tests-")
atexit.register(_TEMP.cleanup)  # after what is imported later has cleaned up its own there
tempfile.tempdir = _TEMP.name
os.environ |= {  # before anything imports gradio, huggingface_hub or accelerate, which read it once
    "ACCELERATE_USE_CPU": "true",
    "DDPM_APP_RUNTIME": "torch",  # networks this small are not worth compiling
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_TEMP_DIR": str(
        Path(_TEMP.name, "gradio")
    ),  # one for all pages, which Gradio asks for at each file
    "HF_HOME": str(Path(_TEMP.name, "huggingface")),
    "HF_HUB_CACHE": str(Path(_TEMP.name, "huggingface", "hub")),
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_PROXY": "127.0.0.1,localhost",
    "TMPDIR": _TEMP.name,
}


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real DDPM as a diffusers folder, 3 x 8 x 8 images, half precision; copy before changing."""
    from tests.doubles import save_pipeline, tiny_network

    return save_pipeline(tmp_path_factory.mktemp("checkpoints") / "tiny-8", tiny_network())


@pytest.fixture
def tiny_copy(tiny_pipeline: Path, tmp_path: Path) -> Path:
    """tiny_pipeline for one test alone, in a checkpoints folder of its own."""
    return Path(shutil.copytree(tiny_pipeline, tmp_path / "checkpoints" / tiny_pipeline.name))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator:
    """A Hub on this machine, to which the real client speaks, with a cache of its own."""
    from huggingface_hub import constants

    from tests.doubles import HubStub, point_client_at

    with HubStub() as stub:
        point_client_at(stub.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield stub


@pytest.fixture
def upload_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A Hub on this machine that takes models, the real client pointed at it and logged in nowhere."""
    from huggingface_hub import constants

    from tests.doubles import point_client_at
    from tests.uploads import UploadStub

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with UploadStub(tmp_path / "hub") as stub:
        point_client_at(stub.url, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield stub
