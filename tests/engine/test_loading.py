"""How models come into memory: who waits for whom, and what is told where one does not come."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace

import pytest

from ddpm_app.engine import Engine
from ddpm_app.engine.shelf import Shelf
from ddpm_app.models import load_model
from tests.doubles import edit, refusal

REPOSITORY = "owner/repo"


def test_a_model_that_failed_to_load_can_be_mended_and_loaded(tiny_copy):
    engine = Engine("cpu", tiny_copy.parent)
    edit(tiny_copy / "scheduler" / "scheduler_config.json", beta_schedule="steep")
    assert "beta_schedule" in refusal(lambda: engine.model("tiny-8"))
    edit(tiny_copy / "scheduler" / "scheduler_config.json", beta_schedule="linear")
    assert engine.model("tiny-8").image_shape == (3, 8, 8)


def test_a_loaded_model_does_not_wait_for_another_to_load(engine, monkeypatch):
    loading, loaded = threading.Event(), threading.Event()

    def slowly(name, *args, **kwargs):
        if name == "exact-shapes":
            loading.set()
            assert loaded.wait(60)
        return load_model(name, *args, **kwargs)

    monkeypatch.setattr("ddpm_app.engine.engine.load_model", slowly)
    engine.model("tiny-8")
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(engine.model, "exact-shapes")
        try:
            assert loading.wait(60)
            assert pool.submit(engine.model, "tiny-8").result(timeout=60).name == "tiny-8"
        finally:
            loaded.set()
        assert slow.result().name == "exact-shapes"


def test_who_asks_at_the_same_time_shares_one_load(engine, monkeypatch):
    loads = []

    def counted(name, *args, **kwargs):
        loads.append(name)
        return load_model(name, *args, **kwargs)

    monkeypatch.setattr("ddpm_app.engine.engine.load_model", counted)
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(engine.model, ["tiny-8"] * 4))
    assert loads == ["tiny-8"]
    assert all(a is b for a, b in pairwise(models))


def test_who_waits_is_told_how_much_of_the_download_is_here(hub, tiny_copy, tmp_path):
    hub.add(REPOSITORY, tiny_copy)
    size = (tiny_copy / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
    hub.faulty = "safetensors"
    hub.held.clear()
    engine = Engine("cpu", tmp_path / "none")
    seen = []
    for here, total in engine.loading(REPOSITORY):
        if here:
            seen.append((here, total))
            hub.held.set()
    assert 0 < seen[0][0] < size  # all of it, perhaps, a moment later
    assert {total for _, total in seen} == {size}
    assert engine.model(REPOSITORY).image_shape == (3, 8, 8)
    assert not list(engine.loading(REPOSITORY))
    assert sum("/revision/" in line for line in hub.log) == 1


def test_a_load_that_fails_ends_the_waiting_and_is_told_to_who_asks(tmp_path):
    engine = Engine("cpu", tmp_path)
    list(engine.loading("no-such-model"))
    assert "no model" in refusal(lambda: engine.model("no-such-model"))


def test_a_bug_in_loading_reaches_who_asks(engine, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("ddpm_app.engine.engine.load_model", broken)
    with pytest.raises(ZeroDivisionError):
        engine.model("tiny-8")


def test_where_no_thread_can_start_the_next_who_asks_tries_again(engine, monkeypatch):
    shelf, start, fails = Shelf(10**9), threading.Thread.start, [True]

    def starting(thread):
        if thread.name == "load" and fails and fails.pop():
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starting)
    with pytest.raises(RuntimeError):
        shelf.ask(("tiny-8", "exact"), 1, lambda report: engine.model("tiny-8"))
    loading = shelf.ask(("tiny-8", "exact"), 1, lambda report: engine.model("tiny-8"))
    assert loading.model.result(60).name == "tiny-8"


def test_a_download_ends_with_the_program(monkeypatch):
    shelf, begun, over = Shelf(100), threading.Event(), threading.Event()

    def endless(report):
        begun.set()
        while not over.wait(0.001):
            report(1, 2)

    loading = shelf.ask(("a", "exact"), 0, endless)
    assert begun.wait(60)
    monkeypatch.setattr("threading.main_thread", lambda: SimpleNamespace(is_alive=lambda: False))
    try:
        assert isinstance(loading.model.exception(60), InterruptedError)
    finally:
        over.set()
