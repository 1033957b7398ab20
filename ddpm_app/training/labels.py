"""Pictures with their classes: a label column of parquet files, folders named by class, or drawn shapes."""

__all__ = ["Labelled", "load_labelled"]

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from ddpm_app.errors import UserError
from ddpm_app.training import shapes
from ddpm_app.training.data import load_images
from ddpm_app.training.sources import Source, open_source

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


def load_labelled(source: str | Path, size: int, channels: int) -> Labelled:
    """The pictures of `source` with their classes; UserError where it tells none.

    Classes are a column `label` of parquet files, or the folders that the pictures lie in.
    """
    names = _classes(source, size)
    images = load_images(source, size, channels, limit=MOST)
    if images.unreadable:
        raise UserError(f"{images.left_out}; the classes of the others would be uncertain: mend or remove it")
    names = names[:MOST]
    known = sorted(set(names), key=lambda name: (isinstance(name, str), name))
    if len(known) < 2:
        raise UserError(f"{str(source)!r} has one class alone; give pictures of at least two")
    place = {name: k for k, name in enumerate(known)}
    labels = torch.tensor([place[name] for name in names])
    return Labelled(images.pixels, labels, len(known), _about(source))


def _classes(source: str | Path, size: int) -> list[str | int]:
    """The class of each picture, in the order of the source."""
    if source == SHAPES:
        return [shapes.kind(k) for k in range(shapes.NUM_PICTURES)]
    found = open_source(source, size)
    names: list[str | int] = []
    for file in found.files:
        names += _in_parquet(found, file) if file.lower().endswith(".parquet") else [_folder_of(file)]
    if "" in names:
        raise UserError(
            f"{str(source)!r} tells no classes; give parquet files with a column `label`, or a folder with a "
            "folder of pictures for each class"
        )
    return names


def _in_parquet(source: Source, file: str) -> list[str | int]:
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path := source.fetch(file))
        column = next((name for name in LABEL_COLUMNS if name in schema.names), None)
        if column is None:
            return [""]
        return pyarrow.parquet.read_table(path, columns=[column])[column].to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file} is not a whole parquet file; fetch it again") from error


def _folder_of(file: str) -> str:
    """The folder of a picture; empty for one without, and for a zip."""
    path = PurePosixPath(file)
    return "" if path.suffix.lower() == ".zip" or len(path.parts) == 1 else str(path.parent)


def _about(source: str | Path) -> str:
    """What to call the pictures: no more of a path than its last two parts."""
    if source == SHAPES:
        return "the shapes that this program draws"
    path = Path(source)
    return "/".join(path.parts[-2:]) if path.exists() else str(source)
