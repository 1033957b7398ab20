"""A network on CUDA, recorded once and replayed: a small one takes longer to launch than to compute.

A CUDA graph has a fixed batch size, so batches are filled up to the next of 1, 2, 3, 4, 6, 8, 12, 16, ...
images, each recorded when it first comes. Large ones keep the device busy anyway and are not recorded.
DDPM_APP_RUNTIME=torch leaves all to torch; so does a device that refuses to record.
"""

__all__ = ["CudaRecorder", "GraphedDenoiser", "Recording", "filled_up"]

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ddpm_app.core.samplers import Denoiser

MOST_PIXELS = 2**17  # of a recorded batch, over all its images
WARM_UPS = 3  # calls before the recorded one, in which libraries choose their kernels
_RECORDING = threading.Lock()  # one at a time in the whole process, whatever the number of devices


@dataclass(frozen=True)
class Recording:
    """`replay()` computes `output` from what lies in `x_t` and `t` at that moment, all of fixed shape."""

    x_t: Tensor
    t: Tensor
    output: Tensor
    replay: Callable[[], object]


class GraphedDenoiser:
    """What the denoiser `plain` computes, by recordings of it; str() says what computes it at this moment."""

    def __init__(
        self, plain: Denoiser, name: str, record: Callable[[Denoiser, Tensor, Tensor], Recording]
    ) -> None:
        self._plain, self._name, self._record = plain, name, record
        self._recordings: dict[tuple[int, ...], Recording] = {}  # by the shape of x_t
        self._lock = threading.Lock()  # a recording serves one caller
        self._most_pixels = MOST_PIXELS
        self._obstacle = ""
        self._wanted = os.getenv("DDPM_APP_RUNTIME") != "torch"

    def __str__(self) -> str:
        if not self._wanted:
            return self._name
        return f"{self._name} ({self._obstacle})" if self._obstacle else f"{self._name}, CUDA graphs"

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        shape = (filled_up(len(x_t)), *x_t.shape[1:])
        pixels = shape[0] * x_t[0, 0].numel()
        if not self._wanted or self._obstacle or pixels > self._most_pixels:
            return self._plain(x_t, t)
        with self._lock, torch.inference_mode():
            if recording := self._recorded(shape, pixels, x_t, t):
                recording.x_t[: len(x_t)].copy_(x_t)
                recording.t[: len(t)].copy_(t)
                recording.replay()
                return recording.output[: len(x_t)].clone()  # the next replay writes there again
        return self._plain(x_t, t)

    def _recorded(self, shape: tuple[int, ...], pixels: int, x_t: Tensor, t: Tensor) -> Recording | None:
        """The recording for this shape, made if need be; None, for good, where it cannot be made.

        Where the memory is lacking smaller ones still are.
        """
        if shape not in self._recordings:
            padded = torch.zeros(shape, device=x_t.device).contiguous(memory_format=torch.channels_last)
            try:
                self._recordings[shape] = self._record(self._plain, padded, t.new_zeros(shape[0]))
            except torch.OutOfMemoryError:
                self._most_pixels = pixels - 1
                self._recordings.clear()
                return None
            except Exception as error:  # whatever the device says, torch goes on without recordings
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                self._obstacle = f"CUDA graphs refused: {reason[:100]}"
                self._recordings.clear()
                return None
        return self._recordings[shape]


class CudaRecorder:
    """Records on one device; all recordings share the memory between their inputs and outputs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None
        self._stream: Any = None  # torch's own for recordings is of the device that came first

    def __call__(self, plain: Denoiser, x_t: Tensor, t: Tensor) -> Recording:
        """`plain` at these inputs, which the recording keeps; what other threads do meanwhile stays out."""
        with _RECORDING, torch.cuda.device(self._device):
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._stream = aside = self._stream or torch.cuda.Stream()
            here = torch.cuda.current_stream()
            aside.wait_stream(here)
            with torch.cuda.stream(aside):  # which is left even where recording fails
                for _ in range(WARM_UPS):
                    plain(x_t, t)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(
                    graph, pool=self._pool, stream=aside, capture_error_mode="thread_local"
                ):
                    output = plain(x_t, t)
            here.wait_stream(aside)
        return Recording(x_t, t, output, graph.replay)


def filled_up(num_images: int) -> int:
    """The next larger of 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: at most a third of it is filling."""
    power = 1 << (num_images - 1).bit_length()
    return power * 3 // 4 if num_images <= power * 3 // 4 else power
