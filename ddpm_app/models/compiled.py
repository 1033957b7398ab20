"""A network on the CPU: torch computes it at once, OpenVINO as soon as it has compiled it in the background.

Fixed shapes run about a fifth faster than a free batch size, so every batch is cut into fours and ones, which
go side by side as long as there are enough of them. Each size serves from the moment it is ready. Compiled
networks are kept in the folder `openvino` of DDPM_APP_CACHE, by default ~/.cache/ddpm_app.
DDPM_APP_RUNTIME=torch leaves all to torch; so does a machine where OpenVINO is missing, refuses, differs or
is slower.
"""

__all__ = ["CompiledDenoiser"]

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from weakref import proxy

import torch
from torch import Tensor, nn

from ddpm_app.core.samplers import Denoiser
from ddpm_app.models.pieces import Compiler, Layout, Pieces, fitting

PATIENCE = 2.0  # seconds of torch's work after which a network is worth compiling
COPIES = 9  # once compiled: 1,340 MB were taken by a network of 143 MB
CHECK_SECONDS = 0.2
ROUNDS = 3
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}  # of the largest output
_COMPILING = threading.Lock()  # one network at a time: the rest of the machine is for the runs


class CompiledDenoiser:
    """What the denoiser `plain` of `network` computes, sooner; str() says what computes it at this moment."""

    def __init__(self, network: nn.Module, plain: Denoiser, number_format: str) -> None:
        self._network, self._plain, self._format = network, plain, number_format
        self._plan: list[Pieces] = []  # the most images first, one at last; grows while it is compiled
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
        if tuple(x_t.shape[1:]) == self._image_shape and (rounds := fitting(self._plan, len(x_t))):
            sizes = [pieces.images for pieces in rounds]
            with self._lock:
                parts = zip(rounds, x_t.split(sizes), t.split(sizes), strict=True)
                return torch.cat([pieces(*part) for pieces, *part in parts])
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
            self._thread = threading.Thread(
                target=CompiledDenoiser._compile, args=(proxy(self),), name="compile"
            )
            self._thread.start()

    def settle(self, image_shape: tuple[int, ...], check: Callable[[], None] = lambda: None) -> None:
        """Returns when what computes changes no more, or raises what `check` does meanwhile."""
        self.start(image_shape)
        while self._thread and self._thread.is_alive():
            check()
            self._thread.join(CHECK_SECONDS)

    def _compile(self) -> None:
        """Through a weak proxy of `self`: it ends before the next layout once the model has left memory."""
        with suppress(ReferenceError), _COMPILING:
            try:
                compiler = Compiler(self._network, self._image_shape, self._format)
                for layout in compiler.layouts:
                    self._plan = [*self._plan, self._proven(compiler, layout)]
            except _Unfit as unfit:
                self._obstacle, self._plan = str(unfit), []
            except Exception as error:  # whatever the runtime says, its cause last, torch goes on
                reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
                self._obstacle, self._plan = f"OpenVINO refused: {reason[:100]}", []

    def _proven(self, compiler: Compiler, layout: Layout) -> Pieces:
        """Pieces that compute what torch computes; the first ones, unless kept from another start, sooner."""
        if _ending():
            raise InterruptedError("the program ends")
        pieces = compiler.kept(layout)
        if pieces and self._agrees(pieces):
            return pieces
        pieces, blob = compiler.compile(layout)
        if not self._agrees(pieces):
            raise _Unfit("OpenVINO computes something else")
        if not self._plan and not self._sooner(pieces):
            raise _Unfit("faster here than OpenVINO")
        compiler.keep(layout, blob)
        return pieces

    @torch.inference_mode()
    def _agrees(self, pieces: Pieces) -> bool:
        x_t, t = self._trial(pieces)
        expected = self._plain(x_t, t)
        difference = (pieces(x_t, t) - expected).abs().max()
        return bool(difference <= TOLERANCE[self._format] * expected.abs().max())  # nor where it is no number

    @torch.inference_mode()
    def _sooner(self, pieces: Pieces) -> bool:
        trial = self._trial(pieces)
        times = [[_seconds(way, *trial) for way in (self._plain, pieces)] for _ in range(ROUNDS)]
        torch_time, openvino_time = map(min, zip(*times, strict=True))
        return openvino_time < torch_time

    def _trial(self, pieces: Pieces) -> tuple[Tensor, Tensor]:
        x_t = torch.randn((pieces.images, *self._image_shape), generator=torch.Generator().manual_seed(0))
        known = [each.num_embeddings for each in self._network.modules() if isinstance(each, nn.Embedding)]
        return x_t, torch.arange(pieces.images) * 37 % min(known, default=1000)  # learned timesteps, if any


class _Unfit(Exception):
    """Why torch goes on although OpenVINO works."""


def _seconds(way: Denoiser, x_t: Tensor, t: Tensor) -> float:
    started = time.perf_counter()
    way(x_t, t)
    return time.perf_counter() - started


def _ending() -> bool:
    """Whether the interpreter waits for its last threads."""
    return not threading.main_thread().is_alive()
