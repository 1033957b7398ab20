"""Stopping a run from another thread, and taking turns on the device."""

__all__ = ["CancelToken", "Cancelled", "Gate"]

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Cancelled(Exception):
    """The run was stopped by its owner."""


class CancelToken:
    """Set once by whoever wants the run to end; read by the run before every use of the network."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raises Cancelled once the token is set."""
        if self.cancelled:
            raise Cancelled


class Gate:
    """First come, first served: one thread computes at a time, and concurrent runs advance step by step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._busy = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for this thread's turn and holds the device within the block."""
        my_turn = threading.Event()
        with self._lock:
            if self._busy:
                self._waiting.append(my_turn)
            else:
                self._busy = True
                my_turn.set()
        my_turn.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._busy = False
