"""A network on the CPU: torch computes it at once, OpenVINO as soon as it has compiled it in the background.

Fixed shapes run about a fifth faster than a free batch size, so every batch is cut into fours and ones; fours
go side by side, as long as there are enough of them. Compiled networks are kept in the folder `openvino` of
DDPM_APP_CACHE, by default ~/.cache/ddpm_app. DDPM_APP_RUNTIME=torch leaves all to torch; so does a machine
where OpenVINO is missing, refuses, differs or is slower.
"""

__all__ = ["CompiledDenoiser"]

import os
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_app.core.samplers import Denoiser

PATIENCE = 2.0  # seconds of torch's work after which a network is worth compiling
FOUR = 4  # images in a piece, where an image is not large
PIXELS_PER_PIECE = 2**14
MOST_STREAMS = 4  # pieces side by side
CACHE_BYTES = 2**30
COPIES = 9  # once compiled: 1,340 MB were taken by a network of 143 MB
ROUNDS = 3
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}  # of the largest output
_COMPILING = threading.Lock()  # one network at a time: the rest of the machine is for the runs


@dataclass(frozen=True)
class Pieces:
    """The network compiled for batches of `size`, as many of them at once as there are inference requests."""

    size: int
    requests: list[Any]

    @property
    def images(self) -> int:
        """How many images one round takes."""
        return self.size * len(self.requests)


class CompiledDenoiser:
    """What the denoiser `plain` of `network` computes, sooner; str() says what computes it at this moment."""

    def __init__(self, network: nn.Module, plain: Denoiser, number_format: str) -> None:
        self._network, self._plain, self._format = network, plain, number_format
        self._plan: list[Pieces] = []  # the most images first, one at last; empty while torch computes
        self._image_shape: tuple[int, ...] = ()
        self._worked = 0.0  # seconds
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # an inference request serves one caller
        self._wanted = os.getenv("DDPM_APP_RUNTIME") != "torch"
        self._obstacle = "" if find_spec("openvino") else "OpenVINO is not installed"

    def __str__(self) -> str:
        if self._plan:
            return f"OpenVINO {self._format} on cpu"
        torch_alone = f"torch {self._format} on cpu"
        if not self._wanted:
            return torch_alone
        return f"{torch_alone} ({self._obstacle})" if self._obstacle else f"{torch_alone}, OpenVINO to follow"

    @property
    def copies(self) -> int:
        """How often the weights lie in memory, OpenVINO's own forms of them and its work space included."""
        return COPIES if self._wanted and not self._obstacle else 1

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        if self._plan and tuple(x_t.shape[1:]) == self._image_shape:
            with self._lock:
                return _in_pieces(self._plan, x_t, t)
        started = time.perf_counter()
        output = self._plain(x_t, t)
        self._worked += time.perf_counter() - started
        if self._worked > PATIENCE:
            self.start(tuple(x_t.shape[1:]))
        return output

    def start(self, image_shape: tuple[int, ...]) -> None:
        """Begins to compile for images of this shape, once, in a thread that ends by itself.

        Not a daemon: one that the interpreter's end finds within OpenVINO would take the process down.
        """
        with self._lock:
            if self._thread or self._obstacle or not self._wanted or _ending():
                return
            self._image_shape = image_shape
            self._thread = threading.Thread(target=self._compile, name="compile")
            self._thread.start()

    def settle(self, image_shape: tuple[int, ...]) -> None:
        """Returns when what computes changes no more."""
        self.start(image_shape)
        if self._thread:
            self._thread.join()

    def _compile(self) -> None:
        try:
            with _COMPILING:
                plan = list(_compiled(self._network, self._image_shape, self._format))
                self._obstacle = self._fault(plan)
            if not self._obstacle:
                self._plan = plan
        except Exception as error:  # whatever the runtime says, its cause last, torch goes on
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            self._obstacle = f"OpenVINO refused: {reason[:100]}"

    def _fault(self, plan: list[Pieces]) -> str:
        """Why torch goes on, or nothing: all pieces are compared with it, then the most timed in turn."""
        most = plan[0].images
        x_t = torch.randn((most, *self._image_shape), generator=torch.Generator().manual_seed(0))
        t = torch.arange(most) * 37
        with torch.inference_mode():
            expected = self._plain(x_t, t)
            bound = TOLERANCE[self._format] * expected.abs().max()
            for pieces in plan:
                output = _in_pieces([pieces], x_t[: pieces.images], t[: pieces.images])
                if not (output - expected[: pieces.images]).abs().max() <= bound:  # nor where it is no number
                    return "OpenVINO computes something else"
            ways = (self._plain, partial(_in_pieces, plan))
            times = [[_seconds(way, x_t, t) for way in ways] for _ in range(ROUNDS)]
        torch_time, openvino_time = map(min, zip(*times, strict=True))
        return "" if openvino_time < torch_time else "faster here than OpenVINO"


