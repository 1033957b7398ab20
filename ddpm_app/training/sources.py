"""Where pictures come from: a folder, a zip, parquet files, a data set on the Hub, or the program itself.

A source names its pictures in an order that never changes, and opens each only when asked to. Nothing is
unpacked to disk.
"""

__all__ = ["SOURCES", "Source", "hub_dataset", "open_source", "placeless", "refuse_within"]

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ddpm_app.errors import UserError
from ddpm_app.pictures import FORMATS
from ddpm_app.training import shapes
from ddpm_app.training.hub import converted, repository
from ddpm_app.training.splits import of_split

SOURCES = (
    "a folder of pictures, a .zip of them, a .parquet file or a folder of those, a Hub data set "
    "(owner/name, owner/name:split, owner/name:split@revision), or shapes, which the program draws"
)
PICTURES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
READABLE = (".parquet", ".zip", *PICTURES)
HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?::([\w./-]+))?(?:@([\w./-]+))?")
IMAGE_COLUMNS = ("image", "img", "picture", "pixel_values")
MAX_MEMBER = 32 * 2**20  # bytes of one picture file in a zip

Entry = tuple[str, Callable[[], Image.Image]]


@dataclass(frozen=True)
class Source:
    """Pictures by name, each with the function that opens it; `identity` changes when they do.

    `files` are those that hold them, which `fetch` brings to this disk; none where the program draws.
    """

    identity: str
    entries: Iterator[Entry]
    files: tuple[str, ...] = ()
    fetch: Callable[[str], Path] = Path


def open_source(source: str | Path, size: int, flag: str = "--data") -> Source:
    """The pictures of one of SOURCES, given by `flag`; those that the program draws are size x size."""
    if source == "shapes":
        drawn = ((f"shape {k}", partial(shapes.draw, k, size)) for k in range(shapes.NUM_PICTURES))
        return Source("shapes", drawn)
    path, split = _on_disk(source)
    if str(source) and path.is_dir():
        return _in_folder(path, split)
    if path.is_file() and path.suffix.lower() in (".zip", ".parquet") and not split:
        return _local(path.parent, [path.name])
    if asked := _asked_of_the_hub(source):
        return _on_the_hub(*asked.groups())
    raise UserError(f"{flag} must be {SOURCES}; got {str(source)!r}")


def refuse_within(source: str | Path, out: Path, flag: str = "--data") -> None:
    """UserError where `out` lies within a folder of pictures, which would take a run's sheets for its own."""
    path, _ = _on_disk(source)
    if str(source) not in ("", "shapes") and path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise UserError(f"--out {out} lies within {flag}, which would soon hold its samples; give another")


def placeless(source: str | Path, parts: int = 1) -> str:
    """The source, but of a path the last part, or so many of them, alone."""
    if _asked_of_the_hub(source):
        return str(source)
    path, split = _on_disk(source)
    return "/".join(path.parts[-parts:]) + (f":{split}" if split else "")


def hub_dataset(source: str) -> str | None:
    """The `owner/name` of a source on the Hub; None for any other."""
    asked = _asked_of_the_hub(source)
    return asked[1] if asked else None


def _asked_of_the_hub(source: str | Path) -> re.Match | None:
    path, _ = _on_disk(source)
    return None if path.exists() or path.suffix.lower() in READABLE else HUB_NAME.fullmatch(str(source))


def _on_disk(source: str | Path) -> tuple[Path, str]:
    """Where the source lies if it is on this disk, and the split of it that is asked for, or none."""
    place, _, split = str(source).rpartition(":")
    return (Path(place), split) if place and not Path(source).exists() else (Path(source), "")


