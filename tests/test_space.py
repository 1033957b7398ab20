"""The repository as a Space: what the Hub reads of it, and the app among a Space's environment variables."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from huggingface_hub import SpaceCard, SpaceHardware
from packaging.requirements import Requirement
from packaging.version import Version

from ddpm_app.models import HUB_MODELS
from ddpm_app.models.catalogue import REPOSITORY
from ddpm_app.models.deploy import ROOT

COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
KNOWN = {  # every key that a Gradio Space's card may have and this one does
    "title",
    "emoji",
    "colorFrom",
    "colorTo",
    "sdk",
    "sdk_version",
    "python_version",
    "app_file",
    "suggested_hardware",
    "short_description",
    "license",
    "pinned",
    "models",
    "preload_from_hub",
    "tags",
    "startup_duration_timeout",
}
ZERO_GPU = {"python": ("3.12.12", "3.10.13"), "torch": Version("2.11.0")}  # the newest torch that it has
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "owner/ddpm",
    "SPACE_HOST": "owner-ddpm.hf.space",
    "SPACE_AUTHOR_NAME": "owner",
    "SPACE_REPO_NAME": "ddpm",
    "SPACE_TITLE": "The interactive DDPM paper",
    "SPACE_SUBDOMAIN": "owner-ddpm",
    "CPU_CORES": "2",
    "MEMORY": "16Gi",
    "GRADIO_SERVER_NAME": "127.0.0.1",  # there 0.0.0.0
}


@pytest.fixture(scope="module")
def card():
    return SpaceCard.load(ROOT / "README.md")


def test_the_card_of_the_space_is_read_by_the_hub_s_own_class(card):
    data = card.data
    assert data.to_dict().keys() == KNOWN
    assert (data.sdk, data.app_file, data.license) == ("gradio", "app.py", "apache-2.0")
    assert (ROOT / data.app_file).is_file()
    assert 0 < len(data.title) <= 60
    assert 0 < len(data.short_description) <= 60
    assert len(data.emoji.rstrip("\N{VARIATION SELECTOR-16}")) == 1
    assert {data.colorFrom, data.colorTo} <= COLOURS
    assert data.suggested_hardware in [each.value for each in SpaceHardware]
    assert re.fullmatch(r"\d+(m|h)", data.startup_duration_timeout)
    assert data.pinned is False
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in data.tags)


def test_the_models_of_the_card_are_those_that_the_page_offers(card):
    assert tuple(card.data.models) == HUB_MODELS
    assert set(card.data.preload_from_hub) <= set(HUB_MODELS)
    assert all(REPOSITORY.fullmatch(name) for name in card.data.models)


def test_the_hub_accepts_the_card(upload_hub, card):
    card.validate()
    assert upload_hub.log == ["POST /api/validate-yaml"]


def requirements(python: str) -> dict[str, Requirement]:
    """What pip takes of requirements.txt with that Python, by name."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = [Requirement(line.partition("#")[0]) for line in lines if line.strip()]
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    kept = [each for each in found if not each.marker or each.marker.evaluate(environment)]
    assert len({each.name for each in kept}) == len(kept)
    return {each.name: each for each in kept}


def test_the_requirements_fit_zero_gpu_and_this_card(card):
    assert card.data.python_version in ZERO_GPU["python"]
    on_space = requirements(card.data.python_version)
    assert ZERO_GPU["torch"] in on_space["torch"].specifier
    assert max(on_space["torch"].specifier.filter(["2.11.0", "2.12.0", "2.13.0"])) == "2.11.0"
    assert Version(card.data.sdk_version) in on_space["gradio"].specifier
    assert "spaces" not in on_space  # it is there on a Space, and nowhere else


def test_elsewhere_the_newest_torch_is_taken():
    for python in ("3.10.14", "3.12.11", "3.13.1"):
        assert Version("2.13.0") in requirements(python)["torch"].specifier


def test_no_file_is_larger_than_a_space_takes_without_large_storage():
    for folder in ("checkpoints", "docs", "ddpm_app"):
        assert all(file.stat().st_size < 10e6 for file in (ROOT / folder).rglob("*") if file.is_file())


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.slow
def test_the_app_starts_and_answers_among_a_space_s_environment_variables(port, tmp_path):
    environment = os.environ | SPACE | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(tmp_path)}
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    with log.open("w") as output:
        app = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + 200
            while app.poll() is None and time.monotonic() < deadline:
                try:
                    page = httpx.get(url, timeout=120)
                    break
                except httpx.TransportError:
                    time.sleep(0.3)
            else:
                pytest.fail(log.read_text())
            assert page.status_code == 200
            assert '"Train"' not in page.text  # a Space is public
            client = Client(url, verbose=False, httpx_kwargs={"timeout": 120})
            status, *_ = client.predict(
                model="exact-normal", num_images=2, num_inference_steps=3, api_name="/sample"
            )
            client.close()
            assert "2 pictures" in str(status)
        finally:
            app.terminate()
            app.wait(30)
    assert "/ddpm_app/" not in Path(log).read_text()  # Gradio's own thread misses the package of a Space
