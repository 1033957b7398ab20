"""The engine: the devices with the models on them, and the runs under way."""

__all__ = ["Engine", "run"]

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ddpm_app.engine import analytic, branches, coding, ddim, improved, likelihood, procedures
from ddpm_app.engine.batching import Batcher
from ddpm_app.engine.cancel import CancelToken
from ddpm_app.engine.frames import CompressionReport, Frame, LikelihoodReport
from ddpm_app.engine.limits import UNLIMITED, Limits
from ddpm_app.engine.requests import (
    CompressionRequest,
    ForwardRequest,
    InterpolateRequest,
    LikelihoodRequest,
    SampleRequest,
    SlerpRequest,
    StochasticRequest,
)
from ddpm_app.engine.shelf import Loading, Report, Shelf, memory_of
from ddpm_app.engine.zerogpu import load_ahead, through_fork
from ddpm_app.models import (
    BUNDLED,
    HUB_MODELS,
    Model,
    available_models,
    load_model,
    resolve_devices,
    stamp,
)

MODEL_SHARE = 0.5  # of a device's memory
PROCEDURES: dict[type, Callable[[Any, Model], Iterator[Any]]] = {
    SampleRequest: procedures.sample,
    StochasticRequest: procedures.stochastic,
    InterpolateRequest: procedures.interpolate,
    SlerpRequest: procedures.interpolate_latents,
    branches.BranchRequest: branches.branch,
    ddim.ReconstructRequest: ddim.reconstruct,
    ddim.SlerpGridRequest: ddim.interpolate_grid,
    LikelihoodRequest: likelihood.likelihood,
    CompressionRequest: likelihood.compress,
    improved.VarianceRequest: improved.variances,
    improved.BoundsRequest: improved.bounds,
    analytic.GammaRequest: analytic.measure,
    coding.CodingRequest: coding.code,
}


@dataclass(eq=False)
class Worker:
    """A device, or a share of one, the models on it, and the images of the runs that it works on."""

    device: torch.device
    shelf: Shelf
    batcher: Batcher
    active_images: int = 0


