"""A page for strangers, through the real server: what one visitor does leaves the others their turn."""

import time
from dataclasses import replace

import gradio as gr
import httpx
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError, ValidationError

from ddpm_app.engine import Engine
from tests.ui.public.conftest import MODEL, asked
from tests.waiting import wait_until


def test_a_visitor_has_one_run_at_a_time_and_others_are_not_kept(page: gr.Blocks, engine: Engine):
    busy, other = (Client(page.local_url, verbose=False) for _ in range(2))
    long = {"model": MODEL, "num_images": 2, "num_inference_steps": 1000, "api_name": "/sample"}
    job = busy.submit(**long)
    wait_until(lambda: engine.active_runs >= 1)
    for name in ("/sample", "/latent_grid"):
        with pytest.raises(ValidationError, match="under way or waiting"):
            busy.predict(model=MODEL, num_inference_steps=2, api_name=name)
    other.predict(model=MODEL, num_inference_steps=2, num_images=1, api_name="/sample")
    job.cancel()
    wait_until(lambda: engine.active_runs == 0)
    busy.predict(model=MODEL, num_inference_steps=2, num_images=1, api_name="/sample")
    busy.close()
    other.close()


def test_a_full_queue_says_so(page: gr.Blocks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(page._queue, "max_size", 0)
    answer = asked(page, "sample", {"model": MODEL})
    assert answer.status_code == 503
    assert "Queue is full" in answer.json()["detail"]


def test_what_waits_beside_runs_is_bounded_for_each_visitor(page: gr.Blocks, monkeypatch: pytest.MonkeyPatch):
    score = next(fn for fn in page.fns.values() if fn.name == "score")
    body = {"data": [each.value for each in score.inputs], "fn_index": score._id, "session_hash": "many"}
    join = f"{page.local_url}gradio_api/queue/join"
    assert httpx.post(join, json=body).status_code == 200
    monkeypatch.setattr("ddpm_app.ui.public.MOST_EVENTS", 0)
    answer = httpx.post(join, json=body)
    assert answer.status_code == 503
    assert "under way or waiting" in answer.json()["detail"]


def raises(x_t, t):
    raise RuntimeError("the device is gone")


def stalls(x_t, t):
    time.sleep(5)
    return x_t


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (raises, "bug in the app"),
        (lambda x_t, t: x_t * torch.nan, "no number"),
        (stalls, "has not answered in time"),
    ],
    ids=["raises", "nan", "stalls"],
)
def test_whoever_meets_a_network_that_fails_is_told_and_the_others_go_on(
    page: gr.Blocks, engine: Engine, monkeypatch: pytest.MonkeyPatch, network, said: str
):
    failing = replace(engine.model("tiny-8"), denoiser=network)
    monkeypatch.setattr(engine.workers[0].shelf._kept["tiny-8", "exact"], "model", failing)
    monkeypatch.setattr(engine.workers[0].batcher._patience, "_seconds", 2)
    going, unlucky = (Client(page.local_url, verbose=False) for _ in range(2))
    settings = {"num_images": 1, "sampler": "ddim", "api_name": "/sample"}
    job = going.submit(model=MODEL, num_inference_steps=300, **settings)
    with pytest.raises(AppError, match=said):
        unlucky.predict(model="tiny-8", num_inference_steps=3, **settings)
    assert "1 picture<" in str(job.result(60)[0])
    assert engine.active_runs == 0
    going.close()
    unlucky.close()
