"""The engine: loaded models, the gate of the device, and the runs under way."""

__all__ = ["Engine", "run"]

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_app.core.samplers import Denoiser
from ddpm_app.engine import procedures
from ddpm_app.engine.cancel import CancelToken, Gate
from ddpm_app.engine.frames import Frame, LikelihoodReport
from ddpm_app.engine.requests import (
    ForwardRequest,
    InterpolateRequest,
    LikelihoodRequest,
    SampleRequest,
    SlerpRequest,
    StochasticRequest,
)
from ddpm_app.models import BUNDLED, Model, available_models, load_model, weights_time

MAX_LOADED_MODELS = 3
PIXELS_PER_PASS = 2**18  # of one forward pass, over all its images: bounds memory, and the wait for a Stop
PROCEDURES: dict[type, Callable[[Any, Model], Iterator[Frame]]] = {
    SampleRequest: procedures.sample,
    StochasticRequest: procedures.stochastic,
    InterpolateRequest: procedures.interpolate,
    SlerpRequest: procedures.interpolate_latents,
}


class Engine:
    """Runs requests on one device; every method may be called from any thread."""

    def __init__(self, device: str = "auto", checkpoints: Path = BUNDLED) -> None:
        self.device = device
        self.checkpoints = Path(checkpoints)
        self._gate = Gate()
        self._models: OrderedDict[tuple[str, str], tuple[int, Model]] = OrderedDict()
        self._loading: dict[tuple[str, str], threading.Lock] = {}  # held as long as a download takes
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
        """The loaded model, read anew once its weights were written again.

        At most three stay in memory, and the one used longest ago leaves first.
        """
        key, written = (name, precision), weights_time(name, self.checkpoints)
        if known := self._loaded(key, written):
            return known
        with self._remembering:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            if known := self._loaded(key, written):  # by whoever loaded before us
                return known
            model = load_model(name, self.device, precision, checkpoints=self.checkpoints)
            with self._remembering:
                self._models[key] = written, model
                self._models.move_to_end(key)
                while len(self._models) > MAX_LOADED_MODELS:
                    self._models.popitem(last=False)
            return model

    def _loaded(self, key: tuple[str, str], written: int) -> Model | None:
        with self._remembering:
            then, model = self._models.get(key, (0, None))
            if model is None or written not in (0, then):  # 0: not on this disk, or no longer
                return None
            self._models.move_to_end(key)
            return model

    def run(self, request: SampleRequest, cancel: CancelToken | None = None) -> Iterator[Frame]:
        """One Frame for each reverse step. Raises Cancelled within one step of the token being set."""
        with self._registered(cancel or CancelToken()) as token:
            yield from PROCEDURES[type(request)](request, self._steered(request, token))

    def forward(self, request: ForwardRequest) -> Tensor:
        """x_t after each of the request's diffusion steps, uint8 (K, C, H, W)."""
        return procedures.forward(request)

    def likelihood(
        self, request: LikelihoodRequest, cancel: CancelToken | None = None
    ) -> Iterator[LikelihoodReport]:
        """The bound as it is measured, ever more complete."""
        with self._registered(cancel or CancelToken()) as token:
            yield from procedures.likelihood(request, self._steered(request, token))

    @contextmanager
    def _registered(self, token: CancelToken) -> Iterator[CancelToken]:
        """The run counts as active within the block, however it ends."""
        self._active.add(token)
        try:
            token.check()
            yield token
        finally:
            self._active.discard(token)

    def _steered(self, request: SampleRequest | LikelihoodRequest, token: CancelToken) -> Model:
        """The request's model, whose denoiser waits for its turn and stops when the token is set."""
        model = self.model(request.model, request.precision)
        return replace(model, denoiser=self._taking_turns(model.denoiser, token))

    def _taking_turns(self, denoiser: Denoiser, token: CancelToken) -> Denoiser:
        def steered(x_t: Tensor, t: Tensor) -> Tensor:
            per_pass = max(1, PIXELS_PER_PASS // x_t[0, 0].numel())
            parts = []
            for some, when in zip(x_t.split(per_pass), t.split(per_pass), strict=True):
                token.check()
                with self._gate.turn(), torch.inference_mode():
                    token.check()
                    parts.append(denoiser(some, when))
            return torch.cat(parts)

        return steered


@lru_cache(maxsize=1)
def _default_engine() -> Engine:
    return Engine()


def run(request: SampleRequest, cancel: CancelToken | None = None) -> Iterator[Frame]:
    """The request on this process's own engine, made at the first call; see Engine.run."""
    return _default_engine().run(request, cancel)
