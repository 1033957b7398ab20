"""The engine: the devices, the models loaded on them, and the runs under way."""

__all__ = ["Engine", "run"]

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_app.engine import branches, ddim, improved, likelihood, procedures
from ddpm_app.engine.batching import Batcher
from ddpm_app.engine.cancel import CancelToken
from ddpm_app.engine.frames import CompressionReport, Frame, LikelihoodReport
from ddpm_app.engine.requests import (
    CompressionRequest,
    ForwardRequest,
    InterpolateRequest,
    LikelihoodRequest,
    SampleRequest,
    SlerpRequest,
    StochasticRequest,
)
from ddpm_app.models import BUNDLED, Model, available_models, load_model, resolve_devices, weights_time

MAX_LOADED_MODELS = 3
PROCEDURES: dict[type, Callable[[Any, Model], Iterator[Frame]]] = {
    SampleRequest: procedures.sample,
    StochasticRequest: procedures.stochastic,
    InterpolateRequest: procedures.interpolate,
    SlerpRequest: procedures.interpolate_latents,
    branches.BranchRequest: branches.branch,
    ddim.ReconstructRequest: ddim.reconstruct,
    ddim.SlerpGridRequest: ddim.interpolate_grid,
}
MEASUREMENTS: dict[type, Callable[[Any, Model], Iterator[Any]]] = {
    improved.VarianceRequest: improved.variances,
    improved.BoundsRequest: improved.bounds,
}


@dataclass(eq=False)
class Worker:
    """A device, or a share of one, and the images of the runs that it works on."""

    device: torch.device
    batcher: Batcher = field(default_factory=Batcher)
    active_images: int = 0


Key = tuple[Worker, str, str]  # whose copy, name, precision


class Engine:
    """Runs requests, each on one of its devices; every method may be called from any thread."""

    def __init__(self, device: str = "auto", checkpoints: Path = BUNDLED) -> None:
        self.workers = [Worker(device) for device in resolve_devices(device)]
        self.checkpoints = Path(checkpoints)
        self._models: OrderedDict[Key, tuple[int, Model]] = OrderedDict()  # with the time of its weights
        self._loading: dict[Key, threading.Lock] = {}  # held as long as a download takes
        self._remembering = threading.Lock()  # held for a moment: loaded models do not wait for downloads
        self._active: set[CancelToken] = set()

    @property
    def active_runs(self) -> int:
        """How many runs are under way; 0 means that the device is free."""
        return len(self._active)

    def available_models(self) -> list[str]:
        """The names that need no network, read from disk now."""
        return available_models(self.checkpoints)

    def model(self, name: str, precision: str = "exact") -> Model:
        """The loaded model, on the device that a run would go to now."""
        return self._model(self._least_busy(), name, precision)

    def _least_busy(self) -> Worker:
        return min(self.workers, key=lambda worker: worker.active_images)

    def _model(self, worker: Worker, name: str, precision: str) -> Model:
        """The worker's copy; at most three stay in memory, and the one used longest ago leaves first."""
        key, written = (worker, name, precision), weights_time(name, self.checkpoints)
        if known := self._loaded(key, written):
            return known
        with self._remembering:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            if known := self._loaded(key, written):  # by whoever loaded before us
                return known
            model = load_model(name, str(worker.device), precision, checkpoints=self.checkpoints)
            with self._remembering:
                self._models[key] = written, model
                self._models.move_to_end(key)
                for old in [old for old in self._models if old[0] is worker][:-MAX_LOADED_MODELS]:
                    del self._models[old]
            return model

    def _loaded(self, key: Key, written: int) -> Model | None:
        with self._remembering:
            then, model = self._models.get(key, (0, None))
            if model is None or written not in (0, then):  # 0: not on this disk, or no longer
                return None
            self._models.move_to_end(key)
            return model

    def run(self, request: SampleRequest, cancel: CancelToken | None = None) -> Iterator[Frame]:
        """One Frame for each reverse step. Raises Cancelled within one step of the token being set."""
        with self._placed(request, cancel or CancelToken()) as model:
            yield from PROCEDURES[type(request)](request, model)

    def forward(self, request: ForwardRequest) -> Tensor:
        """x_t after each of the request's diffusion steps, uint8 (K, C, H, W)."""
        return procedures.forward(request)

    def likelihood(
        self, request: LikelihoodRequest, cancel: CancelToken | None = None
    ) -> Iterator[LikelihoodReport]:
        """The bound as it is measured, ever more complete."""
        with self._placed(request, cancel or CancelToken()) as model:
            yield from likelihood.likelihood(request, model)

    def compress(
        self, request: CompressionRequest, cancel: CancelToken | None = None
    ) -> Iterator[CompressionReport]:
        """One more picture that a receiver sees with each report, from x_T to x_1."""
        with self._placed(request, cancel or CancelToken()) as model:
            yield from likelihood.compress(request, model)

    def measure(self, request: Any, cancel: CancelToken | None = None) -> Iterator[Any]:
        """The reports of a VarianceRequest or a BoundsRequest, ever more complete."""
        with self._placed(request, cancel or CancelToken()) as model:
            yield from MEASUREMENTS[type(request)](request, model)

    @contextmanager
    def _placed(self, request: Any, token: CancelToken) -> Iterator[Model]:
        """The request's model on the least busy device, its calls merged with those of other runs.

        Within the block the run counts as active, however it ends.
        """
        num_images = getattr(request, "num_images", likelihood.TERMS_AT_ONCE)
        with self._remembering:
            worker = self._least_busy()
            worker.active_images += num_images
            self._active.add(token)
        try:
            token.check()
            model = self._model(worker, request.model, request.precision)
            yield replace(model, denoiser=partial(worker.batcher.compute, model.denoiser, token))
        finally:
            with self._remembering:
                worker.active_images -= num_images
                self._active.discard(token)


@lru_cache(maxsize=1)
def _default_engine() -> Engine:
    return Engine()


def run(request: SampleRequest, cancel: CancelToken | None = None) -> Iterator[Frame]:
    """The request on this process's own engine, made at the first call; see Engine.run."""
    return _default_engine().run(request, cancel)
