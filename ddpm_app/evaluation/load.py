"""Many visitors of the real server at one moment: who is served, whether anything is mixed up, what stays."""

__all__ = ["LoadReport", "measure_load", "server_process"]

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

from ddpm_app.evaluation.server import PATIENCE

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
    """What the visitors have met so far, and the pixels that each seed was given."""

    sheets: dict[int, np.ndarray] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def server_process(url: str) -> psutil.Process:
    """The process that `serving` started for this address."""
    port = str(urlsplit(url).port)
    return next(child for child in psutil.Process().children() if port in child.cmdline())


def measure_load(url: str, visitors: int, runs_each: int, settings: dict[str, Any]) -> LoadReport:
    """Each visitor asks for `runs_each` sheets, each of its own seed; then every sheet is drawn alone."""
    from gradio_client import Client

    tally, server = Tally(), server_process(url)
    total = visitors * runs_each
    with tempfile.TemporaryDirectory() as folder:
        patient = {"timeout": PATIENCE}
        clients = [
            Client(url, verbose=False, download_files=folder, httpx_kwargs=patient) for _ in range(visitors)
        ]

        def visit(place: int) -> None:
            for run in range(runs_each):
                seed = 1000 * (place * runs_each + run)
                _ask(clients[place], settings | {"seed": seed}, tally)
                with tally.lock:
                    if len(tally.sheets) + len(tally.refusals) >= WARM_UP * total:
                        tally.memory.append(server.memory_info().rss / MEGABYTE)

        started = time.perf_counter()
        with ThreadPoolExecutor(visitors) as pool:
            list(pool.map(visit, range(visitors)))
        seconds = time.perf_counter() - started
        mixed_up = _mixed_up(clients[0], settings, tally)
        for client in clients:
            client.close()
    served, refused = len(tally.sheets), len(tally.refusals)
    before, after = tally.memory[0], server.memory_info().rss / MEGABYTE
    return LoadReport(visitors, served, refused, mixed_up, seconds, before, after)


def _ask(client: Any, settings: dict[str, Any], tally: Tally) -> None:
    from gradio_client.exceptions import AppError, ValidationError
    from gradio_client.utils import QueueError

    try:
        _, sheet, *_ = client.predict(**settings, api_name="/sample")
    except (AppError, QueueError, ValidationError) as error:  # told in a sentence; any other is a failure
        with tally.lock:
            tally.refusals.append(str(error))
        return
    pixels = _pixels(sheet)
    with tally.lock:
        tally.sheets[settings["seed"]] = pixels


def _mixed_up(client: Any, settings: dict[str, Any], tally: Tally) -> int:
    """How many sheets differ by more than a level from what the server draws for their seed alone."""
    wrong = 0
    for seed, pixels in tally.sheets.items():
        _, sheet, *_ = client.predict(**settings, seed=seed, api_name="/sample")
        alone = _pixels(sheet)
        wrong += alone.shape != pixels.shape or int(np.abs(alone - pixels).max()) > 1
    return wrong


def _pixels(sheet: Any) -> np.ndarray:
    with Image.open(Path(sheet["value"] if isinstance(sheet, dict) else sheet)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)
