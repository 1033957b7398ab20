"""A thread that computes for others, who give it up when it does not come back."""

__all__ = ["Patience", "Stalled"]

import math
import threading
from collections.abc import Callable
from concurrent import futures
from queue import SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")
Work = tuple[Callable[[], object], "futures.Future[object]"]


class Stalled(Exception):
    """The work has not come back in time; `future` is done once it does."""

    def __init__(self, future: "futures.Future[object]") -> None:
        super().__init__()
        self.future = future


class Patience:
    """Calls a function at a time, waiting for it no longer than `seconds`."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._seconds = seconds
        self._work: SimpleQueue[Work | None] | None = None

    def call(self, function: Callable[[], Result]) -> Result:
        """What the function returns or raises; Stalled when it takes longer. One caller at a time.

        With all the time in the world it is computed by the caller's own thread.
        """
        if self._seconds == math.inf:
            return function()
        future: futures.Future = futures.Future()
        if self._work is None:
            self._work = SimpleQueue()
            threading.Thread(target=_serve, args=(self._work,), name="passes", daemon=True).start()
        self._work.put((function, future))
        try:
            return future.result(self._seconds)
        except TimeoutError:
            if future.done():  # this moment, or the timeout is the function's own
                return future.result()
            self._work.put(None)  # nobody waits for this thread any more
            self._work = None
            raise Stalled(future) from None


def _serve(work: "SimpleQueue[Work | None]") -> None:
    while (item := work.get()) is not None:
        function, future = item
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)
        del item, function, future  # or the last batch, and its network, would stay until the next
