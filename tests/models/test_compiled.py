import sys
import threading

import pytest
import torch

from ddpm_app.models import compiled, load_model, pieces
from ddpm_app.models.model import network_denoiser
from tests.doubles import tiny_network

CPU = torch.device("cpu")
OPENVINO = "OpenVINO float32 on cpu"
pytestmark = pytest.mark.usefixtures("runtime")


def settled(network, image_shape=(3, 8, 8)):
    denoiser, _ = network_denoiser(network, CPU, "exact")
    denoiser.settle(image_shape)
    return denoiser


def batch(num_images, channels=3, size=8):
    x_t = torch.randn(num_images, channels, size, size, generator=torch.Generator().manual_seed(3))
    return x_t, torch.arange(num_images) * 83 % 1000


def plain(network, x_t, t):
    with torch.inference_mode():
        return network(x_t, t, return_dict=False)[0]


@pytest.mark.parametrize(
    "config",
    [{"in_channels": 1, "out_channels": 2, "sample_size": 28}, {"sample_size": 32, "attention_head_dim": 8}],
    ids=["28, learned variance", "32, heads"],
)
def test_the_compiled_network_computes_what_torch_computes_for_every_batch_size(config):
    network = tiny_network(**config)
    channels, size = network.config.in_channels, network.config.sample_size
    denoiser = settled(network, (channels, size, size))
    assert str(denoiser) == OPENVINO
    for num_images in (1, 3, 4, 9, 21):
        x_t, t = batch(num_images, channels, size)
        torch.testing.assert_close(denoiser(x_t, t), plain(network, x_t, t), rtol=0, atol=1e-5)


def test_a_network_that_knows_few_timesteps_is_tried_on_no_others():
    network = tiny_network(time_embedding_type="learned", num_train_timesteps=10)
    denoiser = settled(network)
    assert str(denoiser) == OPENVINO
    x_t, t = batch(9)
    torch.testing.assert_close(denoiser(x_t, t % 10), plain(network, x_t, t % 10), rtol=0, atol=1e-5)


def test_torch_computes_until_the_network_has_worked_and_is_compiled(monkeypatch):
    denoiser, _ = network_denoiser(tiny_network(), CPU, "exact")
    before = denoiser(*batch(5))
    assert str(denoiser) == "torch float32 on cpu, OpenVINO to follow"
    assert denoiser._thread is None
    monkeypatch.setattr(compiled, "PATIENCE", 0.0)
    denoiser(*batch(5))
    denoiser._thread.join()
    assert str(denoiser) == OPENVINO
    torch.testing.assert_close(denoiser(*batch(5)), before, rtol=0, atol=1e-5)


def test_a_loaded_model_says_what_computes_it_at_that_moment(tiny_pipeline):
    model = load_model(tiny_pipeline, device="cpu")
    assert model.backend.startswith("torch float32")
    model.settle()
    assert model.backend == OPENVINO


def test_without_the_runtime_torch_computes_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    denoiser = settled(network := tiny_network())
    assert str(denoiser) == "torch float32 on cpu (OpenVINO is not installed)"
    assert torch.equal(denoiser(*batch(2)), network_denoiser(network, CPU, "exact")[0](*batch(2)))


def test_a_runtime_that_does_not_start_leaves_all_to_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino.frontend.pytorch.ts_decoder", None)
    denoiser = settled(tiny_network())
    assert str(denoiser).startswith("torch float32 on cpu (OpenVINO refused: ")
    assert denoiser(*batch(2)).shape == (2, 3, 8, 8)


def test_torch_stays_where_the_result_differs_or_comes_later(monkeypatch):
    monkeypatch.setitem(compiled.TOLERANCE, "float32", 0.0)
    assert str(settled(tiny_network())) == "torch float32 on cpu (OpenVINO computes something else)"
    monkeypatch.setitem(compiled.TOLERANCE, "float32", 1e-4)
    monkeypatch.setattr(compiled, "_seconds", lambda way, x_t, t: float(isinstance(way, pieces.Pieces)))
    assert str(settled(tiny_network())) == "torch float32 on cpu (faster here than OpenVINO)"


def test_a_user_may_leave_all_to_torch(monkeypatch):
    monkeypatch.setenv("DDPM_APP_RUNTIME", "torch")
    assert str(settled(tiny_network())) == "torch float32 on cpu"


