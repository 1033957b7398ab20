"""Pixels as they are decoded: in memory, or once they outgrow it in a file that a later run finds again."""

__all__ = ["MEMORY", "PixelStore"]

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import psutil
import torch
from torch import Tensor

from ddpm_app.errors import UserError

MEMORY = 2 * 2**30  # bytes of pixels that are held in memory
PIXELS, LABEL = "pixels.uint8", "pixels.json"


class PixelStore:
    """Images uint8 of one shape (C, H, W), in a file of `folder` where they take more than MEMORY bytes.

    The file gets its name when it is whole. Processes that decode the same set at the same time write each
    their own, and the last one stays.
    """

    def __init__(self, shape: tuple[int, int, int], folder: Path | None, identity: str) -> None:
        self.shape, self.folder = shape, folder
        self.identity = hashlib.sha256(f"{identity} {shape}".encode()).hexdigest()
        self.count = 0
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._sweep()

    def __enter__(self) -> "PixelStore":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
            Path(self._file.name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Removes what processes that were killed had begun to write.

        Whether one lives only its own machine knows; those of another one, on a shared disk, find the file of
        the first process whole.
        """
        for file in self.folder.glob(f"{PIXELS}.*") if self.folder else ():
            pid = file.suffix[1:]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                with contextlib.suppress(OSError):
                    file.unlink()

    def kept(self) -> tuple[Tensor, tuple[str, ...]] | None:
        """What `finish` gave for the same set before, where that is in the folder."""
        if self.folder is None:
            return None
        try:
            label = json.loads((self.folder / LABEL).read_text())
            size = (self.folder / PIXELS).stat().st_size
        except (OSError, ValueError):
            return None
        if label["identity"] != self.identity or size != label["count"] * math.prod(self.shape):
            return None
        self.count = label["count"]
        return self._mapped(), tuple(label["unreadable"])

    def add(self, image: Tensor) -> None:
        """One image more."""
        self.count += 1
        content: bytes | bytearray = image.numpy().tobytes()
        if self._file is None:
            self._memory += content
            if self.folder is None or len(self._memory) <= MEMORY:
                return
            content = self._memory
            with self._told():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._file = open(self.folder / f"{PIXELS}.{os.getpid()}", "wb")  # noqa: SIM115
            self._memory = bytearray()
        with self._told():
            self._file.write(content)

    def finish(self, unreadable: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
        """All images as one tensor (N, C, H, W), and the names, which are kept with it."""
        if self._file is None or self.folder is None:
            pixels = torch.frombuffer(self._memory, dtype=torch.uint8)
            return pixels.view(self.count, *self.shape), tuple(unreadable)
        with self._told():
            self._file.close()
            (self.folder / LABEL).unlink(missing_ok=True)  # never beside the pixels of another set
            os.replace(self._file.name, self.folder / PIXELS)
            label = {"identity": self.identity, "count": self.count, "unreadable": list(unreadable)}
            (self.folder / LABEL).write_text(json.dumps(label))
        return self._mapped(), tuple(unreadable)

    def _mapped(self) -> Tensor:
        """The file's pixels, read from disk as they are touched."""
        assert self.folder is not None
        size = self.count * math.prod(self.shape)
        pixels = torch.from_file(str(self.folder / PIXELS), shared=False, size=size, dtype=torch.uint8)
        return pixels.view(self.count, *self.shape)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"the pixels outgrow memory and cannot be written to {self.folder} ({error.strerror}); "
                "make room there, or take a smaller size"
            ) from error
