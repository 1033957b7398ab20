"""The worker of one device: the calls that wait at one moment, of whatever runs, share a forward pass.

A call is one use of a model's denoiser by one run: B images, each at its own timestep. Nobody waits for
company: a call that finds the device free computes at once, together with what waits by then. The worker has
no thread of its own; one of the waiting callers computes a pass for all of them, then the next one does.
"""

__all__ = ["Batcher", "fair_shares", "is_out_of_memory"]

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor

from ddpm_app.core.samplers import Denoiser
from ddpm_app.engine.cancel import CancelToken
from ddpm_app.engine.patience import Patience, Stalled
from ddpm_app.errors import UserError

# of one forward pass, over all its images: bounds memory, and the wait for a Stop
PIXELS_PER_PASS = {"cpu": 2**16, "mps": 2**18, "cuda": 2**20}
PASSES_BEFORE_MORE = 64
STALLED = "the network of this model has not answered in time; choose another model, or come back later"
NO_NUMBERS = (
    "the network of this model answers with what is no number; its weights are damaged, or too large "
    "for this arithmetic: choose exact instead of fast, or another model"
)
# what the CPU, MPS and cuBLAS say in a plain RuntimeError
OUT_OF_MEMORY = ("DefaultCPUAllocator", "MPS backend out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass(eq=False)
class Call:
    """What one run waits for; `parts` are the outputs of its first images, in order."""

    denoiser: Denoiser
    token: CancelToken
    x_t: Tensor
    t: Tensor
    parts: list[Tensor] = field(default_factory=list)
    alone: bool = False  # asked for; or since a pass with others failed, perhaps by another's fault
    error: Exception | None = None

    @property
    def done(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def left(self) -> int:
        return len(self.x_t) - self.done

    @property
    def over(self) -> bool:
        return not self.left or self.error is not None or self.token.cancelled


@dataclass
class Lowered:
    """A bound on the images of a pass, and how many full passes have fitted."""

    images: int
    passes: int = 0


class Batcher:
    """Computes the calls of any number of threads, one forward pass at a time, each in at most `patience`."""

    def __init__(self, patience: float = math.inf) -> None:
        self._changed = threading.Condition()
        self._calls: list[Call] = []  # who was served longest ago comes first
        self._computing = False
        self._patience = Patience(patience)
        self._stalled: WeakSet[Denoiser] = WeakSet()  # still at a pass that nobody waits for
        self._end: Callable[[], object] | None = None  # waits for the pass under way
        self._lowered: WeakKeyDictionary[Denoiser, Lowered] = WeakKeyDictionary()  # for lack of memory

    def compute(
        self, denoiser: Denoiser, token: CancelToken, x_t: Tensor, t: Tensor, *, alone: bool = False
    ) -> Tensor:
        """What denoiser(x_t, t) returns; Cancelled within one forward pass of the token being set.

        `alone` it shares no pass, so that its last bits depend on nobody else.
        """
        call = Call(denoiser, token, x_t, t, alone=alone)
        with self._changed:
            if denoiser in self._stalled:
                raise UserError(STALLED)
            self._calls.append(call)
            try:
                while not call.over:
                    if self._computing:
                        self._changed.wait()
                    else:
                        self._lead()
            finally:
                self._calls.remove(call)
        if call.error:
            raise call.error
        if call.left:
            token.check()
        return torch.cat(call.parts)

    def _lead(self) -> None:
        """Computes the next pass, for whomever it is, once the device has done the last one.

        It is not waited for where it was started: meanwhile its runs prepare their next step, draw their
        noise and gather here.
        """
        if end := self._end:
            self._end = None
            with self._unlocked():
                end()
        if not (batch := self._next_pass()):  # all were cancelled this moment
            return
        try:
            with self._unlocked():
                parts = self._patience.call(partial(forward, batch))
                self._end = end_of_pass(parts[0].device)
                sound = [is_sound(part) for part in parts]
        except Exception as error:
            self._failed(batch, error)
        else:
            self._fitted(batch)
            for call, part, finite in zip(batch, parts, sound, strict=True):
                call.parts.append(part)
                if not finite:
                    call.error = UserError(NO_NUMBERS)

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        """Lets others come, wait and leave within the block, but not compute."""
        self._computing = True
        self._changed.release()
        try:
            yield
        finally:
            self._changed.acquire()
            self._computing = False
            self._changed.notify_all()

    def _next_pass(self) -> dict[Call, int]:
        """How many images of which calls: of who waits longest and of all others with the same model."""
        waiting = [call for call in self._calls if not call.over]
        if not waiting:
            return {}
        first = waiting[0]
        group = [call for call in waiting if call.denoiser is first.denoiser and not call.alone]
        group = [first] if first.alone else group
        most = PIXELS_PER_PASS[first.x_t.device.type] // first.x_t[0, 0].numel()
        lowered = self._lowered.get(first.denoiser)
        bound = min(lowered.images if lowered else most, max(1, most))
        shares = fair_shares([call.left for call in group[:bound]], bound)
        batch = dict(zip(group, shares, strict=False))
        self._calls.sort(key=batch.__contains__)  # stable: who is served now goes behind all others
        return batch

    def _fitted(self, batch: dict[Call, int]) -> None:
        """Counts a full pass; after many, what took the memory may be gone, and twice as much is tried."""
        denoiser = next(iter(batch)).denoiser
        lowered = self._lowered.get(denoiser)
        if lowered and sum(batch.values()) == lowered.images:
            lowered.passes += 1
            if lowered.passes == PASSES_BEFORE_MORE:
                self._lowered[denoiser] = Lowered(2 * lowered.images)

    def _failed(self, batch: dict[Call, int], error: Exception) -> None:
        """Lowers the bound for lack of memory, finds the guilty one of several, or tells the only one."""
        first, *others = batch
        size, no_memory = sum(batch.values()), is_out_of_memory(error)
        if isinstance(error, Stalled):
            self._stalled.add(first.denoiser)
            error.future.add_done_callback(lambda _: self._stalled.discard(first.denoiser))
            for call in self._calls:
                if call.denoiser is first.denoiser:
                    call.error = UserError(STALLED)
        elif no_memory and size > 1:
            self._lowered[first.denoiser] = Lowered(size // 2)
        elif others:
            for call in batch:
                call.alone = True
        elif no_memory:
            first.error = UserError(
                f"the memory of {first.x_t.device} does not hold one image of this model at work; "
                "take a smaller model, or end what else runs there"
            )
        else:
            first.error = error


def fair_shares(sizes: Sequence[int], bound: int) -> list[int]:
    """How much of each goes into `bound` together, as even as the sizes allow; at most `bound` sizes."""
    shares = [0] * len(sizes)
    for served, k in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[k] = min(sizes[k], bound // (len(sizes) - served))
        bound -= shares[k]
    return shares


def forward(batch: dict[Call, int]) -> list[Tensor]:
    """One use of the network: the output of each call's next images."""
    denoiser = next(iter(batch)).denoiser
    pieces = [(call, slice(call.done, call.done + size)) for call, size in batch.items()]
    with torch.inference_mode():
        x_t = torch.cat([call.x_t[some] for call, some in pieces])
        t = torch.cat([call.t[some] for call, some in pieces])
        return list(denoiser(x_t, t).split(list(batch.values())))


def is_sound(output: Tensor) -> bool:
    """Whether these are numbers; taken for granted on a device that one would have to wait for."""
    return output.device.type != "cpu" or bool(output.isfinite().all())


def end_of_pass(device: torch.device) -> Callable[[], object] | None:
    """What waits until the device has done all that it was given so far; None where it has."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.current_stream().record_event().synchronize
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return None


def is_out_of_memory(error: Exception) -> bool:
    """Whether fewer images at once could help."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in OUT_OF_MEMORY
    )
