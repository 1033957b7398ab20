"""A checkpoint of another training program as a folder in diffusers' form, equal in its outputs or refused.

A layout is one module with its tables of names, and one line in LAYOUTS.
"""

__all__ = ["LAYOUTS", "SCHEDULES", "Fact", "Facts", "Settings", "convert"]

import os
from pathlib import Path

from ddpm_app.errors import UserError
from ddpm_app.models.convert.files import network_tensors, read_file
from ddpm_app.models.convert.ho import HO
from ddpm_app.models.convert.layout import Fact, Facts, Settings
from ddpm_app.models.convert.lucidrains import LUCIDRAINS
from ddpm_app.models.convert.openai import OPENAI
from ddpm_app.models.convert.saving import SCHEDULES, save

LAYOUTS = {"ho": HO, "openai": OPENAI, "lucidrains": LUCIDRAINS}
LATENT = "first_stage_model."


def convert(checkpoint: str | Path, out: str | Path, settings: Settings | None = None) -> Facts:
    """What is known of `checkpoint`, which lies as a diffusers folder at `out` from then on.

    Raises UserError, and writes nothing, unless a network of this app is exactly its own.
    """
    file, out = Path(os.path.expanduser(checkpoint)), Path(os.path.expanduser(out))
    settings = settings or Settings()
    if os.path.lexists(out):
        raise UserError(f"{out} is there already; give --out a folder that is not")
    tensors = read_file(file)
    if any(LATENT in key for key in tensors):
        raise UserError(f"{file.name} works in the latent space of another network; convert a DDPM of pixels")
    found = [
        each for each in LAYOUTS.values() if any(f".{key}".endswith(f".{each.landmark}") for key in tensors)
    ]
    if not found:
        titles = "; ".join(layout.title for layout in LAYOUTS.values())
        raise UserError(f"{file.name} holds no network that is known here; known are {titles}")
    layout = found[0]
    facts = {"layout": Fact(layout.title, "read")}
    network, beside = network_tensors(file, tensors, layout.landmark, settings.raw, facts)
    save(out, file.name, layout.read(network, beside, settings, facts), settings, facts)
    return facts
