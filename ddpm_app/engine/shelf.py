"""The models in a worker's memory: each loaded once for all who ask, all of them within a bound in bytes.

The one used longest ago leaves first. One at work stays: its memory would not be free before its run ends,
not even where newer weights have taken its place.
"""

__all__ = ["Loading", "Shelf", "memory_of"]

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from ddpm_app.errors import UserError
from ddpm_app.models import Model

Key = tuple[str, str]  # name, precision
Report = Callable[[int, int], None]
TELL_SECONDS = 0.25
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


class Loading:
    """A model on its way into memory, and how many bytes of its download are here."""

    def __init__(self) -> None:
        self.model: Future[Model] = Future()
        self._here = self._size = 0

    def report(self, here: int, size: int) -> None:
        """Takes note; ends the download when the program ends."""
        if not threading.main_thread().is_alive():
            raise InterruptedError("the program ends")
        self._here, self._size = here, size

    def progress(self) -> Iterator[tuple[int, int]]:
        """(here, in all) a few times a second until the model is there, or fails; else (0, 0)."""
        while not wait([self.model], TELL_SECONDS).done:
            yield self._here, self._size


@dataclass(eq=False)
class Kept:
    """A model in memory, with the time of its weights, and how many runs are at work on it."""

    written: int
    model: Model
    users: int = 0


class Shelf:
    """The models of one worker; every method may be called from any thread."""

    def __init__(self, room: int) -> None:
        self.room = room  # bytes
        self._kept: OrderedDict[Key, Kept] = OrderedDict()  # the one used longest ago first
        self._replaced: list[Kept] = []  # by newer weights, and still at work
        self._loading: dict[tuple[Key, int], Loading] = {}
        self._lock = threading.Lock()  # held for a moment: who has a model does not wait for downloads

    def renew(self) -> None:
        """As it is, in a process forked from another, where nobody loads and nobody holds the lock."""
        self._loading, self._lock = {}, threading.Lock()

    def kept(self, name: str) -> Model | None:
        """The model of that name, where it is here already."""
        with self._lock:
            return next((kept.model for (known, _), kept in self._kept.items() if known == name), None)

    def ask(self, key: Key, written: int, load: Callable[[Report], Model]) -> Loading:
        """The model that is kept, or is being loaded, or begins to be, in a thread of its own.

        `written` tells changed files, which are loaded anew, from those loaded; 0 where none lie here.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept and written in (0, kept.written):
                self._kept.move_to_end(key)
                there = Loading()
                there.model.set_result(kept.model)
                return there
            if loading := self._loading.get((key, written)):
                return loading
            loading = Loading()
            threading.Thread(target=self._load, args=(key, written, load, loading), name="load").start()
            self._loading[key, written] = loading
        return loading

    @contextmanager
    def borrow(
        self, key: Key, written: int, load: Callable[[Report], Model], check: Callable[[], None]
    ) -> Iterator[Model]:
        """The model, which stays within the block; `check` may raise while it is loaded."""
        while True:
            loading = self.ask(key, written, load)
            for _ in loading.progress():
                check()
            model = loading.model.result()
            with self._lock:
                kept = self._kept.get(key)
                if kept and kept.model is model:  # else it had to leave this moment
                    kept.users += 1
                    break
        try:
            yield model
        finally:
            with self._lock:
                kept.users -= 1
                self._replaced = [each for each in self._replaced if each.users]

    def _load(self, key: Key, written: int, load: Callable[[Report], Model], loading: Loading) -> None:
        try:
            model = load(loading.report)
            with self._lock:
                self._make_room(key, model)
                self._kept[key] = Kept(written, model)
                del self._loading[key, written]
        except BaseException as error:  # told to whoever waits
            with self._lock:
                self._loading.pop((key, written), None)
            loading.model.set_exception(error)
        else:
            loading.model.set_result(model)

    def _make_room(self, key: Key, model: Model) -> None:
        """Lets go of the older one and of idle models until this one fits; alone it may be too large."""
        at_work = [kept for kept in self._here if kept.users]
        if at_work and sum(kept.model.num_bytes for kept in at_work) + model.num_bytes > self.room:
            names = dict.fromkeys(kept.model.name for kept in at_work)
            raise UserError(
                f"{model.name} does not fit into memory beside {', '.join(names)}, "
                "which are at work; wait until they have ended, or choose one of them"
            )
        older = self._kept.pop(key, None)
        if older and older.users:
            self._replaced.append(older)
        idle = [other for other, kept in self._kept.items() if not kept.users]
        while idle and self._taken + model.num_bytes > self.room:
            del self._kept[idle.pop(0)]

    @property
    def _here(self) -> list[Kept]:
        return [*self._kept.values(), *self._replaced]

    @property
    def _taken(self) -> int:
        return sum(kept.model.num_bytes for kept in self._here)


def memory_of(device: torch.device) -> int:
    """The bytes of memory that the device has, for a CPU in a container those of the container."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [Path(file).read_text().strip() for file in LIMITS if Path(file).is_file()]
    return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit.isdecimal())])
