"""A run on ZeroGPU, with a module in place of `spaces` that forks and pickles as the real one does."""

import multiprocessing
import os
import pickle
import sys
import threading
from types import ModuleType

import pytest
import torch

from ddpm_app.engine import (
    Cancelled,
    CancelToken,
    CompressionRequest,
    Engine,
    LikelihoodRequest,
    SampleRequest,
    StochasticRequest,
    zerogpu,
)
from ddpm_app.engine.improved import BoundsRequest
from tests.doubles import refusal

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
REQUEST = SampleRequest(model="tiny-8", num_images=2, num_inference_steps=3, seed=5)
PICTURE = torch.arange(192, dtype=torch.uint8).view(3, 8, 8)


class Spaces(ModuleType):
    """`spaces.GPU` alone: a forked process for each call, whose yields come through a pipe."""

    def __init__(self):
        super().__init__("spaces")
        self.seconds, self.bytes, self.children = [], 0, []

    def GPU(self, duration):
        def decorate(task):
            def through_a_fork(*args):
                self.seconds.append(duration(*args))
                given = pickle.dumps(args)
                here, there = multiprocessing.Pipe(duplex=False)
                stop = multiprocessing.get_context("fork").Event()

                def child():
                    torch.set_num_threads(1)
                    for result in task(*pickle.loads(given)):
                        if stop.is_set():
                            break
                        there.send_bytes(pickle.dumps(result))
                    there.send_bytes(pickle.dumps(StopIteration))

                process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
                process.start()
                self.children.append(process)
                there.close()
                try:
                    while True:
                        content = here.recv_bytes()
                        self.bytes += len(content)
                        if (result := pickle.loads(content)) is StopIteration:
                            return
                        yield result
                finally:
                    stop.set()
                    here.close()
                    process.join(60)

            return through_a_fork

        return decorate


@pytest.fixture
def spaces(monkeypatch):
    module = Spaces()
    hooks = []
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", module)
    monkeypatch.setattr(os, "register_at_fork", lambda after_in_child: hooks.append(after_in_child))
    fork = os.fork

    def with_hooks():
        pid = fork()
        if pid == 0:
            for hook in hooks:
                hook()
        return pid

    monkeypatch.setattr(os, "fork", with_hooks)
    return module


@pytest.fixture
def away(spaces, tiny_pipeline):
    """An engine whose runs cross."""
    return Engine("cpu", tiny_pipeline.parent)


def test_elsewhere_nothing_crosses_and_spaces_is_not_imported(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)  # an import of it would raise
    assert engine._perform == engine._perform_here
    for value in ("", "false", "0"):
        monkeypatch.setenv("SPACES_ZERO_GPU", value)
        assert not zerogpu.on_zero_gpu()


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("run", REQUEST),
        ("run", StochasticRequest(model="tiny-8", num_images=2, num_inference_steps=4, picture=PICTURE)),
        ("likelihood", LikelihoodRequest(picture=PICTURE, model="tiny-8", num_terms=3)),
        ("compress", CompressionRequest(picture=PICTURE, model="tiny-8", num_terms=3)),
        ("measure", BoundsRequest(picture=PICTURE, model="tiny-8", steps=(2,))),
    ],
)
def test_a_run_that_crossed_says_what_it_says_here(engine, away, spaces, method, request_):
    here, there = (list(getattr(each, method)(request_)) for each in (engine, away))
    assert spaces.seconds
    assert len(here) == len(there)
    assert zerogpu.pack(here[-1]) == zerogpu.pack(there[-1])
    if method == "run":
        assert torch.equal(here[-1].images, there[-1].images)


def test_the_models_follow_the_fork(away, spaces, monkeypatch):
    away.model("tiny-8")
    monkeypatch.setattr("ddpm_app.engine.engine.load_model", None)  # what is loaded is not loaded again
    assert len(list(away.run(REQUEST))) == 3


def test_the_models_of_the_folder_are_there_before_the_page_starts(engine, away):
    assert {name for name, _ in away.workers[0].shelf._kept} == {"tiny-8", "exact-shapes", "exact-normal"}
    assert not engine.workers[0].shelf._kept


def test_locks_held_at_the_fork_hold_nobody_up(away):
    away.model("tiny-8")
    stop, held = threading.Event(), threading.Event()

    def hold():
        with away._counting, away.workers[0].batcher._changed:
            held.set()
            stop.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        assert len(list(away.run(REQUEST))) == 3
    finally:
        stop.set()
        thread.join()


def test_stop_reaches_a_run_at_its_next_report_and_ends_its_process(away, spaces):
    token = CancelToken()
    run = away.run(SampleRequest(model="tiny-8", num_images=1, num_inference_steps=1000), token)
    next(run)
    token.cancel()
    with pytest.raises(Cancelled):
        next(run)
    assert not spaces.children[0].is_alive()
    with pytest.raises(Cancelled):
        next(away.run(REQUEST, token))
    assert len(spaces.children) == 1


def test_what_the_visitor_can_mend_crosses_as_its_sentence(away):
    request = SampleRequest(model="tiny-8", num_images=1, num_inference_steps=2000)
    assert "2000" in refusal(lambda: list(away.run(request)))


def test_tensors_are_packed_as_arrays_on_the_cpu():
    value = {"half": torch.ones(2, dtype=torch.float16), "grown": torch.ones(2, requires_grad=True), "n": 1}
    packed = zerogpu.pack(value)
    assert b"torch_utils" not in packed  # nothing of torch's own ways, which share memory or name a device
    back = pickle.loads(packed)
    assert back["half"].dtype == torch.float16
    assert not back["grown"].requires_grad
    assert back["n"] == 1


def test_a_gpu_is_asked_for_as_long_as_the_work_may_take(away, spaces):
    list(away.run(REQUEST))
    assert spaces.seconds == [zerogpu.SHORTEST]
    seconds = zerogpu.seconds_for
    one = SampleRequest(num_images=1, num_inference_steps=1000)
    many = SampleRequest(num_images=16, num_inference_steps=1000)
    assert zerogpu.SHORTEST < seconds(one, 64**2) < seconds(many, 64**2) == zerogpu.LONGEST
    corrected = SampleRequest(num_images=1, num_inference_steps=1000, langevin_steps=1)
    assert seconds(corrected, 64**2) > seconds(one, 64**2) > seconds(one, 32**2)
    measured = LikelihoodRequest(picture=PICTURE, num_terms=1000, num_draws=4)
    assert seconds(measured, 64**2) > seconds(LikelihoodRequest(picture=PICTURE, num_terms=1000), 64**2)
    assert seconds(BoundsRequest(picture=PICTURE, steps=(1000,)), 64**2) > zerogpu.SHORTEST
