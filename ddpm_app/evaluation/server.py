"""The real server as visitors meet it: a process of its own, clicked through the client of its page."""

__all__ = ["StartReport", "VisitorsReport", "measure_start", "measure_visitors", "serving"]

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_app.errors import UserError

ROOT = Path(__file__).parents[2]
PATIENCE = 180  # seconds for the page to answer


@dataclass(frozen=True)
class StartReport:
    """Seconds from the start command to the page, and from the first click to the first sheet."""

    page_seconds: float
    sheet_seconds: float


@dataclass(frozen=True)
class VisitorsReport:
    """Visitors who click at one moment: when the first and the last saw a preview, and their common pace."""

    visitors: int
    first_preview_seconds: float
    last_preview_seconds: float
    seconds: float  # until all have their sheet
    images_per_second: float


@contextlib.contextmanager
def serving(arguments: Sequence[str]) -> Iterator[str]:
    """The address of `python app.py` with these arguments, once its page answers; UserError if none does."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [sys.executable, str(ROOT / "app.py"), "--port", str(port), *arguments]
    url, given_up = f"http://127.0.0.1:{port}/", time.monotonic() + PATIENCE
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            while not answers(url):
                if server.poll() is not None or time.monotonic() > given_up:
                    log.seek(0)
                    raise UserError(f"the page did not come up: {' '.join(log.read()[-300:].split())}")
                time.sleep(0.02)
            yield url
        finally:
            server.kill()
            server.wait()


def answers(url: str) -> bool:
    """Whether the page is there."""
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return page.status == 200
    except (urllib.error.URLError, OSError):
        return False


def measure_start(arguments: Sequence[str], settings: dict[str, Any]) -> StartReport:
    """One cold start, and the first click as soon as the page answers."""
    started = time.perf_counter()
    with serving(arguments) as url:
        page = time.perf_counter() - started
        (seen,) = click(url, 1, settings)
    return StartReport(page, seen[-1])


def measure_visitors(url: str, visitors: int, settings: dict[str, Any]) -> VisitorsReport:
    """`visitors` sheets asked for at one moment, each by a client of its own."""
    seen = click(url, visitors, settings)
    previews, seconds = [moments[0] for moments in seen], max(moments[-1] for moments in seen)
    images = visitors * settings["num_images"]
    return VisitorsReport(visitors, min(previews), max(previews), seconds, images / seconds)


def click(url: str, visitors: int, settings: dict[str, Any]) -> list[list[float]]:
    """For each visitor the seconds after the common click at which it saw something new."""
    from gradio_client import Client

    patient = {"timeout": PATIENCE}
    clients = [
        Client(url, verbose=False, download_files=False, httpx_kwargs=patient) for _ in range(visitors)
    ]
    together = threading.Barrier(visitors)
    seen: list[list[float]] = [[] for _ in clients]

    def visit(client: Client, moments: list[float], seed: int) -> None:
        together.wait()
        started = time.perf_counter()
        for status, *_ in client.submit(**settings, seed=seed, api_name="/sample"):
            if "step" in str(status) or moments:
                moments.append(time.perf_counter() - started)

    threads = [
        threading.Thread(target=visit, args=(client, moments, 1000 * k))
        for k, (client, moments) in enumerate(zip(clients, seen, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    if not all(seen):
        raise UserError("a visitor got no picture: look at what the server says, or ask for fewer visitors")
    return seen
