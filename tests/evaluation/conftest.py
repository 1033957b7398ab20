"""A cache of its own for each test, and pictures whose classes are plain to see."""

from pathlib import Path

import pytest
import torch

from ddpm_app.training.labels import Labelled


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DDPM_APP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def labelled() -> Labelled:
    """Gray 8 x 8 noise, darker for class 0 than for class 1."""
    labels = torch.arange(120) % 2
    noise = torch.randint(120, (120, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    return Labelled((noise + 100 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels, 2, "light and dark")
