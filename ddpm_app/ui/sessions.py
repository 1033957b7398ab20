"""What is running for whom, what goes wrong in words, and how often a preview is due."""

__all__ = ["ONE_AT_A_TIME", "Clock", "Run", "Sessions", "as_text", "bar", "spoken"]

import functools
import inspect
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import gradio as gr

from ddpm_app.engine import Cancelled, CancelToken
from ddpm_app.errors import UserError

PREVIEW_SECONDS = 0.25  # times the runs under way, so that all previews together cost no more than one run's
ONE_AT_A_TIME = "you have a run under way or waiting; let it end, or press its Stop, before the next one"
logger = logging.getLogger(__name__)


class Clock:
    """Decides when a preview is due and says how far a run is; `sharing` tells how many runs there are."""

    def __init__(self, sharing: Callable[[], int] = lambda: 1) -> None:
        self._sharing = sharing
        self._started = time.perf_counter()
        self._shown = -math.inf
        self._what = ""
        self._step: float = 0
        self._num_steps: float = 0

    def start(self) -> None:
        """Counts from now: the model is loaded."""
        self._started = time.perf_counter()

    def due(self, step: float, num_steps: float) -> bool:
        """Whether to show this step: by time, not by steps, and always the last."""
        self._step, self._num_steps = step, num_steps
        now = time.perf_counter()
        if step < num_steps and now - self._shown < PREVIEW_SECONDS * self._sharing():
            return False
        self._shown = now
        return True

    def line(self, what: str = "") -> str:
        """How far the run is, in steps unless said otherwise, and the time left, with a bar."""
        self._what = what
        share = self._step / self._num_steps
        left = self._elapsed * (1 / share - 1)
        return bar(f"{what or self._place} · about {_duration(left)} left", share, unfinished=True)

    def finished(self, what: str, detail: str = "") -> str:
        """The closing line of a run that came to its end, with the time it took, and a small one under it."""
        return bar(what, 1.0, detail, beside=_duration(self._elapsed))

    def stopped(self) -> str:
        """The closing line of a run that was stopped."""
        if not self._num_steps:
            return bar("Stopped", 0)
        said = "Stopped" if self._what else f"Stopped after {self._place}"
        return bar(said, self._step / self._num_steps, beside=self._what, unfinished=True)

    @property
    def _place(self) -> str:
        return f"step {self._step:g} of {self._num_steps:g}"

    @property
    def _elapsed(self) -> float:
        return time.perf_counter() - self._started


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a visitor: what stops it, and how far it is."""

    visitor: str
    tab: str
    token: CancelToken = field(default_factory=CancelToken)
    clock: Clock = field(default_factory=Clock)


class Sessions:
    """The runs of each visitor in each tab; `alone`, one at a time."""

    def __init__(self, *, alone: bool = False) -> None:
        self._alone = alone
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._abandoned: dict[tuple[str, str], Run] = {}  # the page turned away from it a moment before Stop

    @contextmanager
    def run(self, request: gr.Request, tab: str) -> Iterator[Run]:
        """A run in this visitor's tab, which can be stopped within the block."""
        run = Run(_visitor(request), tab, clock=Clock(lambda: len(self._runs)))
        with self._lock:
            if self._alone and self._goes(run.visitor):
                raise UserError(ONE_AT_A_TIME)
            self._runs.append(run)
            self._abandoned.pop((run.visitor, tab), None)
        try:
            yield run
        except GeneratorExit:
            if not run.token.cancelled:  # else Stop has told of it already
                self._abandoned[run.visitor, tab] = run
            raise
        finally:
            with self._lock:
                self._runs.remove(run)

    def running(self, request: gr.Request, tab: str) -> bool:
        """Whether this visitor has a run in that tab."""
        with self._lock:
            return any((run.visitor, run.tab) == (_visitor(request), tab) for run in self._runs)

    def busy(self, visitor: str) -> bool:
        """Whether this visitor has to wait for a run of their own."""
        with self._lock:
            return self._alone and self._goes(visitor)

    def _goes(self, visitor: str) -> bool:
        return any(run.visitor == visitor and not run.token.cancelled for run in self._runs)

    def stop(self, request: gr.Request, *tabs: str) -> str:
        """Ends this visitor's runs of these names; the closing line of the latest."""
        keys = [(_visitor(request), tab) for tab in tabs]
        stopped = self._cancel(lambda run: (run.visitor, run.tab) in keys)
        stopped += [last for key in keys if (last := self._abandoned.pop(key, None))]
        return stopped[-1].clock.stopped() if stopped else bar("Nothing runs or waits in this tab.", 0)

    def leave(self, request: gr.Request) -> None:
        """Ends every run of a visitor who closed the page."""
        self._cancel(lambda run: run.visitor == _visitor(request))
        for key in [key for key in list(self._abandoned) if key[0] == _visitor(request)]:
            self._abandoned.pop(key, None)

    def _cancel(self, meant: Callable[[Run], bool]) -> list[Run]:
        with self._lock:
            runs = [run for run in self._runs if meant(run)]
        for run in runs:
            run.token.cancel()
        return runs


def bar(text: str, share: float, detail: str = "", *, beside: str = "", unfinished: bool = False) -> str:
    """The status line: words, others `beside` and small ones under them, over a thin progress bar.

    Of a run that is `unfinished` some is shown: the page pales what an earlier one left around it.
    """
    more = f" · <span>{beside}</span>" if beside else ""
    small = f"<small>{detail}</small>" if detail else ""
    kind = "status unfinished" if unfinished else "status"
    return (
        f'<div class="{kind}" role="status"><span>{text}</span>{more}{small}'
        f'<i style="width:{100 * share:.1f}%" aria-hidden="true"></i></div>'
    )


def as_text(text: str) -> str:
    """Text in which a name that somebody typed is no markup."""
    return text.replace("<", "&lt;")


def spoken(handler: Callable) -> Callable:
    """The handler, which ends when it is stopped and shows a UserError as its sentence.

    A bug goes to the log with its traceback.
    """

    @functools.wraps(handler)
    def stream(*args, **kwargs):
        with _told_to_people():
            yield from handler(*args, **kwargs)

    @functools.wraps(handler)
    def call(*args, **kwargs):
        with _told_to_people():
            return handler(*args, **kwargs)
        return gr.skip()  # stopped

    return stream if inspect.isgeneratorfunction(handler) else call


@contextmanager
def _told_to_people() -> Iterator[None]:
    try:
        yield
    except Cancelled:
        pass  # the page has already been told, or is closed
    except UserError as error:
        raise gr.Error(as_text(str(error)), print_exception=False, duration=12) from error
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
