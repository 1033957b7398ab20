"""What tests wait for: a condition, never a length of time."""

__all__ = ["wait_until"]

import time
from collections.abc import Callable


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    """Returns as soon as `true()` holds; fails where it never does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
