"""Where what took long to make waits for the next start."""

__all__ = ["cache_folder"]

import os
import tempfile
from pathlib import Path


def cache_folder(kind: str = "openvino") -> Path | None:
    """The folder for compiled networks, or for another kind of thing; None where nothing can be written."""
    try:
        caches = Path(os.getenv("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = Path(os.getenv("DDPM_APP_CACHE") or caches / "ddpm_app") / kind
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
