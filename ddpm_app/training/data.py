"""A data set as one uint8 tensor (N, C, H, W), in memory where it fits, else mapped from a file.

Pictures keep the order of their source, so that a resumed run sees what it saw before.
"""

__all__ = ["SOURCES", "ImageSet", "load_images"]

import contextlib
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ddpm_app.errors import UserError
from ddpm_app.pictures import fit
from ddpm_app.training.sources import SOURCES, Entry, Source, open_source
from ddpm_app.training.store import PixelStore

THREADS = 8  # which wait for the disk or the network as much as they compute
NAMED = 3


@dataclass(frozen=True)
class ImageSet:
    """Pixels uint8 (N, C, H, W), and the names of the files that are no pictures or damaged ones."""

    pixels: Tensor
    unreadable: tuple[str, ...]

    @property
    def left_out(self) -> str:
        """A sentence that counts and names what could not be read; empty where all could."""
        count = len(self.unreadable)
        more = f" and {count - NAMED} more" if count > NAMED else ""
        return f"left out {count} unreadable: {', '.join(self.unreadable[:NAMED])}{more}" if count else ""


def load_images(
    source: str | Path,
    size: int,
    channels: int,
    cache: Path | None = None,
    limit: int | None = None,
    *,
    flag: str = "--data",
) -> ImageSet:
    """The pictures of `source`, one of SOURCES, or the first `limit` of them, cropped square and resized.

    Transparent pixels become white. A set too large for memory (store.MEMORY) is decoded once into the
    folder `cache`, where the next call finds it. Raises UserError when there is nothing to learn from, in
    the words of the command's `flag` that gave the source.
    """
    found = open_source(source, size, flag)
    store = PixelStore((channels, size, size), cache, f"{found.identity} {limit}")
    if kept := store.kept():
        return ImageSet(*kept)
    unreadable: list[str] = []
    room = min(2 * THREADS, limit or 2 * THREADS)
    with store, contextlib.closing(_decoded(found, size, channels, room)) as decoded:
        for name, image in decoded:
            if image is None:
                unreadable.append(name)
            else:
                store.add(image)
            if store.count == limit:
                break
        if not store.count:
            named = f" (not {unreadable[0]}, for one)" if unreadable else ""
            raise UserError(f"no picture could be read from {str(source)!r}{named}; give {SOURCES}")
        return ImageSet(*store.finish(unreadable))


def _decoded(
    source: Source, size: int, channels: int, room: int
) -> Generator[tuple[str, Tensor | None], None, None]:
    """(name, image) in the order of the source, none where it is unreadable; `room` at work at a time."""

    def decode(entry: Entry) -> tuple[str, Tensor | None]:
        name, open_picture = entry
        try:
            with open_picture() as picture:
                return name, fit(picture, (size, size), channels)
        except UserError:  # the network's: a picture that may be readable tomorrow is not left out today
            raise
        except Exception:  # a damaged file raises anything, from struct.error to TypeError
            return name, None

    ahead: deque[Future] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for entry in source.entries:
                ahead.append(pool.submit(decode, entry))
                if len(ahead) >= room:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