def _in_folder(folder: Path, split: str) -> Source:
    names = _readable(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    if split or (names and _suffix(names[0]) == ".parquet"):
        names = of_split(names, split or "train", str(folder))
    return _local(folder, names)


def _local(folder: Path, names: list[str]) -> Source:
    stats = [(name, (folder / name).stat()) for name in names]
    known = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return _source(f"{folder.resolve()} {known}", names, folder.joinpath)


def _on_the_hub(name: str, split: str | None, revision: str | None) -> Source:
    found = repository(name, revision or "main")
    names = _readable(found.files)
    if revision is None and all(map(_is_picture, names)):  # or none: a script, a form that is not read here
        copy = converted(name)  # a few large files instead of a request for each picture
        found, names = (copy, _readable(copy.files)) if copy else (found, names)
    if not names:
        raise UserError(f"{name} has no parquet file, zip or picture; choose another data set")
    names = of_split(names, split or "train", name)
    return _source(f"{name} {found.commit} {names}", names, found.fetch)


def _source(identity: str, names: list[str], fetch: Callable[[str], Path]) -> Source:
    return Source(identity, _entries(names, fetch), tuple(names), fetch)


def _readable(names: Iterable[str]) -> list[str]:
    """The parquet files, or where there are none the pictures and zips of pictures, in order."""
    known = sorted(name for name in names if _suffix(name) in READABLE and not _is_hidden(name))
    return [name for name in known if _suffix(name) == ".parquet"] or known


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _is_picture(name: str) -> bool:
    return _suffix(name) in PICTURES


def _is_hidden(name: str) -> bool:
    """Whether a program keeps it for itself: .cache, .git, ._cat.png, and what macOS adds to a zip."""
    return any(part == "__MACOSX" or (part[0] == "." and part != "..") for part in PurePosixPath(name).parts)


def _entries(names: Iterable[str], fetch: Callable[[str], Path]) -> Iterator[Entry]:
    for name in names:
        if _is_picture(name):
            yield name, partial(_fetched, fetch, name)
        else:
            yield from (_in_zip if _suffix(name) == ".zip" else _in_parquet)(fetch(name), name)


def _fetched(fetch: Callable[[str], Path], name: str) -> Image.Image:
    return Image.open(fetch(name), formats=FORMATS)


def _encoded(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=FORMATS)


def _in_zip(file: Path, name: str) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(file) as archive:
            for member in sorted(archive.infolist(), key=lambda member: member.filename):
                if _is_picture(member.filename) and not (member.is_dir() or _is_hidden(member.filename)):
                    yield f"{member.filename} in {name}", partial(_encoded, _unzipped(archive, member))
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{name} is not a whole zip file; make or fetch it again") from error


def _unzipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The member's bytes, of which no more than `file_size` are ever read; none where that is impossible."""
    if member.file_size > MAX_MEMBER:
        return b""
    try:
        return archive.read(member)
    except Exception:  # a wrong checksum, a password, a method of compression unknown here
        return b""


def _in_parquet(file: Path, name: str) -> Iterator[Entry]:
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            column = _image_column(table.schema_arrow, name)
            row = 0
            for batch in table.iter_batches(batch_size=32, columns=[column]):
                for cell in batch.column(column).to_pylist():
                    content = cell.get("bytes") if isinstance(cell, dict) else cell
                    yield f"row {row} of {name}", partial(_encoded, content or b"")
                    row += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{name} is not a whole parquet file; fetch it again") from error


def _image_column(schema: Any, name: str) -> str:
    """The column that the data set declares to hold pictures, else the likeliest of those that hold bytes."""
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = described.get("info", {}).get("features", {})
    declared = [
        column
        for column in schema.names
        if isinstance(features.get(column), dict) and features[column].get("_type") == "Image"
    ]
    held = [field.name for field in schema if _holds_bytes(field.type)]
    usual = [column for column in IMAGE_COLUMNS if column in held]
    if not (found := declared + usual + held):
        raise UserError(
            f"{name} has no column of encoded pictures; its columns are {', '.join(schema.names)[:200]}"
        )
    return found[0]


def _holds_bytes(kind: Any) -> bool:
    """Whether cells are encoded files: binary, or the Hub's struct of `bytes` and `path`."""
    from pyarrow import types

    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return types.is_binary(kind) or types.is_large_binary(kind)