class _Output(nn.Module):
    """The network with a tensor as its result, as tracing wants it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.network(x_t, t, return_dict=False)[0]


def _compiled(network: nn.Module, image_shape: tuple[int, ...], number_format: str) -> Iterator[Pieces]:
    """Fours side by side, a four and a one on all cores; no fours of large images."""
    import openvino

    threads = torch.get_num_threads()
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[number_format],
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # other processes compute here too
    }
    if folder := cache_folder():
        settings["CACHE_DIR"] = str(folder)
    core, model = openvino.Core(), _converted(network, image_shape)
    small = FOUR * image_shape[-2] * image_shape[-1] <= PIXELS_PER_PIECE
    fours = [(FOUR, min(threads, MOST_STREAMS)), (FOUR, 1)] if small else []
    for size, streams in dict.fromkeys([*fours, (1, 1)]):
        if _ending():
            raise InterruptedError("the program ends")
        fixed = model.clone()
        fixed.reshape({fixed.input(0): [size, *image_shape], fixed.input(1): [size]})
        compiled = core.compile_model(fixed, "CPU", settings | {"NUM_STREAMS": streams})
        yield Pieces(size, [compiled.create_infer_request() for _ in range(streams)])
    if folder:
        _forget_oldest(folder)


def _converted(network: nn.Module, image_shape: tuple[int, ...]) -> Any:
    """The network as an OpenVINO model; openvino.convert_model would do it too, but reports its use home."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    inputs = torch.zeros(2, *image_shape), torch.zeros(2, dtype=torch.int64)
    with warnings.catch_warnings():  # tracing is deprecated, and warns of each comparison of shapes
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(
            _Output(network).eval(), example_input=inputs, trace_kwargs={"check_trace": False}
        )
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def _in_pieces(plan: list[Pieces], x_t: Tensor, t: Tensor) -> Tensor:
    """The model output of a batch of any size."""
    outputs, done = [], 0
    while done < len(x_t):
        pieces = next(pieces for pieces in plan if pieces.images <= len(x_t) - done)
        for request in pieces.requests:
            piece = slice(done, done + pieces.size)
            inputs = [x_t[piece].contiguous().numpy(), t[piece].contiguous().numpy()]
            request.start_async(inputs, share_inputs=True)
            done += pieces.size
        for request in pieces.requests:
            request.wait()
            outputs.append(torch.from_numpy(request.get_output_tensor().data).clone())
    return torch.cat(outputs)


def _seconds(way: Denoiser, x_t: Tensor, t: Tensor) -> float:
    started = time.perf_counter()
    way(x_t, t)
    return time.perf_counter() - started


def _ending() -> bool:
    """Whether the interpreter waits for its last threads."""
    return not threading.main_thread().is_alive()


def cache_folder() -> Path | None:
    """Where compiled networks are kept; None where nothing can be written."""
    try:
        caches = Path(os.getenv("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = Path(os.getenv("DDPM_APP_CACHE") or caches / "ddpm_app") / "openvino"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None


def _forget_oldest(folder: Path) -> None:
    """Keeps the newest gigabyte."""
    blobs = sorted(folder.glob("*.blob"), key=lambda blob: blob.stat().st_mtime, reverse=True)
    sizes = accumulate(blob.stat().st_size for blob in blobs)
    for blob, size in zip(blobs, sizes, strict=True):
        if size > CACHE_BYTES:
            blob.unlink(missing_ok=True)
