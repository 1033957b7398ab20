"""Temporary files of ours: pictures, films and archives that a page shows or offers, deleted by age.

Gradio deletes what its components have counted, and it loses count of a component once a handler has skipped
or updated it. So all that we show lies in one folder of ours inside Gradio's cache; initial values do not.
"""

__all__ = ["CACHE_SECONDS", "new_folder", "picture_file", "sweep", "sweeping"]

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder
from PIL import Image

from ddpm_app.pictures import save_png

CACHE_SECONDS = (3600, 24 * 3600)  # how often temporary files are looked through, and how old they may grow


def new_folder() -> Path:
    """A fresh folder, which is deleted by age with all that is put into it."""
    ours = _ours()
    ours.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=ours))


def picture_file(picture: Image.Image, name: str, recipe: Mapping[str, Any] | None = None) -> str:
    """The path of the picture as a new temporary PNG, with its recipe where there is one."""
    return str(save_png(picture, new_folder() / f"{name}.png", recipe))


def sweep(age: float) -> None:
    """Deletes our folders into which nothing was put for `age` seconds."""
    for folder in _ours().glob("*"):
        with suppress(OSError):  # another user's, or already gone
            if time.time() - folder.stat().st_mtime > age:
                shutil.rmtree(folder)


@asynccontextmanager
async def sweeping(app: object) -> AsyncIterator[None]:
    """A lifespan for the server: while it runs, our files are swept."""

    async def regularly() -> None:
        every, age = CACHE_SECONDS
        while True:
            await asyncio.to_thread(sweep, age)
            await asyncio.sleep(every)

    task = asyncio.create_task(regularly())
    yield
    task.cancel()


def _ours() -> Path:
    return Path(get_upload_folder(), "ddpm_app")
