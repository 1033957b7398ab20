"""Threads that call one batcher, and the networks they call it with."""

import threading
from contextlib import contextmanager

import torch

from ddpm_app.engine import CancelToken
from ddpm_app.engine.batching import Batcher
from tests.waiting import wait_until

FOREVER = 2**60  # more elements than any memory holds


class Network:
    """A denoiser of images (1, 2, 2) that remembers the timesteps of each pass."""

    def __init__(self, behave=lambda t: None):
        self.behave, self.passes = behave, []

    def __call__(self, x_t, t):
        self.passes.append(t.tolist())
        self.behave(t)
        return x_t * 2 + t.view(-1, 1, 1, 1)


def images(timesteps):
    """(x_t, t), every image another."""
    t = torch.tensor(timesteps)
    return torch.arange(4.0).view(1, 1, 2, 2) + 1000 * t.view(-1, 1, 1, 1), t


def right(timesteps):
    return Network()(*images(timesteps))


class Visitors:
    """Threads that call one batcher."""

    def __init__(self, pool):
        self.pool, self.batcher = pool, Batcher()

    def ask(self, network, timesteps, token=None):
        """The future output of network for these timesteps."""
        return self.pool.submit(self.batcher.compute, network, token or CancelToken(), *images(timesteps))

    @property
    def waiting(self):
        return len(self.batcher._calls)

    @contextmanager
    def together(self):
        """What is asked for within the block waits until its end, in the order of asking."""
        inside, released = threading.Event(), threading.Event()

        def another(x_t, t):
            inside.set()
            assert released.wait(60)
            return x_t

        first = self.ask(another, [0])
        assert inside.wait(60)
        ask, asked = self.ask, []

        def ask_in_order(*values):
            asked.append(ask(*values))
            wait_until(lambda: self.waiting == 1 + len(asked))
            return asked[-1]

        self.ask = ask_in_order
        try:
            yield
        finally:
            self.ask = ask
            released.set()
        first.result(timeout=60)


def got(future):
    return future.result(timeout=60)


def failing_at(*guilty):
    def behave(t):
        if wrong := [timestep for timestep in t.tolist() if timestep in guilty]:
            raise ArithmeticError(f"timestep {wrong[0]}")

    return behave


def allocating(most):
    """More than `most` images at once are more than this machine's memory holds."""
    return lambda t: torch.empty(FOREVER) if len(t) > most else None
