"""What is running for whom, what goes wrong in words, and how often a preview is due."""

__all__ = ["Clock", "Sessions", "spoken"]

import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gradio as gr

from ddpm_app.engine import Cancelled, CancelToken
from ddpm_app.errors import UserError

PREVIEW_SECONDS = 0.25
logger = logging.getLogger(__name__)


class Sessions:
    """The cancel tokens of each visitor's runs in each tab."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[CancelToken, tuple[str, str]] = {}

    @contextmanager
    def run(self, request: gr.Request, tab: str) -> Iterator[CancelToken]:
        """A token for a run in this visitor's tab; being stopped is no error."""
        token = CancelToken()
        with self._lock:
            self._tokens[token] = _visitor(request), tab
        try:
            yield token
        except Cancelled:
            pass
        finally:
            with self._lock:
                del self._tokens[token]

    def stop(self, request: gr.Request, tab: str) -> None:
        """Ends this visitor's runs in this tab."""
        self._cancel(lambda visitor, place: (visitor, place) == (_visitor(request), tab))

    def leave(self, request: gr.Request) -> None:
        """Ends every run of a visitor who closed the page."""
        self._cancel(lambda visitor, place: visitor == _visitor(request))

    def _cancel(self, meant: Callable[[str, str], bool]) -> None:
        with self._lock:
            tokens = [token for token, key in self._tokens.items() if meant(*key)]
        for token in tokens:
            token.cancel()


class Clock:
    """Decides when a preview is due and says how far a run is."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._shown = 0.0
        self._step: float = 0
        self._num_steps = 0

    def start(self) -> None:
        """Counts from now: the model is loaded."""
        self._started = time.perf_counter()

    def due(self, step: float, num_steps: int) -> bool:
        """Whether to show this step: by time, not by steps, and always the last."""
        self._step, self._num_steps = step, num_steps
        now = time.perf_counter()
        if step < num_steps and now - self._shown < PREVIEW_SECONDS:
            return False
        self._shown = now
        return True

    def line(self, what: str = "") -> str:
        """How far the run is, in steps unless said otherwise, and the time left, with a bar."""
        share = self._step / self._num_steps
        left = self._elapsed / share - self._elapsed
        return bar(f"{what or self._place} · about {_duration(left)} left", share)

    def finished(self, what: str) -> str:
        """The closing line of a run that came to its end."""
        return bar(f"{what} in {_duration(self._elapsed)}", 1.0)

    def stopped(self) -> str:
        """The closing line of a run that was stopped."""
        where = f" after {self._place}" if self._num_steps else ""
        return bar(f"Stopped{where}. The device is free.", self._step / max(1, self._num_steps))

    @property
    def _place(self) -> str:
        return f"step {self._step:g} of {self._num_steps}"

    @property
    def _elapsed(self) -> float:
        return time.perf_counter() - self._started


def bar(text: str, share: float) -> str:
    """The status line: words over a thin progress bar."""
    return (
        f'<div class="status" role="status"><span>{text}</span>'
        f'<i style="width:{100 * share:.1f}%" aria-hidden="true"></i></div>'
    )


def spoken(handler: Callable) -> Callable:
    """The handler, with a UserError shown as its sentence; a bug goes to the log with its traceback."""

    @functools.wraps(handler)
    def stream(*args, **kwargs):
        with _told_to_people():
            yield from handler(*args, **kwargs)

    @functools.wraps(handler)
    def call(*args, **kwargs):
        with _told_to_people():
            return handler(*args, **kwargs)

    return stream if inspect.isgeneratorfunction(handler) else call


@contextmanager
def _told_to_people() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False, duration=12) from error
    except gr.Error:
        raise
    except Exception as error:
        logger.exception("a handler failed")
        raise gr.Error("This is a bug in the app; its log has the details.", print_exception=False) from error


def _visitor(request: gr.Request) -> str:
    return request.session_hash or "nobody"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
