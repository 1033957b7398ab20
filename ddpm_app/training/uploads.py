"""What a visitor uploads to learn from, kept as a folder of pictures."""

__all__ = ["keep_uploads"]

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ddpm_app.errors import UserError
from ddpm_app.training.data import PICTURE_SUFFIXES

MAX_UNPACKED = 2**31  # bytes


def keep_uploads(files: Sequence[str | Path], folder: Path) -> None:
    """`folder`, made anew, with the pictures among `files` and those inside their ZIP archives."""
    folder.mkdir(parents=True)
    for number, file in enumerate(map(Path, files)):
        if zipfile.is_zipfile(file):
            _unpack(file, folder, f"{number:04d}")
        elif file.suffix.lower() in PICTURE_SUFFIXES:
            shutil.copyfile(file, folder / f"{number:04d}{file.suffix.lower()}")
        else:
            raise UserError(
                f"{file.name} is neither a picture nor a ZIP archive; upload PNG, JPEG, WebP or ZIP"
            )
    if not any(folder.iterdir()):
        raise UserError("there is no picture in what you uploaded; pack PNG, JPEG or WebP files")


def _unpack(archive: Path, folder: Path, prefix: str) -> None:
    """The archive's pictures under names of our own, so that none lands elsewhere."""
    try:
        with zipfile.ZipFile(archive) as pack:
            entries = [e for e in pack.infolist() if Path(e.filename).suffix.lower() in PICTURE_SUFFIXES]
            if sum(entry.file_size for entry in entries) > MAX_UNPACKED:
                raise UserError(f"{archive.name} holds more than 2 GB; unpack it here and give the folder")
            for count, entry in enumerate(entries):
                name = f"{prefix}-{count:06d}{Path(entry.filename).suffix.lower()}"
                with pack.open(entry) as packed, (folder / name).open("wb") as kept:
                    shutil.copyfileobj(packed, kept)
    except (
        zipfile.BadZipFile,
        RuntimeError,
        NotImplementedError,
        EOFError,
    ) as error:  # RuntimeError: encrypted
        raise UserError(f"{archive.name} cannot be unpacked; make it anew, without a password") from error
