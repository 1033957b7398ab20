"""Several devices, played by two workers on the CPU."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ddpm_app.engine import Cancelled, CancelToken, Engine, LikelihoodRequest, SampleRequest
from ddpm_app.models import load_model, resolve_devices
from tests.doubles import refusal
from tests.waiting import wait_until


@pytest.fixture
def two(tiny_pipeline):
    return Engine("cpu,cpu", tiny_pipeline.parent)


def begun(engine, num_images, cancel=None, model="tiny-8"):
    """A run that has yielded its first frame."""
    run = engine.run(SampleRequest(model=model, num_inference_steps=3, num_images=num_images), cancel)
    next(run)
    return run


def load(engine):
    return [worker.active_images for worker in engine.workers]


def test_a_run_goes_where_the_fewest_images_are_under_way(two):
    eight = begun(two, 8)
    assert load(two) == [8, 0]
    three, four = begun(two, 3), begun(two, 4)
    assert load(two) == [8, 7]
    one, more = begun(two, 1), begun(two, 5)
    assert load(two) == [13, 8]
    assert two.active_runs == 5
    for run in (eight, three, four, one, more):
        run.close()
    assert load(two) == [0, 0]
    assert two.active_runs == 0


def test_a_likelihood_weighs_as_much_as_the_terms_it_measures_at_once(two):
    picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
    run = two.likelihood(LikelihoodRequest(model="tiny-8", picture=picture, num_terms=10))
    next(run)
    assert load(two) == [16, 0]
    run.close()
    assert load(two) == [0, 0]


def test_a_run_that_fails_or_is_stopped_weighs_nothing_afterwards(two):
    refusal(lambda: begun(two, 8, model="tiny-9"))
    token = CancelToken()
    run = begun(two, 8, token)
    token.cancel()
    with pytest.raises(Cancelled):
        next(run)
    assert load(two) == [0, 0]


def test_each_device_loads_its_own_copy_when_a_run_needs_it(two, monkeypatch):
    loads = []

    def counted(*args, **kwargs):
        loads.append(args)
        return load_model(*args, **kwargs)

    monkeypatch.setattr("ddpm_app.engine.engine.load_model", counted)
    first = two.model("tiny-8")
    run = begun(two, 4)
    assert len(loads) == 1
    assert two.model("tiny-8") is not first  # it is the copy that the next run takes
    assert len(loads) == 2
    other = begun(two, 4)
    assert len(loads) == 2
    run.close()
    assert two.model("tiny-8") is first
    other.close()


def test_the_models_of_each_device_have_their_own_bound(tiny_pipeline, tmp_path):
    for name in "abcd":
        shutil.copytree(tiny_pipeline, tmp_path / name)
    engine = Engine("cpu,cpu", tmp_path)
    here = [engine.model(name) for name in "abc"]
    for worker in engine.workers:
        worker.shelf.room = 3 * here[0].num_bytes
    busy = begun(engine, 1, model="c")
    for name in "abcd":
        engine.model(name)  # on the other device
    busy.close()
    assert [engine.model(name) for name in "abc"] == here


def test_one_device_computes_while_another_does(two, watch):
    entered, released = [], threading.Event()

    def the_first_waits(x_t, t):
        entered.append(len(x_t))
        if len(x_t) == 8:
            assert released.wait(60)

    watch(the_first_waits)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(begun, two, 8)
        wait_until(lambda: entered)
        quick = pool.submit(begun, two, 2).result(timeout=60)
        assert not slow.done()
        released.set()
        slow.result(timeout=60).close()
    quick.close()


def test_an_image_is_the_same_on_any_device(two):
    request = SampleRequest(model="tiny-8", num_inference_steps=5, num_images=2, seed=3)
    *_, here = two.run(request)
    busy = begun(two, 1)
    *_, there = two.run(request)
    busy.close()
    assert torch.equal(here.images, there.images)


# which devices


def test_auto_is_every_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert [str(device) for device in resolve_devices("auto")] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [str(device) for device in resolve_devices("cuda:1, cuda:2")] == ["cuda:1", "cuda:2"]
    assert [str(device) for device in resolve_devices("cuda")] == ["cuda"]


def test_auto_without_a_gpu_is_one_device(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert resolve_devices("auto") == [torch.device("cpu")]


@pytest.mark.parametrize("device", ["", "cpu,", "cpu,tpu", "cpu;cpu", ",", "auto,abc"])
def test_a_device_that_is_not_there_is_refused_at_once(device, tiny_pipeline):
    assert "device" in refusal(lambda: Engine(device, tiny_pipeline.parent))
