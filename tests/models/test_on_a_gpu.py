"""What a real GPU draws and computes, beside the CPU and beside torch without recordings."""

import threading

import pytest
import torch

from ddpm_app.core.samplers import SAMPLERS
from ddpm_app.engine import Cancelled, CancelToken, Engine, SampleRequest
from ddpm_app.models import load_model

pytestmark = pytest.mark.gpu
RUN = {"model": "emoji-32", "sampler": "ddpm", "num_inference_steps": 50, "seed": 3}


@pytest.fixture(autouse=True)
def wanted(monkeypatch):
    monkeypatch.delenv("DDPM_APP_RUNTIME")


def batch(num_images):
    x_t = torch.randn(num_images, 3, 32, 32, generator=torch.Generator().manual_seed(num_images))
    return x_t, torch.arange(num_images) * 37


def finished(engine, **settings):
    *_, last = engine.run(SampleRequest(**RUN | settings))
    return last.images.int()


@pytest.mark.parametrize("sampler", [*SAMPLERS, "sde-dpmsolver++"])
@pytest.mark.parametrize("num_images", [1, 5, 16])
def test_exact_on_the_gpu_is_the_cpus_picture_to_one_level(sampler, num_images):
    here, there = (
        finished(Engine(device), sampler=sampler, num_images=num_images) for device in ("cuda:0", "cpu")
    )
    assert (here - there).abs().max() <= 1


def test_fast_on_the_gpu_is_the_same_picture_to_the_eye():
    engine = Engine("cuda:0")
    exact, fast = (finished(engine, precision=precision) for precision in ("exact", "fast"))
    assert (exact - fast).abs().float().mean() < 1.5
    assert engine.model("emoji-32", "fast").backend.endswith("CUDA graphs")


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_replay_computes_what_torch_computes_there(precision):
    model = load_model("emoji-32", "cuda:0", precision)
    for n in (1, 5, 6, 16, 5):
        x_t, t = (each.cuda() for each in batch(n))
        with torch.inference_mode():
            expected = model.denoiser._plain(x_t, t)
        bound = (1e-4 if precision == "exact" else 0.05) * expected.abs().max().item()
        torch.testing.assert_close(model.denoiser(x_t, t), expected, rtol=0, atol=bound)
    assert model.backend.endswith("CUDA graphs")


def test_runs_that_share_the_gpu_get_the_pictures_they_get_alone():
    engine = Engine("cuda:0")
    alone = [finished(engine, num_images=n, seed=n) for n in (1, 3, 8, 16)]
    together = {}

    def visit(n):
        together[n] = finished(engine, num_images=n, seed=n)

    threads = [threading.Thread(target=visit, args=(n,)) for n in (1, 3, 8, 16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, images in zip((1, 3, 8, 16), alone, strict=True):
        assert (together[n] - images).abs().max() <= 1


def test_a_stop_ends_a_run_on_the_gpu_within_a_step():
    engine, token = Engine("cuda:0"), CancelToken()
    run = engine.run(SampleRequest(**RUN), token)
    next(run)
    token.cancel()
    with pytest.raises(Cancelled):
        next(run)
    assert engine.active_runs == 0


def test_every_gpu_draws_the_same_picture():
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU alone")
    first, *others = (
        finished(Engine(f"cuda:{index}"), num_images=4) for index in range(torch.cuda.device_count())
    )
    for images in others:
        assert (images - first).abs().max() <= 1
