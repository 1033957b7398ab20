import threading
from concurrent.futures import ThreadPoolExecutor

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
)
from ddpm_app.engine import engine as engines
from tests.waiting import wait_until

TINY = {"model": "tiny-8", "num_inference_steps": 20, "num_images": 1}
SHORT = SampleRequest(model="tiny-8", num_inference_steps=3, num_images=1)
PICTURE = torch.zeros(3, 8, 8, dtype=torch.uint8)
RUNS = {
    "sample": lambda engine, token=None: engine.run(SampleRequest(**TINY), token),
    "stochastic": lambda engine, token=None: engine.run(StochasticRequest(**TINY), token),
    "likelihood": lambda engine, token=None: engine.likelihood(
        LikelihoodRequest(model="tiny-8", picture=PICTURE, num_terms=200), token
    ),
    "compress": lambda engine, token=None: engine.compress(
        CompressionRequest(model="tiny-8", picture=PICTURE), token
    ),
}
every_run = pytest.mark.parametrize("start", RUNS.values(), ids=RUNS.keys())


def assert_free(engine):
    """No run is under way, and the device serves the next one, from any thread."""
    assert engine.active_runs == 0
    with ThreadPoolExecutor(1) as pool:
        frames = pool.submit(lambda: list(engine.run(SHORT))).result(timeout=60)
    assert len(frames) == 3
    assert engine.active_runs == 0


@every_run
def test_a_run_stopped_by_another_thread_ends_before_the_next_network_call(engine, watch, start):
    calls, reached, stopped = [], threading.Event(), threading.Event()

    def third_call_waits(x_t, t):
        calls.append(t)
        if len(calls) == 3:
            reached.set()
            assert stopped.wait(60)

    watch(third_call_waits)
    token = CancelToken()
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(lambda: list(start(engine, token)))
        assert reached.wait(60)
        assert engine.active_runs == 1
        token.cancel()
        stopped.set()
        with pytest.raises(Cancelled):
            outcome.result(timeout=60)
    assert len(calls) == 3
    assert_free(engine)


@every_run
def test_a_run_stopped_before_it_begins_uses_no_network(engine, watch, start):
    watch(lambda x_t, t: pytest.fail("the network was used"))
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        next(start(engine, token))
    assert engine.active_runs == 0


def test_a_run_stopped_while_it_waits_for_the_device_never_uses_it(engine, watch):
    calls, released = [], threading.Event()

    def first_call_waits(x_t, t):
        calls.append(len(x_t))
        assert released.wait(60)

    watch(first_call_waits)
    token, waiting = CancelToken(), engine.workers[0].batcher._calls
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(lambda: list(engine.run(SHORT)))
        wait_until(lambda: calls)
        stopped = pool.submit(lambda: list(engine.run(SampleRequest(**TINY | {"num_images": 2}), token)))
        wait_until(lambda: len(waiting) == 2)
        token.cancel()
        released.set()
        with pytest.raises(Cancelled):
            stopped.result(timeout=60)
        assert len(other.result(timeout=60)) == 3
    assert calls == [1, 1, 1]
    assert_free(engine)


@every_run
def test_a_run_stopped_while_its_model_is_loaded_waits_for_it_no_longer(tiny_pipeline, monkeypatch, start):
    begun, go_on, load = threading.Event(), threading.Event(), engines.load_model

    def slowly(*args, **kwargs):
        begun.set()
        assert go_on.wait(60)
        return load(*args, **kwargs)

    monkeypatch.setattr(engines, "load_model", slowly)
    engine, token = Engine("cpu", tiny_pipeline.parent), CancelToken()
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(lambda: list(start(engine, token)))
        assert begun.wait(60)
        token.cancel()
        with pytest.raises(Cancelled):
            outcome.result(timeout=60)
        go_on.set()
    assert_free(engine)


@every_run
def test_a_run_counts_as_active_from_its_first_step_to_its_end(engine, start):
    steps = start(engine)
    assert engine.active_runs == 0
    next(steps)
    assert engine.active_runs == 1
    list(steps)
    assert engine.active_runs == 0


@every_run
def test_a_run_closed_early_leaves_the_device_free(engine, start):
    steps = start(engine)
    next(steps)
    steps.close()
    assert_free(engine)


def test_a_run_closed_by_another_thread_leaves_the_device_free(engine):
    steps = engine.run(SampleRequest(**TINY))
    next(steps)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(steps.close).result(timeout=60)
    assert_free(engine)


@every_run
def test_a_network_that_fails_leaves_the_engine_usable(engine, watch, start):
    calls = []

    def second_call_fails(x_t, t):
        calls.append(t)
        if len(calls) == 2:
            raise RuntimeError("out of memory")

    watch(second_call_fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(start(engine))
    assert_free(engine)


def test_two_engines_share_nothing(tiny_pipeline):
    one, other = (Engine("cpu", tiny_pipeline.parent) for _ in range(2))
    steps = one.run(SHORT)
    next(steps)
    assert (one.active_runs, other.active_runs) == (1, 0)
    assert one.model("tiny-8") is not other.model("tiny-8")


def test_a_token_once_set_stays_set():
    token = CancelToken()
    token.check()
    assert not token.cancelled
    token.cancel()
    token.cancel()
    assert token.cancelled
    with pytest.raises(Cancelled):
        token.check()
