import contextlib
import threading
from types import SimpleNamespace

import pytest
import torch

from ddpm_app.models import graphs
from ddpm_app.models.graphs import CudaRecorder, GraphedDenoiser, Recording, filled_up
from ddpm_app.models.model import half_format, network_denoiser
from tests.doubles import tiny_network

NAME = "torch float32 on cuda"


class Recorder:
    """Records as CUDA does, on the CPU: what is replayed reads and writes the same tensors each time."""

    def __init__(self, refuse_from=2**30):
        self.sizes, self.replays, self.refuse_from = [], [], refuse_from

    def __call__(self, plain, x_t, t):
        if len(x_t) >= self.refuse_from:
            raise RuntimeError("operation not permitted when stream is capturing\nmore about it")
        self.sizes.append(len(x_t))
        output = torch.full_like(x_t, torch.nan)

        def replay():
            self.replays.append(len(x_t))
            output.copy_(plain(x_t, t))

        return Recording(x_t, t, output, replay)


@pytest.fixture(autouse=True)
def wanted(monkeypatch):
    monkeypatch.delenv("DDPM_APP_RUNTIME")


def plain(x_t, t):
    return x_t * 2 + t.view(-1, 1, 1, 1)


def batch(num_images, seed=0, size=4):
    x_t = torch.randn(num_images, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return x_t, torch.arange(num_images) * 37


def test_batches_are_filled_up_by_a_third_of_the_result_at_most():
    assert [filled_up(n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 13, 16, 17, 25)] == [
        *(1, 2, 3, 4, 6, 6, 8, 12, 16, 16, 24, 32)
    ]
    assert all(n <= filled_up(n) and 3 * (filled_up(n) - n) <= filled_up(n) for n in range(1, 2000))


def test_a_recording_serves_every_batch_that_it_can_hold_and_nothing_of_the_last_one_stays():
    record = Recorder()
    denoiser = GraphedDenoiser(plain, NAME, record)
    kept = [(batch(n, seed), denoiser(*batch(n, seed))) for seed, n in enumerate((6, 5, 6, 1, 5))]
    for given, output in kept:  # read after all replays: no output is a view of the recording's
        assert torch.equal(output, plain(*given))
    assert record.sizes == [6, 1]
    assert record.replays == [6, 6, 6, 1, 6]
    assert str(denoiser) == f"{NAME}, CUDA graphs"


def test_pictures_of_another_size_get_a_recording_of_their_own():
    record = Recorder()
    denoiser = GraphedDenoiser(plain, NAME, record)
    for size in (4, 8, 4):
        assert torch.equal(denoiser(*batch(2, size=size)), plain(*batch(2, size=size)))
    assert record.sizes == [2, 2]


def test_a_large_batch_is_not_recorded(monkeypatch):
    monkeypatch.setattr(graphs, "MOST_PIXELS", 4 * 16)
    record = Recorder()
    denoiser = GraphedDenoiser(plain, NAME, record)
    assert torch.equal(denoiser(*batch(5)), plain(*batch(5)))
    assert record.sizes == []
    denoiser(*batch(4))
    assert record.sizes == [4]


def test_what_cannot_be_recorded_torch_computes_from_then_on_and_says_so():
    record = Recorder(refuse_from=3)
    denoiser = GraphedDenoiser(plain, NAME, record)
    for n in (2, 3, 2):
        assert torch.equal(denoiser(*batch(n)), plain(*batch(n)))
    assert record.replays == [2]
    assert str(denoiser) == (
        f"{NAME} (CUDA graphs refused: operation not permitted when stream is capturing)"
    )


def test_a_user_may_leave_all_to_torch(monkeypatch):
    monkeypatch.setenv("DDPM_APP_RUNTIME", "torch")
    record = Recorder()
    denoiser = GraphedDenoiser(plain, NAME, record)
    assert torch.equal(denoiser(*batch(2)), plain(*batch(2)))
    assert record.sizes == []
    assert str(denoiser) == NAME


def test_many_callers_at_once_get_their_own_images():
    network = tiny_network()
    exact, _ = network_denoiser(network, torch.device("cpu"), "exact")
    denoiser = GraphedDenoiser(exact._plain, NAME, Recorder())
    batches = [batch(n, n, size=8) for n in range(1, 9)]
    outputs = {}

    def call(k):
        outputs[k] = denoiser(*batches[k])

    threads = [threading.Thread(target=call, args=(k,)) for k in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, given in enumerate(batches):
        with torch.inference_mode():
            torch.testing.assert_close(outputs[k], exact._plain(*given), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("bfloat16", "expected"), [(True, torch.bfloat16), (False, torch.float16)], ids=["ampere", "turing"]
)
def test_a_gpu_computes_fast_in_the_16_bits_that_it_has(monkeypatch, bfloat16, expected):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: bfloat16)
    assert half_format(torch.device("cuda")) == expected
    assert half_format(torch.device("mps")) == torch.float16


def test_where_memory_is_lacking_for_a_recording_smaller_ones_go_on():
    class Short(Recorder):
        def __call__(self, plain, x_t, t):
            if len(x_t) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().__call__(plain, x_t, t)

    record = Short()
    denoiser = GraphedDenoiser(plain, NAME, record)
    for n in (1, 4, 1, 4, 2):
        assert torch.equal(denoiser(*batch(n)), plain(*batch(n)))
    assert record.sizes == [1, 1, 2]  # all recordings were let go, to make room
    assert str(denoiser) == f"{NAME}, CUDA graphs"


def test_each_device_records_on_a_stream_of_its_own_and_leaves_it_though_recording_fails(monkeypatch):
    """CUDA's own part is played: which stream is current, and which one a graph is recorded on."""
    current, recorded, fails = ["default"], [], []

    class Stream:
        def wait_stream(self, other): ...

    @contextlib.contextmanager
    def graph(graph, pool, stream, capture_error_mode):
        current.append(stream)
        recorded.append(stream)
        yield
        if fails:
            raise RuntimeError("the recording was invalidated")
        current.pop()

    class Entered:
        """torch.cuda.stream, which goes back to the stream before it however it is left."""

        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            self.before = list(current)
            current.append(self.stream)

        def __exit__(self, *raised):
            current[:] = self.before

    played = {
        "Stream": Stream,
        "stream": Entered,
        "current_stream": Stream,
        "CUDAGraph": lambda: SimpleNamespace(replay=None),
        "graph": graph,
        "device": lambda device: contextlib.nullcontext(),
        "graph_pool_handle": object,
    }
    for name, value in played.items():
        monkeypatch.setattr(torch.cuda, name, value)
    first, second = CudaRecorder(torch.device("cuda:0")), CudaRecorder(torch.device("cuda:1"))
    for record in (first, first, second):
        record(plain, *batch(1))
    assert recorded[0] is recorded[1] is not recorded[2]
    fails.append(True)
    with pytest.raises(RuntimeError):
        second(plain, *batch(1))
    assert current == ["default"]
