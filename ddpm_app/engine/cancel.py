"""Stopping a run from another thread."""

__all__ = ["CancelToken", "Cancelled"]

import threading


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
