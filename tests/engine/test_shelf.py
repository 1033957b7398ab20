"""Which models stay in memory, and which leave for others."""

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.engine.shelf import memory_of
from ddpm_app.models import load_model
from tests.doubles import edit, refusal
from tests.waiting import wait_until


@pytest.fixture
def three_models(tiny_pipeline, tmp_path):
    """An engine with models a, b and c, and room for two of them."""
    for name in "abc":
        shutil.copytree(tiny_pipeline, tmp_path / name)
    engine = Engine("cpu", tmp_path)
    engine.workers[0].shelf.room = 2 * load_model(tiny_pipeline, "cpu").num_bytes
    return engine


def test_a_loaded_model_stays(engine):
    assert engine.model("tiny-8") is engine.model("tiny-8")
    assert engine.model("tiny-8", "fast") is not engine.model("tiny-8")


def test_the_model_used_longest_ago_leaves_for_a_third(three_models):
    a, b = (three_models.model(name) for name in "ab")
    assert three_models.model("a") is a
    c = three_models.model("c")
    assert three_models.model("a") is a
    assert three_models.model("c") is c
    assert three_models.model("b") is not b


def test_a_model_that_was_trained_further_is_loaded_anew(three_models, tmp_path):
    a, b = three_models.model("a"), three_models.model("b")
    (weights,) = tmp_path.glob("**/a/unet/*.safetensors")
    os.utime(weights, ns=(1, 10**18))
    assert three_models.model("a") is not a
    assert three_models.model("a") is three_models.model("a")
    assert three_models.model("b") is b


def test_a_model_whose_configuration_was_corrected_is_loaded_anew(three_models, tmp_path):
    a = three_models.model("a")
    (scheduler,) = tmp_path.glob("**/a/scheduler/scheduler_config.json")
    edit(scheduler, clip_sample=False)
    os.utime(scheduler, ns=(1, 10**18))
    assert a.diffusion.clip_denoised
    assert not three_models.model("a").diffusion.clip_denoised


def images(engine):
    *_, frame = engine.run(SampleRequest(model="a", num_images=1, num_inference_steps=2))
    return frame.images


def test_a_deleted_model_runs_while_it_is_loaded_and_is_missed_afterwards(three_models, tmp_path):
    expected = images(three_models)
    shutil.rmtree(tmp_path / "a")
    assert "a" not in three_models.available_models()
    assert torch.equal(images(three_models), expected)
    three_models.workers[0].shelf.room = 0
    three_models.model("b")
    assert "there is no model 'a'" in refusal(lambda: images(three_models))


def begun(engine, model):
    run = engine.run(SampleRequest(model=model, num_images=1, num_inference_steps=3))
    next(run)
    return run


def test_a_model_at_work_stays_and_an_idle_one_used_later_leaves(three_models):
    a = three_models.model("a")
    run = begun(three_models, "a")
    b = three_models.model("b")
    three_models.model("c")
    assert three_models.model("a") is a
    assert three_models.model("b") is not b
    run.close()


def test_a_model_that_has_no_room_beside_those_at_work_is_refused_until_they_end(three_models):
    runs = [begun(three_models, name) for name in "ab"]
    sentence = refusal(lambda: three_models.model("c"))
    assert "a, b" in sentence
    assert "wait" in sentence
    assert len(list(runs[0])) == 2  # and they go on
    assert three_models.model("c").name == "c"
    runs[1].close()


def trained_further(folder, name):
    (weights,) = folder.glob(f"{name}/unet/*.safetensors")
    os.utime(weights, ns=(1, weights.stat().st_mtime_ns + 10**9))


def test_a_model_at_work_counts_until_its_run_ends_though_newer_weights_have_taken_its_place(
    three_models, tmp_path
):
    a = three_models.model("a")
    run = begun(three_models, "a")
    trained_further(tmp_path, "a")
    newer = begun(three_models, "a")
    assert three_models.model("a") is not a
    assert "beside a," in refusal(lambda: three_models.model("b"))
    assert len(list(run)) == 2
    assert three_models.model("b").name == "b"
    newer.close()
    c = three_models.model("c")
    three_models.model("b")
    assert three_models.loaded("c") is c  # what had been replaced takes no room any more


def test_a_model_stays_where_its_newer_weights_have_no_room(three_models, tmp_path):
    run = begun(three_models, "b")
    a = three_models.model("a")
    three_models.workers[0].shelf.room = a.num_bytes
    trained_further(tmp_path, "a")
    assert "beside b," in refusal(lambda: three_models.model("a"))
    assert three_models.loaded("a") is a
    run.close()


def test_a_model_larger_than_the_bound_is_taken_alone(three_models):
    three_models.workers[0].shelf.room = 1
    a = three_models.model("a")
    assert three_models.model("a") is a
    b = three_models.model("b")
    assert three_models.model("a") is not a
    assert three_models.model("b") is not b


def test_a_model_counts_as_often_as_what_computes_it_holds_its_weights(tiny_pipeline, monkeypatch):
    plain = load_model(tiny_pipeline, "cpu")
    assert plain.num_bytes == 4 * plain.num_parameters
    monkeypatch.delenv("DDPM_APP_RUNTIME")
    assert load_model(tiny_pipeline, "cpu").num_bytes == 9 * plain.num_bytes


def test_many_who_borrow_more_than_fits_all_get_theirs_or_a_sentence(three_models):
    def sample(name):
        try:
            return len(list(three_models.run(SampleRequest(model=name, num_images=1, num_inference_steps=2))))
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(sample, "abcabcabc", timeout=120))
    assert all(each == 2 or "does not fit" in each for each in told)
    assert 2 in told
    shelf = three_models.workers[0].shelf
    assert not any(kept.users for kept in shelf._kept.values())
    assert shelf._taken <= shelf.room


def test_a_fork_finds_the_models_and_neither_locks_nor_loads_under_way(engine):
    kept = engine.model("tiny-8")
    shelf = engine.workers[0].shelf
    never = threading.Event()
    shelf.ask(("slow", "exact"), 0, lambda report: never.wait(60) and kept)
    shelf._lock.acquire()
    before = shelf._lock
    shelf.renew()
    before.release()
    assert engine.model("tiny-8") is kept
    assert shelf.ask(("slow", "exact"), 0, lambda report: kept).model.result(60) is kept
    never.set()
    wait_until(lambda: not any(thread.name == "load" for thread in threading.enumerate()))


@pytest.mark.parametrize(("limit", "expected"), [("4096\n", 4096), ("max\n", 10**10), ("9" * 19, 10**10)])
def test_the_memory_of_a_container_is_that_of_its_limit(monkeypatch, tmp_path, limit, expected):
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=10**10))
    monkeypatch.setattr("ddpm_app.engine.shelf.LIMITS", [str(tmp_path / "memory.max"), "/no/such/file"])
    assert memory_of(torch.device("cpu")) == expected
