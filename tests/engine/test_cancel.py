import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch

from ddpm_app.engine import (
    Cancelled,
    CancelToken,
    Engine,
    LikelihoodRequest,
    SampleRequest,
    StochasticRequest,
)
from ddpm_app.engine.cancel import Gate

TINY = {"model": "tiny-8", "num_inference_steps": 20, "num_images": 1}
SHORT = SampleRequest(model="tiny-8", num_inference_steps=3, num_images=1)
PICTURE = torch.zeros(3, 8, 8, dtype=torch.uint8)
RUNS = {
    "sample": lambda engine, token=None: engine.run(SampleRequest(**TINY), token),
    "stochastic": lambda engine, token=None: engine.run(StochasticRequest(**TINY), token),
    "likelihood": lambda engine, token=None: engine.likelihood(
        LikelihoodRequest(model="tiny-8", picture=PICTURE, num_terms=20), token
    ),
}
every_run = pytest.mark.parametrize("start", RUNS.values(), ids=RUNS.keys())


def wait_until(condition):
    """Returns once condition() holds; fails after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


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


def test_a_run_stopped_while_it_waits_for_its_turn_never_takes_it(engine, watch):
    calls = []
    watch(lambda x_t, t: calls.append(t))
    token = CancelToken()
    with ThreadPoolExecutor(1) as pool:
        with engine._gate.turn():
            outcome = pool.submit(lambda: list(engine.run(SHORT, token)))
            wait_until(lambda: engine._gate._waiting)
            token.cancel()
        with pytest.raises(Cancelled):
            outcome.result(timeout=60)
    assert calls == []
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


def test_two_runs_take_turns_step_by_step(engine, watch):
    """Each holds the device until the other waits for it: then first come, first served must alternate."""
    turns = []

    def once_the_other_waits(x_t, t):
        if len(turns) < 38:  # of 40: at the end one of the two is alone
            wait_until(lambda: engine._gate._waiting)
        turns.append(len(x_t))

    watch(once_the_other_waits)
    with ThreadPoolExecutor(2) as pool:
        requests = [SampleRequest(**TINY | {"num_images": size}) for size in (1, 2)]
        runs = [pool.submit(lambda request=request: list(engine.run(request))) for request in requests]
        assert [len(run.result(timeout=120)) for run in runs] == [20, 20]
    assert sorted(turns) == [1] * 20 + [2] * 20
    assert all(before != after for before, after in pairwise(turns[:38]))


def test_a_result_does_not_depend_on_who_else_runs(engine):
    requests = [
        SampleRequest(**TINY | {"num_images": 2}, sampler="ddpm", seed=5),
        SampleRequest(**TINY | {"num_images": 3}, sampler="ddim", seed=6),
        SampleRequest(model="exact-normal", sampler="ddpm", num_inference_steps=20, num_images=2, seed=7),
        StochasticRequest(**TINY | {"num_images": 2}, seed=8),
    ]

    def final(request):
        *_, last = engine.run(request)
        return last.images

    alone = [final(request) for request in requests]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(final, requests, timeout=120))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert engine.active_runs == 0


def test_two_engines_share_nothing(tiny_pipeline):
    one, other = (Engine("cpu", tiny_pipeline.parent) for _ in range(2))
    steps = one.run(SHORT)
    next(steps)
    assert (one.active_runs, other.active_runs) == (1, 0)
    assert one.model("tiny-8") is not other.model("tiny-8")


# the gate


def test_the_gate_serves_in_the_order_of_arrival():
    gate, served = Gate(), []

    def visit(number):
        with gate.turn():
            served.append(number)

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(5)]
    with gate.turn():
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda expected=number + 1: len(gate._waiting) == expected)
        assert served == []
    for thread in threads:
        thread.join(60)
    assert served == [0, 1, 2, 3, 4]


def test_the_gate_lets_one_in_at_a_time():
    gate, inside, most = Gate(), [], []

    def visit(_):
        for _ in range(50):
            with gate.turn():
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(visit, range(4)))
    assert set(most) == {1}
    assert len(most) == 200


def test_a_token_once_set_stays_set():
    token = CancelToken()
    token.check()
    assert not token.cancelled
    token.cancel()
    token.cancel()
    assert token.cancelled
    with pytest.raises(Cancelled):
        token.check()
