"""Which files of a data set belong to a split, from their names, as the Hub reads them."""

__all__ = ["is_split", "of_split"]

import re
from collections.abc import Iterable, Sequence

from ddpm_app.errors import UserError

ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
CANONICAL = {alias: split for split, aliases in ALIASES.items() for alias in aliases}
SHARD = re.compile(r"([\w.]+?)-\d{5}-of-\d{5}")
LISTED = 6


def of_split(files: Sequence[str], wanted: str, data_set: str) -> list[str]:
    """Those of `files` in the split `wanted`, or in `configuration/split` where one name occurs in several.

    Files whose names say no split at all are all `train`. Raises UserError that lists what there is.
    """
    places = {file: _place(file) for file in files}
    if not any(split for _, split in places.values()):
        places = dict.fromkeys(files, ("", "train"))
    configuration, _, split = wanted.rpartition("/")
    split = CANONICAL.get(split, split)
    chosen = {
        file: place for file, place in places.items() if place[1] == split and configuration in ("", place[0])
    }
    found = sorted(set(chosen.values()))
    if not found:
        raise UserError(f"{data_set} has no split {wanted!r}; write {_choices(data_set, places.values())}")
    if len(found) > 1:
        raise UserError(f"{data_set} has several parts; write {_choices(data_set, found)}")
    return list(chosen)


def is_split(folder: str) -> bool:
    """Whether a folder of that name holds a split, by the names that the Hub knows."""
    return folder.lower() in CANONICAL


def _place(file: str) -> tuple[str, str]:
    """(configuration, split) of a file such as `data/train-00000-of-00002.parquet`; split "" where unsaid."""
    *folders, name = file.split("/")
    for depth, folder in enumerate(folders):
        if is_split(folder):
            return "/".join(folders[:depth]), CANONICAL[folder.lower()]
    if shard := SHARD.match(name):
        return "/".join(folders), CANONICAL.get(shard[1], shard[1])
    words = re.findall("[a-z]+", name.lower()) if name.endswith((".parquet", ".zip")) else []
    return "/".join(folders), next((CANONICAL[word] for word in words if word in CANONICAL), "")


def _choices(data_set: str, places: Iterable[tuple[str, str]]) -> str:
    names = sorted({f"{data_set}:{'/'.join(filter(None, place))}" for place in places if place[1]})
    more = [f"one of {len(names) - LISTED} more"] if len(names) > LISTED else []
    return " or ".join(names[:LISTED] + more)
