"""Small real things to test against: U-Nets of a few thousand weights, and a Hub on this machine."""

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import torch
from torch import Tensor

from ddpm_app.errors import UserError

TINY = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}


def tiny_network(seed: int = 0, **config: Any):
    """A UNet2DModel with attention over 16 channels, its random weights made by `seed`."""
    from diffusers import UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DModel(**(TINY | config)).eval()


def save_pipeline(
    folder: Path, network, *, at_root: bool = False, dtype=torch.float16, **settings: Any
) -> Path:
    """`folder` as diffusers writes it, the weights in `dtype`; `settings` are the DDPMScheduler's."""
    from diffusers import DDPMPipeline, DDPMScheduler

    stored = type(network).from_config(network.config)
    stored.load_state_dict(network.state_dict())
    DDPMPipeline(stored.to(dtype), DDPMScheduler(**settings)).save_pretrained(folder)
    if at_root:
        flatten(folder)
    return folder


def save_bin(folder: Path) -> None:
    """The network's weights in `folder` as .bin, in place of .safetensors."""
    from safetensors.torch import load_file

    weights = folder / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()


def flatten(folder: Path) -> None:
    """The files of `unet/` and `scheduler/` moved to the root, the other layout in use."""
    for part in (folder / "unet", folder / "scheduler"):
        for file in part.iterdir():
            file.rename(folder / file.name)
        part.rmdir()


def edit(file: Path, *dropped: str, **changes: Any) -> None:
    """The JSON object in `file` without the keys dropped and with the changes made."""
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if key not in dropped}))


def refusal(call: Callable[[], object]) -> str:
    """The one sentence with which `call` refuses."""
    with pytest.raises(UserError) as caught:
        call()
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    assert len(sentence) < 500
    return sentence


def noisy_batch(channels: int = 3, size: int = 8) -> tuple[Tensor, Tensor]:
    """Two images of noise at two timesteps: (x_t, t)."""
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(5)), torch.tensor(
        [3, 700]
    )


def point_client_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's client asks `url`, whatever it read when it was imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )


class HubStub:
    """A Hub on 127.0.0.1 that serves folders as repositories and logs what it was asked for."""

    def __init__(self) -> None:
        self.folders: dict[tuple[str, str], Path] = {}
        self.gated: set[str] = set()
        self.log: list[str] = []
        self.ranges: list[str] = []  # what was asked for of contents; empty for all of one
        self.faulty = ""  # what stands in the names of the contents that faults befall
        self.breaks: list[int] = []  # after how many bytes the next contents are cut off
        self.resets = False  # whether they are cut off by a reset connection
        self.changes: list[Callable[[bytes], bytes]] = []  # what befalls the next contents on their way
        self.held = threading.Event()  # cleared, contents stop half-way until it is set
        self.held.set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def __enter__(self) -> "HubStub":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """No answer from here on; a second call does nothing."""
        self.held.set()
        if self._thread.is_alive():
            self.server.shutdown()
            self.server.server_close()
            self._thread.join()

    def add(self, repository: str, folder: Path, revision: str = "main") -> None:
        """`repository` at `revision` holds what `folder` holds."""
        self.folders[repository, revision] = folder

    def downloads(self) -> list[str]:
        """The names of the files whose content was sent, without their folders."""
        return [
            path.rpartition("/")[2] for path in self.log if path.startswith("GET") and "/resolve/" in path
        ]

    @staticmethod
    def commit(repository: str, revision: str) -> str:
        return hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for the address `path`."""
        api = path.startswith("/api/")
        path = path.removeprefix("/api").removeprefix("/models").removeprefix("/datasets")
        owner, name, verb, rest = path.lstrip("/").split("/", 3)
        repository = f"{owner}/{name}"
        revision, _, file = (rest, "", "") if verb == "revision" else rest.partition("/")
        known = {
            key: (self.commit(*key), folder) for key, folder in self.folders.items() if key[0] == repository
        }
        if not known:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        found = [pair for key, pair in known.items() if revision in (key[1], pair[0])]
        if not found:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        commit, folder = found[0]
        files = {each.relative_to(folder).as_posix(): each for each in folder.rglob("*") if each.is_file()}
        if api and verb == "revision":
            info = {
                "id": repository,
                "modelId": repository,
                "sha": commit,
                "siblings": [{"rfilename": each} for each in files],
                "private": False,
                "gated": "manual" if repository in self.gated else False,
                "tags": [],
            }
            return 200, {}, json.dumps(info).encode()
        if api:
            return 200, {}, json.dumps([self.row(each, path) for each, path in files.items()]).encode()
        if repository in self.gated:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        headers = {"ETag": f'"{self.etag(files[file])}"', "X-Repo-Commit": commit}
        return 200, headers, files[file].read_bytes()

    @classmethod
    def row(cls, name: str, file: Path) -> dict[str, Any]:
        """What the listing of a repository says of a file."""
        size, etag = file.stat().st_size, cls.etag(file)
        row = {"type": "file", "path": name, "size": size, "oid": etag[:40]}
        return row | ({"lfs": {"oid": etag, "size": size, "pointerSize": 134}} if len(etag) == 64 else {})

    @staticmethod
    def etag(file: Path) -> str:
        """The sha256 of what is large to the Hub, and git's checksum of the rest."""
        content = file.read_bytes()
        if file.suffix in (".safetensors", ".bin"):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def ranged(self, asked: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and the part of a content that was asked for."""
        self.ranges.append(asked)
        if not asked:
            return 200, {}, body
        first = int(asked.removeprefix("bytes=").rstrip("-"))
        return 206, {"Content-Range": f"bytes {first}-{len(body) - 1}/{len(body)}"}, body[first:]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.log.append(f"{self.command} {path}")
                status, headers, body = hub.answer(path)
                content = self.command == "GET" and "ETag" in headers and hub.faulty in path
                cut = None
                if content:
                    body = hub.changes.pop(0)(body) if hub.changes else body
                    status, more, body = hub.ranged(self.headers.get("Range", ""), body)
                    headers |= more
                    cut = hub.breaks.pop(0) if hub.breaks else None
                self.send_response(status)
                for key, value in (headers | {"Content-Length": str(len(body))}).items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command == "GET":
                    sent = body[:cut]
                    self.wfile.write(sent[: len(sent) // 2])
                    self.wfile.flush()
                    if content:
                        hub.held.wait(60)
                    self.wfile.write(sent[len(sent) // 2 :])
                if cut is not None:
                    self.close_connection = True
                    if hub.resets:  # the client sees an error, not an end
                        self.connection.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                        self.connection.close()

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        return Handler
