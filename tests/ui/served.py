"""The served page as a script asks it, and what is read from its answers."""

import struct
import zlib
from pathlib import Path

import httpx
from PIL import Image

ENDPOINTS = (
    "/sample",
    "/progressive",
    "/stochastic",
    "/interpolate",
    "/forward",
    "/figure",
    "/likelihood",
    "/compression",
)
EXPERIMENTS = (  # tested in test_experiments.py, test_branches.py, test_compare.py and test_evaluate.py
    "/branches",
    "/fork",
    "/consistency",
    "/reconstruct",
    "/latent_grid",
    "/variances",
    "/respacing",
    "/bounds",
    "/schedules",
    "/coding",
    "/compare",
)


def status(text: str) -> str:
    return text["value"] if isinstance(text, dict) else text


def opened(file) -> Image.Image:
    """The picture in memory, its file closed."""
    with Image.open(path(file)) as picture:
        picture.load()
        return picture


def path(value) -> str:
    return value["value"] if isinstance(value, dict) else value


def answer_to(url: str, name: str, body: str) -> str:
    """What the server says to JSON as it stands, which a client of ours would refuse to write."""
    address, kind = f"{url}gradio_api/call/v2{name}", {"Content-Type": "application/json"}
    asked = httpx.post(address, content=body, headers=kind).json()
    return httpx.get(f"{address}/{asked['event_id']}", timeout=60).text


def bomb(file: Path, edge: int) -> Path:
    """A PNG of edge x edge zeros whose rows are compressed one by one, so that making it takes no memory."""
    pack = zlib.compressobj(9)
    body = b"".join(pack.compress(bytes(1 + edge // 8 + 1)) for _ in range(edge)) + pack.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", edge, edge, 1, 0, 0, 0, 0))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return file
