"""A network that OpenVINO has compiled for batches of fixed sizes, and that the next start finds on disk."""

__all__ = ["Compiler", "Layout", "Pieces", "fitting"]

import gc
import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm_app.models.cache import cache_folder

FOUR = 4  # images in a piece, where an image is not large
PIXELS_PER_PIECE = 2**14
MOST_STREAMS = 4  # pieces side by side
CACHE_BYTES = 2**30


class Layout(NamedTuple):
    """Pieces of `size` images, `streams` of them at once."""

    size: int
    streams: int


@dataclass(frozen=True)
class Pieces:
    """The network compiled for batches of `size`, as many of them at once as there are inference requests."""

    size: int
    requests: list[Any]

    @property
    def images(self) -> int:
        """How many images one round takes."""
        return self.size * len(self.requests)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The model output of `images` images. A request serves one caller at a time."""
        for request, x, s in zip(self.requests, x_t.split(self.size), t.split(self.size), strict=True):
            request.start_async([x.contiguous().numpy(), s.contiguous().numpy()], share_inputs=True)
        for request in self.requests:
            request.wait()
        return torch.cat([torch.from_numpy(each.get_output_tensor().data) for each in self.requests])


def fitting(plan: Sequence[Pieces], num_images: int) -> list[Pieces]:
    """The rounds that take `num_images` images, the largest first; [] where the plan cannot take them all."""
    rounds = []
    for pieces in plan:
        count, num_images = divmod(num_images, pieces.images)
        rounds += count * [pieces]
    return [] if num_images else rounds


class Compiler:
    """Makes the pieces of one network for images of one shape, or finds those that were kept."""

    def __init__(self, network: nn.Module, image_shape: tuple[int, ...], number_format: str) -> None:
        import openvino

        self._network, self._image_shape = network, image_shape
        self._core = openvino.Core()
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[number_format],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # other processes compute here too
        }
        self._folder = cache_folder()

    @property
    def layouts(self) -> list[Layout]:
        """Fours and ones side by side, and a one on all cores; large images come one by one."""
        streams = min(torch.get_num_threads(), MOST_STREAMS)
        small = FOUR * self._image_shape[-2] * self._image_shape[-1] <= PIXELS_PER_PIECE
        several = [Layout(FOUR, streams), Layout(1, streams)] if small else []
        return list(dict.fromkeys([*several, Layout(1, 1)]))

    def compile(self, layout: Layout) -> tuple[Pieces, bytes]:
        """The pieces of that layout, and what to keep of them."""
        fixed = self._model.clone()
        fixed.reshape({fixed.input(0): [layout.size, *self._image_shape], fixed.input(1): [layout.size]})
        compiled = self._core.compile_model(fixed, "CPU", self._settings | {"NUM_STREAMS": layout.streams})
        compiled.export_model(blob := io.BytesIO())
        return _pieces(compiled, layout), blob.getvalue()

    def keep(self, layout: Layout, blob: bytes) -> None:
        """Writes the pieces to disk, where that can be done, and forgets the oldest of others."""
        if not self._folder:
            return
        unfinished = self._file(layout).with_suffix(f".{os.getpid()}.blob")
        try:
            unfinished.write_bytes(blob)
            unfinished.replace(self._file(layout))
            _forget_oldest(self._folder)
        except OSError:  # a full disk: the next start compiles again
            unfinished.unlink(missing_ok=True)

    def kept(self, layout: Layout) -> Pieces | None:
        """The pieces of that layout from disk; None where there are none that OpenVINO takes."""
        if not self._folder:
            return None
        try:
            blob, settings = self._file(layout).read_bytes(), self._settings | {"NUM_STREAMS": layout.streams}
            return _pieces(self._core.import_model(blob, "CPU", settings), layout)
        except (OSError, RuntimeError):  # RuntimeError: damaged, or another version's
            return None

    def _file(self, layout: Layout) -> Path:
        assert self._folder
        return self._folder / f"{self._key}-{layout.size}x{layout.streams}.blob"

    @cached_property
    def _key(self) -> str:
        """What the network computes, on what and how, as a digest."""
        import openvino

        device = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        network = self._network  # whose str() tells neither heads nor embeddings
        config = {key: value for key, value in vars(network.config).items() if key[0] != "_"}
        told = (openvino.__version__, device, self._settings, self._image_shape, str(network), config)
        digest = hashlib.blake2b(repr(told).encode(), digest_size=16)
        for name, tensor in network.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy())
        return digest.hexdigest()

    @cached_property
    def _model(self) -> Any:
        """The network as OpenVINO's; openvino.convert_model would do it too, but reports its use home."""
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        inputs = torch.zeros(2, *self._image_shape), torch.zeros(2, dtype=torch.int64)
        with warnings.catch_warnings():  # tracing is deprecated, and warns of each comparison of shapes
            warnings.simplefilter("ignore")
            decoder = TorchScriptPythonDecoder(
                _Output(self._network).eval(), example_input=inputs, trace_kwargs={"check_trace": False}
            )
        gc.collect()  # tracing leaves a cycle behind, a function that calls itself, which holds the network
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


class _Output(nn.Module):
    """The network with a tensor as its result, as tracing wants it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.network(x_t, t, return_dict=False)[0]


def _pieces(compiled: Any, layout: Layout) -> Pieces:
    return Pieces(layout.size, [compiled.create_infer_request() for _ in range(layout.streams)])


def _forget_oldest(folder: Path) -> None:
    """Keeps the newest gigabyte."""
    blobs = sorted(folder.glob("*.blob"), key=lambda blob: blob.stat().st_mtime, reverse=True)
    sizes = accumulate(blob.stat().st_size for blob in blobs)
    for blob, size in zip(blobs, sizes, strict=True):
        if size > CACHE_BYTES:
            blob.unlink(missing_ok=True)
