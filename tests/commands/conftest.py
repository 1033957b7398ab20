import pytest
import torch

from ddpm_app.pictures import to_picture


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        noise = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(seed))
        to_picture(((0.1 + 0.25 * noise + 1) * 127.5).clamp(0, 255).to(torch.uint8)).save(
            folder / f"{seed}.png"
        )
    return folder