class Engine:
    """Runs requests, each on one of its devices; every method may be called from any thread."""

    def __init__(self, device: str = "auto", checkpoints: Path = BUNDLED, limits: Limits = UNLIMITED) -> None:
        self.limits = limits
        self._perform = through_fork(self._perform_here, self._renew, self._pixels)
        devices = resolve_devices(device)
        rooms = [int(MODEL_SHARE * memory_of(each) / devices.count(each)) for each in devices]
        self.workers = [
            Worker(each, Shelf(room), Batcher(limits.patience))
            for each, room in zip(devices, rooms, strict=True)
        ]
        self.checkpoints = Path(checkpoints)
        self._counting = threading.Lock()  # held for a moment
        self._active: set[CancelToken] = set()
        self._spent: WeakKeyDictionary[CancelToken, float] = WeakKeyDictionary()  # shares of the budget
        load_ahead(self.model, self.available_models())

    @property
    def active_runs(self) -> int:
        """How many runs are under way; 0 means that the device is free."""
        return len(self._active)

    def offered_models(self) -> list[str]:
        """The names to choose from: those on the list of a public page, or all that are known now."""
        return list(self.limits.models) or [*self.available_models(), *HUB_MODELS]

    def loaded(self, name: str) -> Model | None:
        """The model of that name, where it is in memory already."""
        return next((model for worker in self.workers if (model := worker.shelf.kept(name))), None)

    def available_models(self) -> list[str]:
        """The names that need no network, read from disk now."""
        return available_models(self.checkpoints)

    def model(self, name: str, precision: str = "exact") -> Model:
        """The loaded model, on the device that a run would go to now."""
        return self._ask(self._least_busy(), name, precision).model.result()

    def loading(self, name: str, precision: str = "exact") -> Iterator[tuple[int, int]]:
        """The bytes of its download that are here, and in all, until `model` has it at once or refuses it.

        (0, 0) as long as nothing is downloaded.
        """
        return self._ask(self._least_busy(), name, precision).progress()

    def _least_busy(self) -> Worker:
        return min(self.workers, key=lambda worker: worker.active_images)

    def _ask(self, worker: Worker, name: str, precision: str) -> Loading:
        return worker.shelf.ask(*self._wanted(worker, name, precision))

    def _wanted(self, worker: Worker, name: str, precision: str) -> tuple:
        """What a shelf is asked for: the key, the time of the weights, and how they are loaded."""
        self.limits.admit(name)

        def load(report: Report) -> Model:
            device = str(worker.device)
            return load_model(name, device, precision, checkpoints=self.checkpoints, report=report)

        return (name, precision), stamp(name, self.checkpoints), load

    def run(self, request: SampleRequest, cancel: CancelToken | None = None) -> Iterator[Frame]:
        """One Frame for each reverse step. Raises Cancelled within one step of the token being set."""
        return self._start(request, cancel or CancelToken())

    def measuring(self, request: Any, cancel: CancelToken | None = None) -> Iterator[tuple[int, int]]:
        """Steps done and to do for the analytic variance, until `run` or `measure` has at once what it takes.

        Nothing where the request has another variance, or all is known; without this a run measures unseen.
        """
        token, model = cancel or CancelToken(), self.model(request.model, request.precision)
        if not (wanted := analytic.missing(model, request)):
            return
        self.limits.check(self._spent.get(token, 0.0) + self._share(request, model))
        for report in self._start(wanted, token):
            yield report.step, report.num_steps
        model.measured.learn(report.measured)

    def forward(self, request: ForwardRequest) -> Tensor:
        """x_t after each of the request's diffusion steps, uint8 (K, C, H, W)."""
        return procedures.forward(request)

    def likelihood(
        self, request: LikelihoodRequest, cancel: CancelToken | None = None
    ) -> Iterator[LikelihoodReport]:
        """The bound as it is measured, ever more complete."""
        return self._start(request, cancel or CancelToken())

    def compress(
        self, request: CompressionRequest, cancel: CancelToken | None = None
    ) -> Iterator[CompressionReport]:
        """One more picture that a receiver sees with each report, from x_T to x_1."""
        return self._start(request, cancel or CancelToken())

    def measure(self, request: Any, cancel: CancelToken | None = None) -> Iterator[Any]:
        """The reports of a VarianceRequest, a BoundsRequest or a CodingRequest, ever more complete."""
        return self._start(request, cancel or CancelToken())

    def _start(self, request: Any, token: CancelToken) -> Iterator[Any]:
        return self._metered(request, token) if self.limits.public else self._perform(request, token)

    def _metered(self, request: Any, token: CancelToken) -> Iterator[Any]:
        for _ in self.loading(request.model, request.precision):
            token.check()
        self._spend(request, self.model(request.model, request.precision), token)
        yield from self._perform(request, token)

    def _perform_here(self, request: Any, token: CancelToken) -> Iterator[Any]:
        with self._placed(request, token) as model:
            yield from PROCEDURES[type(request)](request, analytic.informed(request, model))

    @contextmanager
    def _placed(self, request: Any, token: CancelToken) -> Iterator[Model]:
        """The request's model on the least busy device, its calls merged with those of other runs.

        Within the block the run counts as active, however it ends.
        """
        num_images = getattr(request, "num_images", likelihood.TERMS_AT_ONCE)
        with self._counting:
            worker = self._least_busy()
            worker.active_images += num_images
            self._active.add(token)
        try:
            token.check()
            key, written, load = self._wanted(worker, request.model, request.precision)
            with worker.shelf.borrow(key, written, load, token.check) as model:
                compute = partial(worker.batcher.compute, alone=getattr(request, "alone", False))
                yield replace(model, denoiser=partial(compute, model.denoiser, token), check=token.check)
        finally:
            with self._counting:
                worker.active_images -= num_images
                self._active.discard(token)

    def _spend(self, request: Any, model: Model, token: CancelToken) -> None:
        """UserError when this request and what ran before it under the same token go beyond the limits."""
        with self._counting:
            spent = self._spent.get(token, 0.0) + self._share(request, model)
            self._spent[token] = spent
        self.limits.check(spent)

    def _share(self, request: Any, model: Model) -> float:
        """The part of the budget that the request takes, with what has to be measured for it."""
        unasked = analytic.measuring_calls(model, request) + likelihood.unasked_terms(request, model)
        per_value = getattr(request, "operations_per_value", 0.0)
        return self.limits.share(request.network_calls + unasked, model, per_value)

    def _renew(self) -> None:
        """As it is, in a process forked from this one, in which nothing runs and nobody holds a lock."""
        self._counting, self._active = threading.Lock(), set()
        for worker in self.workers:
            worker.batcher, worker.active_images = Batcher(self.limits.patience), 0
            worker.shelf.renew()

    def _pixels(self, request: Any) -> int:
        _, height, width = self.model(request.model, request.precision).image_shape
        return height * width


@lru_cache(maxsize=1)
def _default_engine() -> Engine:
    return Engine()


def run(request: SampleRequest, cancel: CancelToken | None = None) -> Iterator[Frame]:
    """The request on this process's own engine, made at the first call; see Engine.run."""
    return _default_engine().run(request, cancel)
