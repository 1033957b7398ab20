"""The page's own mixing of picture and noise, against the engine's."""

from base64 import b64decode

import numpy as np
import pytest
import torch

from ddpm_app.engine import Engine, ForwardRequest
from ddpm_app.ui.tabs.forward import drawable


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_page_is_given_makes_the_engine_s_x_t_by_equation_4(
    engine: Engine, schedule: str, channels: int
):
    picture = torch.randint(256, (channels, 5, 4), dtype=torch.uint8)
    given = drawable(picture, schedule, seed=3, diffusion_steps=250)
    assert (given["channels"], given["height"], given["width"]) == (channels, 5, 4)
    x_0, noise, alpha_bar = (
        np.frombuffer(b64decode(given[name]), "<f4") for name in ("x_0", "noise", "alpha_bar")
    )
    for t in (1, 250, 1000):
        share = alpha_bar[t - 1]
        x_t = share**0.5 * x_0 + (1 - share) ** 0.5 * noise
        levels = np.clip(np.round((x_t + 1) * 127.5), 0, 255).astype(int)
        request = ForwardRequest(picture=picture, schedule=schedule, diffusion_steps=(t,), seed=3)
        assert np.abs(levels - engine.forward(request).numpy().ravel()).max() <= 1
