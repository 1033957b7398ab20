import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ddpm_app.engine import LikelihoodRequest, SampleRequest, StochasticRequest
from tests.waiting import wait_until

RUNS = [
    SampleRequest(model="tiny-8", num_inference_steps=12, sampler=sampler, num_images=size, seed=size)
    for size, sampler in enumerate(["ddpm", "ddim"] * 2, start=1)
] + [
    StochasticRequest(model="tiny-8", num_inference_steps=12, num_images=3, seed=8),
    LikelihoodRequest(model="tiny-8", picture=torch.full((3, 8, 8), 99, dtype=torch.uint8), num_terms=10),
]


def test_a_run_changes_by_no_more_than_a_level_whoever_else_runs(engine, watch):
    sizes = []
    calls = engine.workers[0].batcher._calls

    def together(x_t, t):
        if not sizes and threading.current_thread() is not threading.main_thread():
            wait_until(lambda: len(calls) == len(RUNS))
        sizes.append(len(x_t))

    def result(request):
        if isinstance(request, LikelihoodRequest):
            *_, last = engine.likelihood(request)
            return last.bits_per_dim
        *_, last = engine.run(request)
        return last.images.int()

    watch(together)
    alone = [result(request) for request in RUNS]
    largest = max(sizes)
    sizes.clear()
    with ThreadPoolExecutor(len(RUNS)) as pool:
        merged = list(pool.map(result, RUNS, timeout=120))
    assert max(sizes) > largest
    for one, other in zip(alone[:-1], merged[:-1], strict=True):
        assert (one - other).abs().max() <= 1
    assert merged[-1] == pytest.approx(alone[-1], abs=1e-4)
    assert engine.active_runs == 0


@pytest.mark.parametrize("longest", [4, 100])
def test_eight_visitors_at_once_all_see_their_first_frame_after_two_passes(
    engine, watch, images_per_pass, longest
):
    """Each stops at its first frame until all have one, so that the passes counted are those it took."""
    images_per_pass(16 * 64)  # of 8 x 8
    calls, passes, seen = engine.workers[0].batcher._calls, [], threading.Barrier(8)

    def first_waits_for_all(x_t, t):
        if not passes:
            wait_until(lambda: len(calls) == 8)
        passes.append(len(x_t))

    def first_frame(num_images):
        run = engine.run(SampleRequest(model="tiny-8", num_inference_steps=5, num_images=num_images))
        next(run)
        needed = len(passes)
        seen.wait(60)
        run.close()
        return needed

    watch(first_waits_for_all)
    engine.model("tiny-8")
    with ThreadPoolExecutor(8) as pool:
        needed = list(pool.map(first_frame, [longest] + [4] * 7, timeout=60))
    assert max(needed[1:]) <= 2 + (longest > 64)  # who is computed when a long one ends may read a pass more
    assert needed[0] <= 3


def test_a_long_run_and_a_short_one_advance_together(engine, watch, images_per_pass):
    """Whoever computes waits for the other, so that neither is ahead by the speed of its thread."""
    images_per_pass(16 * 16)  # of 8 x 8
    calls, passes, short = engine.workers[0].batcher._calls, [], []

    def once_the_other_waits(x_t, t):
        wait_until(lambda: len(calls) == 2 or (short and short[0].done()))
        if not short or not short[0].done():
            passes.append(len(x_t))

    def finish(num_images):
        request = SampleRequest(model="tiny-8", num_inference_steps=10, num_images=num_images)
        return len(list(engine.run(request)))

    watch(once_the_other_waits)
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(finish, 40)
        wait_until(lambda: calls)
        short.append(pool.submit(finish, 1))
        assert (short[0].result(timeout=60), long.result(timeout=60)) == (10, 10)
    assert len(passes) <= 2 * 10 + 1
    assert sum(passes) >= 8 * len(passes)  # and the passes were full enough for the long one
