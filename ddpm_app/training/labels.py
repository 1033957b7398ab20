"""Pictures with their classes: a label column of parquet files, folders named by class, or drawn shapes."""

__all__ = ["MOST", "SHAPES", "Labelled", "called", "load_labelled", "tells_classes"]

from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from ddpm_app.errors import UserError
from ddpm_app.training import shapes
from ddpm_app.training.data import ImageSet, load_images
from ddpm_app.training.sources import Source, open_source, placeless
from ddpm_app.training.splits import is_split

LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
MOST = 100_000  # pictures that are read
SHAPES = "shapes"


@dataclass(frozen=True)
class Labelled:
    """Pixels uint8 (N, C, H, W) with their classes int64 (N,) in 0..num_classes - 1; `about` names them."""

    pixels: Tensor
    labels: Tensor
    num_classes: int
    about: str


def load_labelled(
    source: str | Path, size: int, channels: int, images: ImageSet | None = None, flag: str = "--data"
) -> Labelled:
    """The pictures of `source`, given by `flag`, with their classes; `images` where they are loaded already.

    Classes are a column `label` of parquet files, or the folders that the pictures lie in. UserError where
    there are none.
    """
    most = len(images.pixels) if images else MOST
    if "" in (names := _classes(source, most, flag)):
        raise UserError(
            f"{str(source)!r} tells no classes; give parquet files with a column `label`, or a folder with a "
            "folder of pictures for each class"
        )
    images = images or load_images(source, size, channels, limit=MOST, flag=flag)
    if images.unreadable:
        raise UserError(f"{images.left_out}; the classes of the others would be uncertain: mend or remove it")
    pixels = images.pixels[:MOST]
    known = sorted(set(names), key=lambda name: (isinstance(name, str), name))
    if len(known) < 2:
        raise UserError(f"{str(source)!r} has one class alone; give pictures of at least two")
    place = {name: k for k, name in enumerate(known)}
    labels = torch.tensor([place[name] for name in names])
    return Labelled(pixels, labels, len(known), called(source))


def tells_classes(source: str | Path, most: int = MOST) -> bool:
    """Whether the first `most` pictures there are of classes, at least two of them."""
    names = set(_classes(source, most))
    return "" not in names and len(names) > 1


def called(source: str | Path) -> str:
    """What to call the pictures: no more of a path than its last two parts."""
    if source == SHAPES:
        return "the shapes that this program draws"
    return placeless(source, 2)


def _classes(source: str | Path, most: int, flag: str = "--data") -> list[str | int]:
    """The classes of the first `most` pictures, in the order of the source; "" where one tells none."""
    names: list[str | int] = []
    if source == SHAPES:
        names += map(shapes.kind, range(shapes.NUM_PICTURES))
        return names[:most]
    found = open_source(source, 1, flag)
    for file in found.files:
        names += _in_parquet(found, file) if file.lower().endswith(".parquet") else [_folder_of(file)]
        if len(names) >= most:  # the next one may be gigabytes away
            break
    return names[:most]


def _in_parquet(source: Source, file: str) -> list[str | int]:
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path := source.fetch(file))
        column = next((name for name in LABEL_COLUMNS if name in schema.names), None)
        if column is None or not _names_classes(schema.field(column).type):
            return [""]
        labels = pyarrow.parquet.read_table(path, columns=[column])[column].to_pylist()
        return ["" if label is None else label for label in labels]
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file} is not a whole parquet file; fetch it again") from error


def _names_classes(kind: Any) -> bool:
    from pyarrow import types

    return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)


def _folder_of(file: str) -> str:
    """The folder of a picture, within that of its split; empty for one without, and for a zip."""
    path = PurePosixPath(file)
    folders = list(dropwhile(is_split, path.parts[:-1]))
    return "" if path.suffix.lower() == ".zip" else "/".join(folders)
