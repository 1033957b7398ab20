"""A data set as one uint8 tensor (N, C, H, W), in memory where it fits, else mapped from a file.

Pictures keep the order of their source, so that a resumed run sees what it saw before.
"""

__all__ = ["SOURCES", "Bounds", "ImageSet", "fingerprint", "load_images"]

import contextlib
import hashlib
import math
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from PIL import Image
from torch import Tensor

from ddpm_app.errors import UserError
from ddpm_app.pictures import MAX_JPEG_PIXELS, fit, is_too_large
from ddpm_app.training.sources import SOURCES, Entry, Source, open_source
from ddpm_app.training.store import PixelStore

THREADS = 8  # which wait for the disk or the network as much as they compute
NAMED = 3
FINGERPRINTED = 500  # pictures at most
MOST_PIXELS = 2 * MAX_JPEG_PIXELS  # of one picture: Pillow refuses more
READABLE = "whole PNG, JPEG, WebP, GIF, BMP or TIFF files, or a .zip of them"


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


@dataclass(eq=False)
class Bounds:
    """What reading pictures may take; where `pixels` are bounded, each alone is too, as one that is given.

    `check` raises where whoever waits has gone; `called` is what to call the pictures instead of their place.
    """

    pixels: float = math.inf  # of all together, still to be decoded
    check: Callable[[], None] = lambda: None
    called: str = ""
    _lock: Lock = field(default_factory=Lock, repr=False)

    def take(self, picture: Image.Image) -> None:
        """UserError where this one, not decoded yet, goes beyond what is left; ValueError, beyond any."""
        if self.pixels == math.inf:
            return
        if is_too_large(picture):
            raise ValueError("too large")
        with self._lock:
            self.pixels -= picture.width * picture.height
        if self.pixels < 0:
            raise UserError(
                "these pictures have more pixels than this page reads; give fewer or smaller ones"
            )


UNBOUNDED = Bounds()


def fingerprint(pixels: Tensor) -> str:
    """A hash of how many pictures (N, C, H, W) there are and of some hundreds of them, evenly spaced."""
    found = hashlib.sha256(f"{tuple(pixels.shape)}".encode())
    for image in pixels[:: math.ceil(len(pixels) / FINGERPRINTED)]:
        found.update(image.contiguous().numpy())
    return found.hexdigest()


def load_images(
    source: str | Path,
    size: int,
    channels: int,
    cache: Path | None = None,
    limit: int | None = None,
    *,
    flag: str = "--data",
    bounds: Bounds = UNBOUNDED,
) -> ImageSet:
    """The pictures of `source`, one of SOURCES, or the first `limit` of them, cropped square and resized.

    Transparent pixels become white. A set too large for memory (store.MEMORY) is decoded once into the
    folder `cache`, where the next call finds it. Raises UserError when there is nothing to learn from, in
    the words of the command's `flag` that gave the source, and for what goes beyond its `bounds`.
    """
    found = open_source(source, size, flag)
    store = PixelStore((channels, size, size), cache, f"{found.identity} {limit}")
    if kept := store.kept():
        return ImageSet(*kept)
    unreadable: list[str] = []
    room = min(2 * THREADS, limit or 2 * THREADS)
    with store, contextlib.closing(_decoded(found, size, channels, room, bounds)) as decoded:
        for name, image in decoded:
            bounds.check()
            if image is None:
                unreadable.append(name)
            else:
                store.add(image)
            if store.count == limit:
                break
        if not store.count:
            named = f" (not {unreadable[0]}, for one)" if unreadable else ""
            where, wanted = bounds.called or repr(str(source)), READABLE if bounds.called else SOURCES
            raise UserError(f"no picture could be read from {where}{named}; give {wanted}")
        return ImageSet(*store.finish(unreadable))


def _decoded(
    source: Source, size: int, channels: int, room: int, bounds: Bounds
) -> Generator[tuple[str, Tensor | None], None, None]:
    """(name, image) in the order of the source, none where it is unreadable; `room` at work at a time."""

    def decode(entry: Entry) -> tuple[str, Tensor | None]:
        name, open_picture = entry
        try:
            with open_picture() as picture:
                bounds.take(picture)
                return name, fit(picture, (size, size), channels)
        except UserError:  # or the network's: what may be readable tomorrow is not left out today
            raise
        except Image.DecompressionBombError:
            return f"{name} (more than {MOST_PIXELS // 10**6} million pixels)", None
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
