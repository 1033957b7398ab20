"""What tests of models share."""

import pytest

from ddpm_app.models import compiled, pieces
from tests.models.layouts import HoUNet, filled


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """OpenVINO allowed and never found slower, which noise decides for networks this small."""
    monkeypatch.delenv("DDPM_APP_RUNTIME")
    monkeypatch.setenv("DDPM_APP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_seconds", lambda way, x_t, t: float(not isinstance(way, pieces.Pieces)))
    return tmp_path / "cache" / "openvino"


@pytest.fixture(scope="module")
def ho():
    return filled(HoUNet())


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.pt"
