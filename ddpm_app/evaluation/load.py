"""Many visitors of the real server at one moment: who is served, whether anything is mixed up, what stays."""

__all__ = ["LoadReport", "measure_load", "server_process"]

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import psutil
from PIL import Image

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.evaluation.server import PATIENCE
from ddpm_app.pictures import sheet

MEGABYTE = 2**20
WARM_UP = 0.25  # of the runs, after which the server's memory should grow no more


@dataclass(frozen=True)
class LoadReport:
    """How many runs were served and refused, how many sheets were not those of their own seed.

    Memory is what the server held after its first quarter of runs, and after all of them, in MB.
    """

    visitors: int
    served: int
    refused: int
    mixed_up: int
    seconds: float
    memory_before: float
    memory_after: float


@dataclass
class Tally:
    """What the visitors have met so far, and the sheet that each seed was given."""

    sheets: dict[int, bytes] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def server_process(url: str) -> psutil.Process:
    """The process that `serving` started for this address."""
    port = str(urlsplit(url).port)
    return next(child for child in psutil.Process().children() if port in child.cmdline())


def measure_load(
    url: str, visitors: int, runs_each: int, settings: dict[str, Any], alone: Engine
) -> LoadReport:
    """Each visitor asks for `runs_each` sheets, each of its own seed, which are then drawn by `alone`."""
    from gradio_client import Client

    tally, server, patient = Tally(), server_process(url), {"timeout": PATIENCE}
    clients = [
        Client(url, verbose=False, download_files=False, httpx_kwargs=patient) for _ in range(visitors)
    ]

    def visit(place: int) -> None:
        for run in range(runs_each):
            _ask(clients[place], url, settings | {"seed": 1000 * (place * runs_each + run)}, tally)
            with tally.lock:
                if len(tally.sheets) + len(tally.refusals) >= WARM_UP * visitors * runs_each:
                    tally.memory.append(server.memory_info().rss / MEGABYTE)

    started = time.perf_counter()
    with ThreadPoolExecutor(visitors) as pool:
        list(pool.map(visit, range(visitors)))
    seconds = time.perf_counter() - started
    before, after = tally.memory[0], server.memory_info().rss / MEGABYTE
    for client in clients:
        client.close()
    served, refused = len(tally.sheets), len(tally.refusals)
    return LoadReport(visitors, served, refused, _mixed_up(alone, settings, tally), seconds, before, after)


def _ask(client: Any, url: str, settings: dict[str, Any], tally: Tally) -> None:
    from gradio_client.exceptions import AppError, ValidationError
    from gradio_client.utils import QueueError

    try:
        _, file, *_ = client.predict(**settings, api_name="/sample")
    except (AppError, QueueError, ValidationError) as error:  # told in a sentence; any other is a failure
        with tally.lock:
            tally.refusals.append(str(error))
        return
    with urlopen(f"{url}gradio_api/file={file['path']}", timeout=PATIENCE) as answer:
        content = answer.read()
    with tally.lock:
        tally.sheets[settings["seed"]] = content


def _mixed_up(alone: Engine, settings: dict[str, Any], tally: Tally) -> int:
    """How many sheets differ by more than a level from those of their seed alone."""
    wrong = 0
    for seed, content in tally.sheets.items():
        *_, frame = alone.run(SampleRequest(**settings, seed=seed))
        expected = np.asarray(sheet(frame.images).convert("RGB")).astype(int)
        with Image.open(io.BytesIO(content)) as picture:
            given = np.asarray(picture.convert("RGB")).astype(int)
        wrong += given.shape != expected.shape or int(np.abs(given - expected).max()) > 1
    return wrong
