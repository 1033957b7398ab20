"""The names a user may give for a model, and the one way from a name to a Model.

A name is tried as an exact denoiser, as a folder of the checkpoints directory, as a folder on disk, and as a
Hub repository (`owner/repo` or `owner/repo@revision`), in this order.
"""

__all__ = [
    "BUNDLED",
    "DEFAULT_MODEL",
    "HUB_MODELS",
    "available_models",
    "load_model",
    "read_network",
    "stamp",
]

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, get_args

from torch import nn

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.errors import UserError, one_of
from ddpm_app.models import exact, folder, hub
from ddpm_app.models.model import Model, Precision, resolve_device
from ddpm_app.models.transfer import Report, unwatched
from ddpm_app.models.weights import weight_files

BUNDLED = Path(__file__).parents[2] / "checkpoints"
DEFAULT_MODEL = "emoji-32"
HUB_MODELS = (
    "google/ddpm-cifar10-32",
    "google/ddpm-ema-cat-256",
    "google/ddpm-ema-church-256",
    "google/ddpm-ema-bedroom-256",
    "google/ddpm-ema-celebahq-256",
)
Read = TypeVar("Read")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def available_models(checkpoints: Path = BUNDLED) -> list[str]:
    """Every name that needs no network: the folders of `checkpoints`, the default first, then the exact."""
    names = [path.name for path in checkpoints.glob("*") if folder.is_pipeline(path)]
    return sorted(names, key=lambda name: (name != DEFAULT_MODEL, name)) + list(exact.EXACT_MODELS)


def load_model(
    name: str | Path,
    device: str = "auto",
    precision: str = "exact",
    *,
    checkpoints: Path = BUNDLED,
    report: Report = unwatched,
) -> Model:
    """The model of that name; UserError with what to do when there is none or it is no pixel-space DDPM.

    `report` is told the bytes here and in all, while weights come from the Hub.
    """
    name, where = str(name).strip(), resolve_device(device)
    one_of("precision", precision, get_args(Precision))
    if name in exact.EXACT_MODELS:
        return exact.load(name, where)
    return _read(name, checkpoints, lambda path: folder.load(name, path, where, precision), report)


def read_network(name: str | Path, *, checkpoints: Path = BUNDLED) -> tuple[nn.Module, GaussianDiffusion]:
    """The bare network of the model of that name, in float32 on the CPU, for training on, and its chain."""
    name = str(name).strip()

    def read(path: Path) -> tuple[nn.Module, GaussianDiffusion]:
        description = folder.describe(name, path)
        return folder.read_network(name, description), description.diffusion

    return _read(name, checkpoints, read)


def _read(name: str, checkpoints: Path, read: Callable[[Path], Read], report: Report = unwatched) -> Read:
    """What `read` makes of the model's folder; what the disk has spoilt is fetched again, once."""
    path = locate(name, checkpoints, report)
    try:
        return read(path)
    except UserError:
        cached = path.parent.name == "snapshots" and path.parents[1].name.startswith("models--")
        if not cached or not hub.discard_spoilt(name, path):
            raise
    return read(locate(name, checkpoints, report))


def stamp(name: str | Path, checkpoints: Path = BUNDLED) -> int:
    """A number that changes when a file of the model of that name does; 0 where none is on this disk."""
    paths = [path for path in folders(str(name).strip(), checkpoints) if folder.is_pipeline(path)][:1]
    configured = (path / file for path in paths for file in (*folder.NETWORK_FILES, *folder.SCHEDULER_FILES))
    weights = (file for path in paths for part in ("unet", ".") for file in weight_files(path / part))
    return sum(file.stat().st_mtime_ns for file in (*configured, *weights) if os.path.isfile(file))


def folders(name: str, checkpoints: Path) -> list[Path]:
    """The folders that a name may mean, those of `checkpoints` first."""
    try:
        return [path for path in (checkpoints / name, Path(name).expanduser()) if name and path.is_dir()]
    except (OSError, RuntimeError):  # longer than the file system allows, or the home of no user
        return []


def locate(name: str, checkpoints: Path = BUNDLED, report: Report = unwatched) -> Path:
    """The folder that holds the model of that name, downloaded first when it is a Hub repository."""
    if not name:
        raise UserError(f"the model has no name; choose one of {', '.join(available_models(checkpoints))}")
    candidates = folders(name, checkpoints)
    for candidate in candidates:
        if folder.is_pipeline(candidate):
            return candidate
    if candidates:
        raise UserError(
            f"{name} holds no diffusers model; give a folder with unet/ and scheduler/, "
            "or make one of a .pt by `python -m ddpm_app models convert`"
        )
    if os.path.isfile(os.path.expanduser(name)):
        raise UserError(
            f"{name[:80]} is a file, not the folder of a diffusers model; "
            "make one of it by `python -m ddpm_app models convert`"
        )
    if REPOSITORY.fullmatch(name) and ".." not in name:
        return hub.download(name, report)
    raise UserError(
        f"there is no model {name[:80]!r}; choose one of {', '.join(available_models(checkpoints))}, "
        "give the folder of a diffusers model, or a Hub repository as owner/repo"
    )
