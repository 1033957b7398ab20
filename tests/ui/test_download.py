"""What the page is told while a model comes from the Hub, through its real queue."""

import json
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest

from ddpm_app.engine import Engine
from ddpm_app.ui import build_app, launch_options
from ddpm_app.ui.loading import describing
from tests.doubles import edit
from tests.ui.conftest import MODEL

REPOSITORY = "owner/repo"


@pytest.fixture
def choose(hub, tiny_copy, monkeypatch, tmp_path):
    """choose(name): what the line under the model says after it, one after the other."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    hub.add(REPOSITORY, tiny_copy)
    hub.faulty = "safetensors"
    hub.held.clear()
    demo = build_app(Engine("cpu", tiny_copy.parent), MODEL)
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    own = next(key for key, each in demo.fns.items() if getattr(each.fn, "__name__", "") == "describe")
    address = f"{demo.local_url}gradio_api/queue"

    def said(name):
        sliders = [1] * (len(demo.fns[own].inputs) - 1)
        asked = {"data": [name, *sliders], "fn_index": own, "session_hash": "visitor"}
        event = httpx.post(f"{address}/join", json=asked, timeout=60).json()["event_id"]
        with httpx.stream("GET", f"{address}/data?session_hash=visitor", timeout=60) as stream:
            for line in stream.iter_lines():
                told = json.loads(line.removeprefix("data: ")) if line else {}
                if told.get("event_id") == event and told["msg"].startswith("process_"):
                    yield str(told.get("output", {}).get("data", [""])[:1])
                    if told["msg"] == "process_completed":
                        return

    yield said
    hub.held.set()
    demo.close()


def test_the_line_under_the_model_says_how_much_is_here_and_then_what_it_is(hub, choose):
    lines = []
    for line in choose(REPOSITORY):
        lines.append(line)
        if "Fetching the model from the Hub: 0.1 of 0.1 MB" in line:
            hub.held.set()
    assert any("Fetching" in line for line in lines)
    assert "8 × 8 RGB" in lines[-1]


def test_a_download_that_is_no_longer_wanted_says_nothing_at_its_end(hub, tiny_copy):
    hub.add(REPOSITORY, tiny_copy)
    hub.faulty = "safetensors"
    hub.held.clear()
    engine, visitor = Engine("cpu", tiny_copy.parent), SimpleNamespace(session_hash="visitor")
    describe = describing(SimpleNamespace(engine=engine, timestep_sliders=[]))
    first = describe(REPOSITORY, visitor)
    assert "Fetching" in next(first)[0]
    (*_, facts) = describe("exact-normal", visitor)
    assert "16 × 16 gray" in facts[0]
    *_, last = first
    assert last == [gr.skip()]
    hub.held.set()


def test_sliders_beyond_a_shorter_chain_come_back_to_its_end_and_others_stay(tiny_copy):
    edit(tiny_copy / "scheduler" / "scheduler_config.json", num_train_timesteps=50)
    engine, visitor = Engine("cpu", tiny_copy.parent), SimpleNamespace(session_hash="visitor")
    describe = describing(SimpleNamespace(engine=engine, timestep_sliders=[None, None]))
    *_, (_, far, near) = describe("tiny-8", visitor, 750, 20)
    assert (far["maximum"], far["value"]) == (50, 50)
    assert near["maximum"] == 50
    assert "value" not in near
