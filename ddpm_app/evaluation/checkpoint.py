"""What a scorecard says of the weights: which they are, and whether they are averaged."""

__all__ = ["averaging", "weights_hash"]

import hashlib
import json
import re
from pathlib import Path

from ddpm_app.models.catalogue import locate
from ddpm_app.models.exact import EXACT_MODELS
from ddpm_app.models.folder import NETWORK_FILES, SCHEDULER_FILES
from ddpm_app.models.weights import weight_files

SETTINGS = "training.json"


def weights_hash(name: str, checkpoints: Path) -> str:
    """The first digits of the hash of weights and configuration; empty for a model without weights."""
    if name.strip() in EXACT_MODELS:
        return ""
    path, found = locate(name.strip(), checkpoints), hashlib.sha256()
    files = [path / name for name in (*NETWORK_FILES, *SCHEDULER_FILES) if (path / name).is_file()]
    for file in [*files, *weight_files(path), *weight_files(path / "unet")]:
        found.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size}".encode())
        found.update(file.read_bytes())
    return found.hexdigest()[:12]


def averaging(name: str, checkpoints: Path) -> str:
    """The weights' EMA status in words, as far as the checkpoint tells it."""
    if name.strip() in EXACT_MODELS:
        return "no weights"
    try:
        decay = json.loads((locate(name.strip(), checkpoints) / SETTINGS).read_text())["ema_decay"]
        return f"averaged, decay {decay:g}"
    except (OSError, ValueError, KeyError, TypeError):
        named = "ema" in re.split(r"[\W_]+", name.lower())
        return "averaged, by the model's name" if named else "not told by the checkpoint"