@pytest.mark.slow
def test_a_cached_network_is_used_again_and_never_for_other_weights(runtime):
    settled(tiny_network())
    first = {file: file.stat().st_mtime_ns for file in runtime.iterdir()}
    assert first
    settled(tiny_network())
    assert {file: file.stat().st_mtime_ns for file in runtime.iterdir()} == first
    other = tiny_network(seed=1)
    denoiser = settled(other)
    assert len(list(runtime.iterdir())) == 2 * len(first)
    torch.testing.assert_close(denoiser(*batch(2)), plain(other, *batch(2)), rtol=0, atol=1e-5)


def test_a_network_that_differs_in_its_configuration_alone_finds_nothing_cached(runtime):
    settled(tiny_network())
    first = len(list(runtime.iterdir()))
    settled(tiny_network(attention_head_dim=4))  # the same weights, other heads
    assert len(list(runtime.iterdir())) == 2 * first


def test_the_next_start_traces_and_compiles_nothing(monkeypatch):
    settled(network := tiny_network())
    monkeypatch.setattr(pieces.Compiler, "compile", None)
    denoiser = settled(tiny_network())
    assert str(denoiser) == OPENVINO
    torch.testing.assert_close(denoiser(*batch(21)), plain(network, *batch(21)), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["damaged", "another network"])
def test_what_is_kept_but_does_not_serve_is_compiled_anew_and_kept(runtime, what, monkeypatch):
    settled(network := tiny_network())
    kept = set(runtime.iterdir())
    settled(tiny_network(seed=1))
    others = {file.name.partition("-")[2]: file.read_bytes() for file in set(runtime.iterdir()) - kept}
    for file in kept:
        file.write_bytes(b"damaged" if what == "damaged" else others[file.name.partition("-")[2]])
    denoiser = settled(tiny_network())
    assert str(denoiser) == OPENVINO
    torch.testing.assert_close(denoiser(*batch(5)), plain(network, *batch(5)), rtol=0, atol=1e-5)
    monkeypatch.setattr(pieces.Compiler, "compile", None)
    assert str(settled(tiny_network())) == OPENVINO


def test_what_is_ready_serves_while_the_rest_is_compiled(monkeypatch):
    asked, going_on, compile_one = threading.Event(), threading.Event(), pieces.Compiler.compile

    def waits_for_ones(compiler, layout):
        if layout.size == 1:
            asked.set()
            assert going_on.wait(60)
        return compile_one(compiler, layout)

    monkeypatch.setattr(pieces.Compiler, "compile", waits_for_ones)
    denoiser, _ = network_denoiser(network := tiny_network(), CPU, "exact")
    denoiser.start((3, 8, 8))
    assert asked.wait(60)
    with monkeypatch.context() as without_torch:
        without_torch.setattr(denoiser, "_plain", None)
        torch.testing.assert_close(denoiser(*batch(12)), plain(network, *batch(12)), rtol=0, atol=1e-5)
    torch.testing.assert_close(denoiser(*batch(5)), plain(network, *batch(5)), rtol=0, atol=1e-5)
    going_on.set()
    denoiser._thread.join()


def test_the_cache_forgets_its_oldest(runtime, monkeypatch):
    monkeypatch.setattr(pieces, "CACHE_BYTES", 1)
    settled(tiny_network())
    assert list(runtime.iterdir()) == []


def test_without_a_place_to_write_the_network_is_compiled_all_the_same(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("DDPM_APP_CACHE", str(file / "below"))
    assert str(settled(tiny_network())) == OPENVINO


def test_on_a_full_disk_nothing_is_kept_and_the_network_is_compiled_all_the_same(runtime, monkeypatch):
    def full(file, blob):
        file.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pieces.Path, "write_bytes", full)
    assert str(settled(tiny_network())) == OPENVINO
    assert list(runtime.iterdir()) == []


def test_many_callers_at_once_get_their_own_images_even_of_another_size():
    denoiser = settled(network := tiny_network())
    batches = [batch(num_images) for num_images in range(1, 9)] + [batch(2, size=16)]
    outputs = {}

    def call(k):
        outputs[k] = denoiser(*batches[k])

    threads = [threading.Thread(target=call, args=(k,)) for k in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, output in outputs.items():
        torch.testing.assert_close(output, plain(network, *batches[k]), rtol=0, atol=1e-5)
    assert len(outputs) == len(batches)
