"""What a scorecard says of the weights: which they are, and whether they are averaged."""

__all__ = ["averaging", "weights_hash"]

import hashlib
import json
import re
from pathlib import Path

from ddpm_app.models.catalogue import locate
from ddpm_app.models.exact import EXACT_MODELS

SETTINGS = "training.json"


def weights_hash(name: str, checkpoints: Path) -> str:
    """The first digits of the hash of weights and configuration; empty for a model without weights."""
    if name.strip() in EXACT_MODELS:
        return ""
    path, found = locate(name.strip(), checkpoints), hashlib.sha256()
    for part in (path, path / "unet", path / "scheduler"):
        for file in sorted(part.glob("*")):
            if file.suffix in (".json", ".safetensors", ".bin") and file.name != SETTINGS:
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
