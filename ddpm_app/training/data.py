"""A data set as one uint8 tensor (N, C, H, W), from a folder of pictures or a parquet file."""

__all__ = ["epoch_order", "load_images"]

import io
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ddpm_app.core.images import to_uint8
from ddpm_app.errors import UserError
from ddpm_app.models.exact import shape_pictures
from ddpm_app.pictures import fit

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"}


def load_images(source: str | Path, size: int, channels: int) -> tuple[Tensor, int]:
    """The pictures of `source`, cropped to the centre square and resized, and how many could not be read.

    Transparent pixels become white. Raises UserError when there is nothing to learn from.
    """
    if source == "shapes":
        return to_uint8(shape_pictures(size)[:, :channels]), 0
    source = Path(source)
    if source.is_dir():
        files: Iterator = (
            path for path in sorted(source.rglob("*")) if path.suffix.lower() in PICTURE_SUFFIXES
        )
    elif source.suffix == ".parquet" and source.is_file():
        files = _parquet_pictures(source)
    else:
        raise UserError(f"--data must be a folder of pictures or a .parquet file; got {str(source)!r}")
    images, unreadable = [], 0
    for file in files:
        try:
            with Image.open(file) as picture:
                images.append(fit(picture, (size, size), channels))
        except Exception:  # a damaged file raises anything, from struct.error to TypeError
            unreadable += 1
    if not images:
        raise UserError(
            f"no picture could be read from {str(source)!r}; give a folder of PNG, JPEG or WebP files"
        )
    return torch.stack(images), unreadable


def epoch_order(num_images: int, seed: int, epoch: int) -> Tensor:
    """The order in which epoch `epoch` visits the images: a permutation that depends on nothing else."""
    return torch.randperm(num_images, generator=torch.Generator().manual_seed(seed + 1_000_003 * epoch))


def _parquet_pictures(file: Path) -> Iterator[io.BytesIO]:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise UserError(f"{str(file)!r} is not a whole parquet file; fetch it again") from error
    if "image" not in table.schema_arrow.names:
        raise UserError(f"{str(file)!r} has no column `image`; its columns are {table.schema_arrow.names}")
    for batch in table.iter_batches(columns=["image"]):
        for cell in batch.column("image").to_pylist():
            encoded = cell.get("bytes") if isinstance(cell, dict) else cell
            yield io.BytesIO(encoded if isinstance(encoded, bytes) else b"")  # nothing else is a picture
