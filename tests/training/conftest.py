"""Pictures to learn from, and a run to make of them."""

import pytest
import torch

from ddpm_app.training import TrainingConfig
from tests.training.runs import TINY, save_pictures


@pytest.fixture(autouse=True)
def one_core():
    """Every run computes alone on its core, in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pictures(tmp_path):
    """Six pictures of 8 x 8."""
    return save_pictures(tmp_path / "pictures", range(6))


@pytest.fixture
def config(pictures, tmp_path):
    return TrainingConfig(data=str(pictures), out=str(tmp_path / "run"), **TINY)
