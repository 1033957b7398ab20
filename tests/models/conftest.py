"""What tests of compiled networks share: the runtime, with a cache of its own."""

import pytest

from ddpm_app.models import compiled, pieces


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """OpenVINO allowed and never found slower, which noise decides for networks this small."""
    monkeypatch.delenv("DDPM_APP_RUNTIME")
    monkeypatch.setenv("DDPM_APP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_seconds", lambda way, x_t, t: float(not isinstance(way, pieces.Pieces)))
    return tmp_path / "cache" / "openvino"
