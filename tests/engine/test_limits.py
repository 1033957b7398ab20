"""What one run may take where strangers ask, and networks that fail them."""

import threading
import time
import weakref
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
import torch

from ddpm_app.engine import (
    BoundsRequest,
    BranchRequest,
    CancelToken,
    CodingRequest,
    CompressionRequest,
    Engine,
    InterpolateRequest,
    LikelihoodRequest,
    Limits,
    ReconstructRequest,
    SampleRequest,
    SlerpGridRequest,
    SlerpRequest,
    StochasticRequest,
    visitors_limits,
)
from ddpm_app.engine import engine as engine_module
from ddpm_app.engine.batching import Batcher
from ddpm_app.engine.likelihood import least_terms
from ddpm_app.engine.limits import OPERATIONS, OPERATIONS_PER_PIXEL, cores
from ddpm_app.engine.patience import Patience, Stalled
from ddpm_app.models import load_model
from tests.doubles import refusal
from tests.waiting import wait_until

PICTURE = torch.zeros(3, 8, 8, dtype=torch.uint8)
BUDGET = 100 * 64 * OPERATIONS_PER_PIXEL  # a hundred images of 8 x 8 through a network that costs nothing


def free_of_cost(model):
    return replace(model, operations=lambda: 0)


@pytest.fixture
def public(tiny_pipeline, monkeypatch) -> Engine:
    """An engine for strangers, its network counted as nothing, so that the budget is a hundred calls."""
    monkeypatch.setattr(engine_module, "load_model", lambda *a, **k: free_of_cost(load_model(*a, **k)))
    return Engine("cpu", tiny_pipeline.parent, Limits(("tiny-8",), BUDGET, 60.0))


def asking(num_images, steps, **others):
    return SampleRequest(model="tiny-8", num_images=num_images, num_inference_steps=steps, **others)


def test_a_run_within_the_budget_is_served_and_one_beyond_it_is_told_what_to_do(public):
    assert len(list(public.run(asking(10, 10)))) == 10
    sentence = refusal(lambda: list(public.run(asking(20, 10))))
    assert "2 times the work" in sentence
    assert "50 %" in sentence
    assert "3 times" in refusal(lambda: list(public.run(asking(10, 10, langevin_steps=2))))
    assert public.active_runs == 0


@pytest.mark.parametrize(
    ("share", "times", "percent"),
    [(1.0001, "1", "99"), (1.2, "1.2", "83"), (350, "350", "0.28"), (12_345_678, "12300000", "0.0000081")],
)
def test_what_is_still_allowed_is_a_number_that_one_can_read_and_rely_on(share, times, percent):
    sentence = refusal(lambda: Limits(operations=1).check(share))
    assert f"takes {times} times" in sentence
    assert f", {percent} % of them" in sentence


def test_the_runs_of_one_click_are_counted_together(public):
    click = CancelToken()
    list(public.run(asking(6, 10), click))
    assert "1.2 times" in refusal(lambda: list(public.run(asking(6, 10), click)))
    assert len(list(public.run(asking(6, 10), CancelToken()))) == 10


@pytest.mark.parametrize("name", ["/etc", "../tiny-8", "owner/repo", "x" * 10_000, ""])
def test_a_model_that_is_not_on_the_list_is_refused_before_anything_looks_for_it(public, monkeypatch, name):
    for looks in ("stamp", "load_model"):
        monkeypatch.setattr(engine_module, looks, lambda *a, **k: pytest.fail("looked for"))
    assert "not among the models" in refusal(lambda: public.model(name))
    request = replace(asking(1, 1), model=name)
    assert "tiny-8" in refusal(lambda: list(public.run(request)))


def test_ones_own_machine_has_no_limits(engine):
    limits = Limits()
    limits.admit("any/name")
    limits.check(limits.share(10**12, engine.model("tiny-8")))
    assert not limits.public
    assert engine.offered_models()[0] == "tiny-8"


@pytest.mark.parametrize(
    "request_",
    [
        asking(3, 4, langevin_steps=1),
        asking(2, 5, sampler="sde-dpmsolver++"),
        asking(2, 5, sampler="ddpm", variance_type="analytic"),
        StochasticRequest(model="tiny-8", num_images=3, num_inference_steps=6),
        StochasticRequest(model="tiny-8", num_images=20, num_inference_steps=2, diffusion_steps=1000),
        StochasticRequest(
            model="tiny-8", num_images=1, num_inference_steps=3, diffusion_steps=9, langevin_steps=2
        ),
        InterpolateRequest(
            model="tiny-8",
            picture_a=PICTURE,
            picture_b=PICTURE,
            num_images=20,
            num_inference_steps=1,
            diffusion_steps=1000,
        ),
        SlerpRequest(model="tiny-8", num_images=3, num_inference_steps=4),
        SlerpGridRequest(model="tiny-8", edge=2, num_inference_steps=3),
        BranchRequest(model="tiny-8", num_images=2, num_inference_steps=4, diffusion_steps=501),
        ReconstructRequest(model="tiny-8", pictures=(PICTURE, PICTURE), num_inference_steps=3),
        LikelihoodRequest(model="tiny-8", picture=PICTURE, num_terms=9, num_draws=3),
        LikelihoodRequest(model="tiny-8", picture=PICTURE, num_terms=2, num_draws=5),
        BoundsRequest(model="tiny-8", picture=PICTURE, steps=(3, 5)),
        CompressionRequest(model="tiny-8", picture=PICTURE, num_terms=200),
        CompressionRequest(model="tiny-8", picture=PICTURE, num_terms=2),
        CodingRequest(model="tiny-8", pictures=(PICTURE, PICTURE), num_inference_steps=3),
    ],
    ids=lambda request: type(request).__name__,
)
def test_no_run_uses_the_network_more_often_than_is_counted(engine, watch, request_, monkeypatch):
    calls = []
    monkeypatch.setattr(CodingRequest, "operations_per_value", 0.0)  # which no call of the network takes
    watch(lambda x_t, t: calls.append(len(x_t)))
    engine.limits = Limits(("tiny-8",), 1e18)
    model = engine.model("tiny-8")
    counted = round(engine._share(request_, model) / engine.limits.share(1, model))
    list(engine.measure(request_))
    assert sum(calls) <= counted <= 1.5 * sum(calls) + 1


