"""Temporary files of ours: pictures, films and archives that a page shows or offers, deleted by age.

Gradio deletes what its components have counted, and it loses count of a component once a handler has skipped
or updated it. So all that we show lies in one folder of ours inside Gradio's cache; initial values do not.
"""

__all__ = [
    "CACHE_SECONDS",
    "PUBLIC_CACHE_BYTES",
    "PUBLIC_CACHE_SECONDS",
    "new_folder",
    "own_cache",
    "picture_file",
    "shrink",
    "sweep",
    "sweeping",
    "unpacked",
]

import asyncio
import atexit
import base64
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder
from PIL import Image

from ddpm_app.pictures import save_png

CACHE_SECONDS = (3600, 24 * 3600)  # how often temporary files are looked through, and how old they may grow
PUBLIC_CACHE_SECONDS = (60, 3600)
PUBLIC_CACHE_BYTES = 2 * 2**30
SERVER = "ddpm_app-"  # what the name of a public server's cache begins with, before its process


def own_cache() -> None:
    """Gives this server a folder of its own in place of Gradio's cache, and deletes those of dead servers.

    What strangers gave to one that was killed would otherwise stay. A GRADIO_TEMP_DIR that is set is kept to.
    """
    import psutil

    if os.environ.get("GRADIO_TEMP_DIR"):
        return
    for left in Path(tempfile.gettempdir()).glob(f"{SERVER}*-*"):
        pid = left.name.removeprefix(SERVER).split("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)  # another user's stays
    os.environ["GRADIO_TEMP_DIR"] = folder = tempfile.mkdtemp(prefix=f"{SERVER}{os.getpid()}-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def new_folder() -> Path:
    """A fresh folder, which is deleted by age with all that is put into it.

    Who knows its name may see what is in it, so nobody can guess it.
    """
    folder = _ours() / secrets.token_urlsafe(16)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def picture_file(picture: Image.Image, name: str, recipe: Mapping[str, Any] | None = None) -> str:
    """The path of the picture as a new temporary PNG, with its recipe where there is one."""
    return str(save_png(picture, new_folder() / f"{name}.png", recipe))


def unpacked(url: str) -> str:
    """The path of a new temporary file with what a `data:` URL holds, which nothing has looked into yet."""
    try:
        content = base64.b64decode(url.partition(",")[2], validate=True)
    except ValueError:
        content = b""  # no picture: whoever reads it says so
    file = new_folder() / "picture"
    file.write_bytes(content)
    return str(file)


def sweep(age: float) -> None:
    """Deletes our folders into which nothing was put for `age` seconds."""
    for folder in _ours().glob("*"):
        with suppress(OSError):  # another user's, or already gone
            newest = max(each.stat().st_mtime for each in (folder, *folder.rglob("*")))
            if time.time() - newest > age:
                shutil.rmtree(folder)


def shrink(most: float, since: float) -> None:
    """Deletes the oldest files of Gradio's whole cache, uploads too, until `most` bytes are left.

    What is older than the time `since` stays: the page itself shows it.
    """
    known = []
    for file in Path(get_upload_folder()).rglob("*"):
        with suppress(OSError):
            if file.is_file() and (stat := file.stat()).st_mtime > since:
                known.append((stat.st_mtime, stat.st_size, file))
    total = sum(size for _, size, _ in known)
    for _, size, file in sorted(known):
        if total <= most:
            break
        file.unlink(missing_ok=True)
        total -= size


def sweeping(
    every: float, age: float, most: float = math.inf
) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """A lifespan for the server: while it runs, our files go by age, and all beyond `most` bytes."""

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        started = time.time()

        async def regularly() -> None:
            while True:
                await asyncio.to_thread(sweep, age)
                if most < math.inf:
                    await asyncio.to_thread(shrink, most, started)
                await asyncio.sleep(every)

        task = asyncio.create_task(regularly())
        yield
        task.cancel()

    return lifespan


def _ours() -> Path:
    return Path(get_upload_folder(), "ddpm_app")
