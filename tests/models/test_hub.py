import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from ddpm_app.models import load_model
from tests.doubles import (
    edit,
    flatten,
    noisy_batch,
    point_client_at,
    refusal,
    save_bin,
    save_pipeline,
    tiny_network,
)

REPOSITORY = "owner/repo"


def load(name: str = REPOSITORY):
    return load_model(name, "cpu", checkpoints=Path("no-such-folder"))


@pytest.mark.parametrize("at_root", [False, True])
def test_a_repository_gives_the_model_of_the_folder_it_holds(hub, tiny_copy, at_root):
    if at_root:
        flatten(tiny_copy)
    hub.add(REPOSITORY, tiny_copy)
    model, batch = load(), noisy_batch()
    local = load_model(tiny_copy, "cpu")
    torch.testing.assert_close(model.denoiser(*batch), local.denoiser(*batch), rtol=0, atol=0)
    assert (model.name, model.image_shape) == (REPOSITORY, (3, 8, 8))


def test_a_revision_is_the_one_asked_for(hub, tiny_copy, tmp_path):
    hub.add(REPOSITORY, tiny_copy)
    hub.add(REPOSITORY, save_pipeline(tmp_path / "v1", tiny_network(seed=1)), revision="v1")
    batch = noisy_batch()
    newest, first = load().denoiser(*batch), load(f"{REPOSITORY}@v1").denoiser(*batch)
    expected = load_model(tmp_path / "v1", "cpu").denoiser(*batch)
    torch.testing.assert_close(first, expected, rtol=0, atol=0)
    assert not torch.allclose(first, newest)


def test_a_commit_may_be_the_revision(hub, tiny_copy):
    hub.add(REPOSITORY, tiny_copy)
    assert load(f"{REPOSITORY}@{hub.commit(REPOSITORY, 'main')}").image_shape == (3, 8, 8)


def test_configuration_is_fetched_before_weights(hub, tiny_copy):
    hub.add(REPOSITORY, tiny_copy)
    load()
    *configuration, weights = hub.downloads()
    assert sorted(configuration) == ["config.json", "model_index.json", "scheduler_config.json"]
    assert weights == "diffusion_pytorch_model.safetensors"


def test_configuration_and_weights_are_of_one_commit(hub, tiny_copy):
    hub.add(REPOSITORY, tiny_copy)
    load()
    assert sum("/revision/" in line for line in hub.log) == 1  # asked once what main is
    assert all(hub.commit(REPOSITORY, "main") in line for line in hub.log if "/resolve/" in line)


def test_nothing_but_the_model_is_fetched(hub, tiny_copy):
    (tiny_copy / "unet_ema").mkdir()
    for name in ("README.md", "unet_ema/diffusion_pytorch_model.safetensors", "unet/optimizer.bin"):
        (tiny_copy / name).write_bytes(b"large")
    hub.add(REPOSITORY, tiny_copy)
    load()
    assert len(hub.downloads()) == 4
    assert not any("unet_ema" in line or "optimizer" in line for line in hub.log)


def test_bin_is_fetched_only_where_there_is_no_safetensors(hub, tiny_copy, tmp_path):
    both = Path(shutil.copytree(tiny_copy, tmp_path / "both"))
    (both / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"damaged")
    hub.add("owner/both", both)
    save_bin(tiny_copy / "unet")
    hub.add("owner/bin", tiny_copy)
    load("owner/both")
    assert "diffusion_pytorch_model.bin" not in hub.downloads()
    load("owner/bin")
    assert "diffusion_pytorch_model.bin" in hub.downloads()


def test_a_network_in_several_files_is_fetched_whole(hub, tiny_copy):
    expected = load_model(tiny_copy, "cpu").denoiser(*noisy_batch())
    (tiny_copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    tiny_network().half().save_pretrained(tiny_copy / "unet", max_shard_size="10KB")
    hub.add(REPOSITORY, tiny_copy)
    torch.testing.assert_close(load().denoiser(*noisy_batch()), expected, rtol=0, atol=0)
    assert sum(name.endswith(".safetensors") for name in hub.downloads()) > 1


def test_of_two_sets_of_shards_the_one_in_the_index_is_taken(hub, tiny_copy, tmp_path):
    expected = load_model(tiny_copy, "cpu").denoiser(*noisy_batch())
    folder = tiny_copy / "unet"
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    tiny_network(seed=1).half().save_pretrained(tmp_path / "older", max_shard_size="5KB")
    tiny_network().half().save_pretrained(folder, max_shard_size="10KB")
    for file in (tmp_path / "older").glob("*.safetensors"):
        shutil.copy(file, folder)
    torch.testing.assert_close(
        load_model(tiny_copy, "cpu").denoiser(*noisy_batch()), expected, rtol=0, atol=0
    )
    hub.add(REPOSITORY, tiny_copy)
    torch.testing.assert_close(load().denoiser(*noisy_batch()), expected, rtol=0, atol=0)
    index = next(folder.glob("*.index.json"))
    index.write_text("{}")
    assert "index.json is damaged" in refusal(lambda: load_model(tiny_copy, "cpu"))
    index.unlink()
    assert "two networks" in refusal(lambda: load_model(tiny_copy, "cpu"))


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "latent space"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ("unet/config.json", {"num_class_embeds": 10}, "class-conditional"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "no such"}, "beta_schedule"),
        ("scheduler/scheduler_config.json", {"variance_type": "no such"}, "variance_type"),
        ("scheduler/scheduler_config.json", None, "scheduler_config.json"),
    ],
)
def test_no_weights_are_requested_for_a_refused_model(hub, tiny_copy, file, changes, reason):
    if changes is None:
        (tiny_copy / file).unlink()
    else:
        edit(tiny_copy / file, **changes)
    hub.add(REPOSITORY, tiny_copy)
    sentence = refusal(load)
    assert REPOSITORY in sentence
    assert reason in sentence
    assert hub.downloads()
    assert not any("diffusion_pytorch_model" in line for line in hub.log)


