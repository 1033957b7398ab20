import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from ddpm_app.core.rans import LANES
from ddpm_app.engine import Cancelled, CancelToken, CodingRequest, SampleRequest
from ddpm_app.models import compiled
from tests.doubles import refusal
from tests.waiting import wait_until

PICTURES = tuple(
    torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
)
ASKED = CodingRequest(model="tiny-8", pictures=PICTURES, num_inference_steps=4, seed=5)


def test_every_picture_comes_back_and_what_it_took_is_told(engine, watch):
    calls = []
    watch(lambda x_t, t: calls.append(len(x_t)))
    reports = list(engine.measure(ASKED))
    last = reports[-1]
    assert [report.step for report in reports][:16] == list(range(1, 17))
    assert (last.step, last.num_steps, last.num_exact) == (16, 16, 2)
    assert calls == [1] * ASKED.network_calls
    first, second = last.packed
    assert first.net_bits > 192  # noise: 8 bits for each of 192 values, and more where nothing is known of it
    assert second.num_bytes > first.num_bytes
    net = first.net_bits + second.net_bits
    assert 8 * second.num_bytes == pytest.approx(net + last.borrowed_bits, abs=64 * LANES)
    assert list(engine.measure(ASKED))[-1] == last


def test_others_at_work_share_no_pass_and_change_no_bit(engine, watch):
    sizes = []
    watch(lambda x_t, t: sizes.append(len(x_t)))
    alone = list(engine.measure(ASKED))[-1]
    stop = threading.Event()

    def company():
        while not stop.is_set():
            list(engine.run(SampleRequest(model="tiny-8", num_images=3, num_inference_steps=4)))

    thread = threading.Thread(target=company)
    thread.start()
    try:
        beside = list(engine.measure(ASKED))[-1]
    finally:
        stop.set()
        thread.join()
    assert beside == alone
    assert beside.num_exact == 2
    assert set(sizes) == {1, 3}


def test_it_ends_with_its_token(engine):
    token = CancelToken()
    reports = engine.measure(ASKED, token)
    for _ in range(3):
        next(reports)
    token.cancel()
    with pytest.raises(Cancelled):
        next(reports)
    assert engine.active_runs == 0


def test_it_ends_with_its_token_while_its_network_is_compiled(engine, monkeypatch):
    monkeypatch.delenv("DDPM_APP_RUNTIME")
    monkeypatch.setattr(compiled, "Compiler", None)  # it is the wait for it that counts
    asked, token = engine.model("tiny-8").runtime, CancelToken()
    with ThreadPoolExecutor(1) as pool:
        with compiled._COMPILING:
            first = pool.submit(next, engine.measure(ASKED, token))
            wait_until(lambda: asked._thread)
            token.cancel()
            assert isinstance(first.exception(60), Cancelled)
            assert engine.active_runs == 0
        asked._thread.join()


def test_what_cannot_be_packed_is_told(engine):
    assert "1..1000" in refusal(lambda: list(engine.measure(replace(ASKED, num_inference_steps=2000))))
    assert "resize" in refusal(lambda: list(engine.measure(replace(ASKED, pictures=(PICTURES[0][:1],)))))
    assert "variance_type" in refusal(lambda: replace(ASKED, variance_type="analytic"))
