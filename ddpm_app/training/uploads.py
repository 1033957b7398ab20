"""What a visitor uploads to learn from, kept in a folder that `load_images` reads."""

__all__ = ["keep_uploads"]

import shutil
from collections.abc import Sequence
from pathlib import Path

from ddpm_app.errors import UserError
from ddpm_app.training.sources import READABLE


def keep_uploads(files: Sequence[str | Path], folder: Path) -> None:
    """`folder`, made anew, with the files in their order, under names of our own."""
    folder.mkdir(parents=True)
    for number, file in enumerate(map(Path, files)):
        if file.suffix.lower() not in READABLE:
            raise UserError(f"{file.name} holds no pictures; upload files that end in {', '.join(READABLE)}")
        shutil.copyfile(file, folder / f"{number:05d}{file.suffix.lower()}")
