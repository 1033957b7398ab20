import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from ddpm_app.commands import main
from ddpm_app.models import deploy as deploying
from ddpm_app.models.deploy import MODELS, ROOT, deploy
from tests.doubles import refusal
from tests.uploads import TOKEN

SPACE = "owner/ddpm"
UNSENT = ("tests/", ".ci/", "pyproject.toml", "requirements-dev.txt", "CONTRIBUTING.md", ".gitignore")
# of the real client's own way to send large files
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A checkout with one file of each kind, and with what must stay at home."""
    sent = ("app.py", "README.md", "requirements.txt", "docs/sample.png", "ddpm_app/core/diffusion.py")
    sent += ("ddpm_app/ui/style.css", f"checkpoints/{MODELS[0]}/unet/config.json")
    kept = ("tests/test_layers.py", ".venv/bin/python", "runs/mine/run.json", "ddpm_app/__pycache__/a.pyc")
    kept += (
        "ddpm_app/ui/.env",
        ".env",
        "checkpoints/of-my-photos/unet/config.json",
        f"checkpoints/{MODELS[0]}/training_state.pt",
        "docs/draft.md",
        ".git/config",
    )
    for name in (*sent, *kept):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "checkout" / name).write_text("---\ntitle: x\n---\n")
    monkeypatch.setattr(deploying, "ROOT", tmp_path / "checkout")
    return set(sent)


def test_the_app_and_its_models_arrive_and_nothing_that_lies_beside(upload_hub, small):
    assert deploy(SPACE, token=TOKEN) == f"{upload_hub.url}/spaces/{SPACE}"
    assert upload_hub.files(SPACE).keys() == small
    assert upload_hub.sdks == {SPACE: "gradio"}
    assert not upload_hub.private
    assert not upload_hub.hardware


def test_what_git_tracks_arrives_whole_but_for_tests_and_tools(upload_hub):
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name for name in listed.stdout.splitlines() if not name.startswith(UNSENT)}
    deploy(SPACE, token=TOKEN)
    arrived = upload_hub.files(SPACE)
    assert tracked <= arrived.keys()
    assert not any(name.startswith(("tests", ".", "runs")) or "__pycache__" in name for name in arrived)
    for name in ("app.py", f"checkpoints/{MODELS[0]}/unet/diffusion_pytorch_model.safetensors"):
        assert arrived[name] == Path(ROOT, name).read_bytes()


def test_a_space_may_be_private_and_ask_for_hardware(upload_hub, small, capsys):
    arguments = ["deploy", SPACE, "--private", "--hardware", "zero-a10g", "--token", TOKEN]
    assert main(arguments) == 0
    assert f"{upload_hub.url}/spaces/{SPACE}" in capsys.readouterr().out
    assert upload_hub.private == {SPACE}
    assert upload_hub.hardware == {SPACE: "zero-a10g"}
    asked = [line for line in upload_hub.log if "/hardware" in line or "/commit/" in line]
    assert "/hardware" in asked[0]  # so that the Space is built once


def test_a_second_deploy_brings_what_is_new(upload_hub, small):
    deploy(SPACE, token=TOKEN)
    (deploying.ROOT / "app.py").write_text("newer")
    deploy(SPACE, token=TOKEN)
    assert upload_hub.files(SPACE)["app.py"] == b"newer"


def test_what_cannot_be_asked_for_is_told_before_anything_is_sent(upload_hub, small, tmp_path, monkeypatch):
    assert "zero-a10g" in refusal(lambda: deploy(SPACE, token=TOKEN, hardware="abacus"))
    assert "write owner/" in refusal(lambda: deploy("ddpm", token=TOKEN))
    assert "hf auth login" in refusal(lambda: deploy(SPACE))
    monkeypatch.setattr(deploying, "ROOT", tmp_path)
    assert "checkout" in refusal(lambda: deploy(SPACE, token=TOKEN))
    assert not upload_hub.log


def test_what_the_hub_refuses_is_told(upload_hub, small, monkeypatch):
    assert "may not write to google" in refusal(lambda: deploy("google/ddpm", token=TOKEN))
    assert "does not accept this token" in refusal(lambda: deploy(SPACE, token="hf_expired"))
    from huggingface_hub import constants

    with socket.socket() as unused:  # bound but not listening
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert "check the network" in refusal(lambda: deploy(SPACE, token=TOKEN))