def test_a_repository_without_a_network_is_refused(hub, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "README.md").write_text("a data set")
    hub.add(REPOSITORY, tmp_path / "repo")
    assert "UNet2DModel" in refusal(load)


def test_a_repository_without_weights_is_refused(hub, tiny_copy):
    weights = tiny_copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    hub.add(REPOSITORY, tiny_copy)
    assert "has no diffusion_pytorch_model.safetensors" in refusal(load)


@pytest.mark.parametrize("as_bin", [False, True])
def test_what_was_fetched_once_loads_with_the_hub_gone(hub, tiny_copy, as_bin):
    if as_bin:
        save_bin(tiny_copy / "unet")
    hub.add(REPOSITORY, tiny_copy)
    before = load().denoiser(*noisy_batch())
    hub.stop()
    torch.testing.assert_close(load().denoiser(*noisy_batch()), before, rtol=0, atol=0)


def test_a_second_load_downloads_nothing_anew(hub, tiny_copy):
    hub.add(REPOSITORY, tiny_copy)
    load()
    hub.log.clear()
    load()
    assert not any("/resolve/" in line for line in hub.log)


def test_the_hub_gone_between_configuration_and_weights_is_told(hub, tiny_copy, monkeypatch):
    answer = hub.answer
    monkeypatch.setattr(
        hub, "answer", lambda path: (403, {}, b"") if "diffusion_pytorch" in path else answer(path)
    )
    hub.add(REPOSITORY, tiny_copy)
    assert "the Hub answers 403" in refusal(load)


def test_a_repository_not_found_is_told(hub):
    sentence = refusal(load)
    assert REPOSITORY in sentence
    assert "check the spelling" in sentence


def test_a_login_that_the_hub_refuses_is_told(hub, monkeypatch):
    headers = {"X-Error-Message": "Invalid credentials in Authorization header"}
    monkeypatch.setattr(hub, "answer", lambda path: (401, headers, b""))
    sentence = refusal(load)
    assert REPOSITORY in sentence
    assert "hf auth login" in sentence


@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_hub_that_answers_otherwise_is_not_called_a_broken_network(hub, monkeypatch, status):
    monkeypatch.setattr(hub, "answer", lambda path: (status, {}, b""))
    sentence = refusal(load)
    assert f"the Hub answers {status} for {REPOSITORY}" in sentence
    assert "network" not in sentence


def test_a_revision_not_found_is_told(hub, tiny_copy):
    hub.add(REPOSITORY, tiny_copy)
    sentence = refusal(lambda: load(f"{REPOSITORY}@v9"))
    assert "'v9'" in sentence
    assert "leave it out" in sentence


def test_a_gated_repository_is_told(hub, tiny_copy):
    hub.add(REPOSITORY, tiny_copy)
    hub.gated.add(REPOSITORY)
    sentence = refusal(load)
    assert "gated" in sentence
    assert "log in" in sentence


def test_a_refused_connection_is_told(hub, monkeypatch):
    with socket.socket() as unused:  # bound but not listening
        unused.bind(("127.0.0.1", 0))
        point_client_at(f"http://127.0.0.1:{unused.getsockname()[1]}", monkeypatch)
        assert "check the network" in refusal(load)


class LoginPage(BaseHTTPRequestHandler):
    """What a network with a login answers to anything."""

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(b"<html>Welcome to the hotel</html>")

    def log_message(self, *args): ...


def test_behind_a_login_page_what_was_cached_loads_and_the_rest_is_told(hub, tiny_copy, monkeypatch):
    hub.add(REPOSITORY, tiny_copy)
    load()
    with ThreadingHTTPServer(("127.0.0.1", 0), LoginPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        point_client_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
        assert load().image_shape == (3, 8, 8)
        assert "login page" in refusal(lambda: load("owner/other"))
        server.shutdown()


def test_offline_mode_is_obeyed_and_told(hub, tiny_copy, monkeypatch):
    from huggingface_hub import constants

    hub.add(REPOSITORY, tiny_copy)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "not cached" in refusal(load)
    assert not hub.log


@pytest.mark.parametrize("name", ["owner/re--po", "-owner/repo", "owner/" + "r" * 200])
def test_a_name_that_no_repository_can_have_is_told(hub, name):
    assert "owner/repo" in refusal(lambda: load(name))
    assert not hub.log