def test_the_least_that_a_compression_measures_is_known(engine):
    request = CompressionRequest(model="tiny-8", picture=PICTURE, num_terms=2)
    *_, report = engine.compress(request)
    assert report.num_steps == least_terms(1000) <= CompressionRequest.num_terms


def test_the_work_of_an_image_is_that_of_its_network(engine):
    tiny, exact = engine.model("tiny-8"), engine.model("exact-shapes")
    assert tiny.operations() > 64 * tiny.num_parameters / 100  # every weight is used for many pixels
    assert exact.operations() == 0
    assert Limits(operations=1e9).share(10, exact) == pytest.approx(10 * 1024 * OPERATIONS_PER_PIXEL / 1e9)


def test_a_budget_goes_by_the_slowest_device_and_by_the_cores(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda:0")
    assert visitors_limits([cuda], ["a"]).operations == OPERATIONS["cuda"]
    both = visitors_limits([cuda, cpu], ["a"])
    assert both.operations == pytest.approx(min(OPERATIONS["cpu"] * cores(), OPERATIONS["cuda"]))
    assert both.models == ("a",)
    assert both.public


@pytest.mark.parametrize(
    ("text", "given"), [("max 100000", None), ("50000 100000", 0.5), ("no number", None)]
)
def test_a_container_has_no_more_cores_than_it_is_given(tmp_path, text, given):
    (tmp_path / "cpu.max").write_text(text)
    free = cores(tmp_path / "absent")
    assert cores(tmp_path / "cpu.max") == (given or free)
    assert free >= 1


# networks that fail


def visit(batcher, network, images=1, token=None):
    x_t = torch.ones(images, 1, 2, 2)
    return batcher.compute(network, token or CancelToken(), x_t, torch.arange(images))


def test_who_is_answered_with_no_numbers_is_told_and_others_in_the_pass_go_on():
    inside, released, batcher = threading.Event(), threading.Event(), Batcher()

    def network(x_t, t):
        if len(x_t) == 1:  # until the other two wait, to share the next pass
            inside.set()
            released.wait(60)
        return torch.where((t == 2).view(-1, 1, 1, 1), torch.nan, x_t * 3)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(visit, batcher, network)
        assert inside.wait(60)
        good, bad = pool.submit(visit, batcher, network, 2), pool.submit(visit, batcher, network, 3)
        while len(batcher._calls) < 3:
            time.sleep(0.001)
        released.set()
        assert (first.result(60) == 3).all()
        assert (good.result(60) == 3).all()
        assert "no number" in refusal(lambda: bad.result(60))


def test_whoever_waits_for_a_stalled_network_is_told_and_others_go_on():
    released, batcher = threading.Event(), Batcher(patience=0.05)

    def stalls(x_t, t):
        released.wait(60)
        return x_t

    def works(x_t, t):
        return x_t * 2

    assert "not answered" in refusal(lambda: visit(batcher, stalls))
    assert "not answered" in refusal(lambda: visit(batcher, stalls))  # at once: it is still at the first
    assert (visit(batcher, works) == 2).all()
    released.set()
    while stalls in batcher._stalled:
        time.sleep(0.001)
    assert (visit(batcher, stalls) == 1).all()
    assert (visit(batcher, works, 5) == 2).all()


def test_the_patient_hand_returns_raises_and_gives_up():
    released, patience = threading.Event(), Patience(5)
    assert patience.call(lambda: 7) == 7
    with pytest.raises(KeyError):
        patience.call(lambda: {}["no"])
    patience._seconds = 0.01
    with pytest.raises(Stalled) as stalled:
        patience.call(lambda: released.wait(60))
    patience._seconds = 5
    assert patience.call(threading.current_thread) is patience.call(threading.current_thread)
    released.set()
    assert stalled.value.future.result(60) is True
    here = Patience().call(threading.current_thread)
    assert here is threading.current_thread()


def test_the_patient_hand_keeps_nothing_of_what_it_has_done():
    class Large:
        """Whatever a pass holds on to."""

    patience, large = Patience(60), Large()
    gone = weakref.ref(large)
    patience.call(partial(isinstance, large, Large))
    del large
    wait_until(lambda: gone() is None)


def test_an_answer_of_the_last_moment_is_taken(monkeypatch):
    result = futures.Future.result

    def too_late(future, timeout=None):
        if timeout is None:
            return result(future)
        futures.wait([future])
        raise futures.TimeoutError

    monkeypatch.setattr(futures.Future, "result", too_late)
    assert Patience(60).call(lambda: 7) == 7
    with pytest.raises(KeyError):
        Patience(60).call(lambda: {}["no"])


def test_a_code_is_counted_besides_its_network(public):
    asked = CodingRequest(model="tiny-8", pictures=(PICTURE,), num_inference_steps=2)
    model = public.model("tiny-8")
    network = public.limits.share(asked.network_calls, model)
    code = 4 * 192 * CodingRequest.operations_per_value / OPERATIONS["cpu"]
    assert public._share(asked, model) == pytest.approx(network + code)
