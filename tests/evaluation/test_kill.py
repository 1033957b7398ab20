"""The server killed at its worst moments, and started again on what it left."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client

from ddpm_app.evaluation.server import serving
from tests.doubles import HubStub, save_pipeline, tiny_network
from tests.waiting import wait_until

REPOSITORY = "owner/large"
FIRST_BYTES = 100_000


class HesitantHub(HubStub):
    """A Hub that, as long as it hesitates, stops within the weights until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.hesitates, self.reached, self.released = True, threading.Event(), threading.Event()

    def _handler(self):
        hub, handler = self, super()._handler()

        class Slow(handler):  # type: ignore[misc,valid-type]
            def setup(self) -> None:
                super().setup()
                write = self.wfile.write

                def hesitant(data: bytes) -> None:
                    if hub.hesitates and len(data) > FIRST_BYTES:
                        write(data[:FIRST_BYTES])
                        self.wfile.flush()
                        hub.reached.set()
                        hub.released.wait(60)
                        return
                    write(data)

                self.wfile.write = hesitant

        return Slow


@pytest.fixture
def slow_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HesitantHub]:
    network = tiny_network(block_out_channels=(64, 64))  # its weights are larger than any answer before them
    with HesitantHub() as stub:
        stub.add(REPOSITORY, save_pipeline(tmp_path / "large", network))
        for name, value in {
            "HF_ENDPOINT": stub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_CACHE": str(tmp_path / "home" / "hub"),
            "HF_HUB_OFFLINE": "0",
            "GRADIO_TEMP_DIR": str(tmp_path / "gradio"),
        }.items():
            monkeypatch.setenv(name, value)
        yield stub
        stub.released.set()


@pytest.mark.slow
def test_a_server_killed_within_a_run_and_a_download_starts_again_and_does_both(
    slow_hub: HesitantHub, tiny_pipeline: Path, tmp_path: Path
):
    arguments = ["--model", "tiny-8", "--checkpoints", str(tiny_pipeline.parent), "--device", "cpu"]
    settings = {"num_images": 2, "sampler": "ddim", "api_name": "/sample"}
    with serving(arguments) as url:
        visitor, other = (Client(url, verbose=False, download_files=str(tmp_path)) for _ in range(2))
        run = visitor.submit(model="tiny-8", num_inference_steps=1000, **settings | {"num_images": 64})
        other.submit(model=REPOSITORY, num_inference_steps=2, **settings)
        assert slow_hub.reached.wait(60)
        wait_until(lambda: any("step" in str(update) for update in run.outputs()))
        wait_until(lambda: list((tmp_path / "home").rglob("*.incomplete")))
    # both were under way as the server was killed, and left what they had written
    assert list((tmp_path / "home").rglob("*.incomplete"))
    assert list((tmp_path / "gradio").rglob("preview.png"))
    slow_hub.hesitates = False
    slow_hub.released.set()
    with serving(arguments) as url:
        client = Client(url, verbose=False, download_files=str(tmp_path))
        for model in ("tiny-8", REPOSITORY):
            status, *_ = client.predict(model=model, num_inference_steps=2, **settings)
            assert "2 pictures" in str(status)
        client.close()
    assert not list((tmp_path / "home").rglob("*.incomplete"))
