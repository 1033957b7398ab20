import socket

import pytest
import torch
from PIL import Image

from ddpm_app.models import load_model
from ddpm_app.models.publish import push
from tests.doubles import flatten, noisy_batch, refusal, save_pipeline, tiny_network
from tests.uploads import TOKEN

REPOSITORY = "owner/tiny-8"
# of the real client's own way to send large files
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
MODEL = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
}
SHOWN = {"README.md", "training.json", "samples.png", "examples/0.png"}


@pytest.fixture
def trained(tiny_copy):
    """A folder as training leaves it: the model, what is shown of it, and what is nobody else's."""
    (tiny_copy / "README.md").write_text("---\nlibrary_name: diffusers\n---\n\n# tiny-8\n")
    (tiny_copy / "training.json").write_text('{"steps_done": 3}\n')
    private = ("run.json", "run.log", "progress.jsonl", "training_state.pt", "training_state.pt.partial")
    for name in (*private, "unet/.cache/x.json", "cache/latents.npz", "logs/events", ".env"):
        (tiny_copy / name).parent.mkdir(exist_ok=True)
        (tiny_copy / name).write_bytes(b"private")
    for name in ("samples.png", "examples/0.png", "data/me.png"):
        (tiny_copy / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (1, 2, 3)).save(tiny_copy / name)
    return tiny_copy


def test_the_model_its_card_and_its_samples_arrive_whole_and_nothing_else(upload_hub, trained):
    assert push(trained, REPOSITORY, token=TOKEN) == f"{upload_hub.url}/{REPOSITORY}"
    arrived = upload_hub.files(REPOSITORY)
    assert arrived.keys() == MODEL | SHOWN
    for name, content in arrived.items():
        assert content == (trained / name).read_bytes()


def test_what_was_pushed_loads_from_the_hub_as_the_same_model(upload_hub, trained):
    push(trained, REPOSITORY, token=TOKEN)
    batch = noisy_batch()
    pushed, local = load_model(REPOSITORY, "cpu"), load_model(trained, "cpu")
    torch.testing.assert_close(pushed.denoiser(*batch), local.denoiser(*batch), rtol=0, atol=0)


def test_a_second_push_brings_the_new_weights_and_card(upload_hub, trained):
    push(trained, REPOSITORY, token=TOKEN)
    save_pipeline(trained, tiny_network(seed=1))
    (trained / "README.md").write_text("# newer\n---\n---\n")
    push(trained, REPOSITORY, token=TOKEN)
    arrived = upload_hub.files(REPOSITORY)
    assert arrived["README.md"].startswith(b"# newer")
    name = "unet/diffusion_pytorch_model.safetensors"
    assert arrived[name] == (trained / name).read_bytes()


@pytest.mark.parametrize("form", ["shards", "root"])
def test_a_second_push_in_another_form_leaves_nothing_of_the_first(upload_hub, tiny_copy, tmp_path, form):
    push(tiny_copy, REPOSITORY, token=TOKEN)
    newer = save_pipeline(tmp_path / "newer", tiny_network(seed=1), at_root=form == "root")
    if form == "shards":
        (newer / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        tiny_network(seed=1).half().save_pretrained(newer / "unet", max_shard_size="10KB")
    push(newer, REPOSITORY, token=TOKEN)
    expected = load_model(newer, "cpu").denoiser(*noisy_batch())
    arrived = load_model(REPOSITORY, "cpu", checkpoints=tmp_path / "none")
    torch.testing.assert_close(arrived.denoiser(*noisy_batch()), expected, rtol=0, atol=0)


def test_a_network_in_several_files_goes_with_its_index(upload_hub, tiny_copy):
    (tiny_copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    tiny_network().half().save_pretrained(tiny_copy / "unet", max_shard_size="10KB")
    push(tiny_copy, REPOSITORY, token=TOKEN)
    arrived = upload_hub.files(REPOSITORY)
    assert "unet/diffusion_pytorch_model.safetensors.index.json" in arrived
    assert sum(name.endswith(".safetensors") for name in arrived) > 1


def test_a_model_at_the_root_of_its_folder_goes_as_it_is(upload_hub, tiny_copy):
    flatten(tiny_copy)
    push(tiny_copy, REPOSITORY, token=TOKEN)
    assert upload_hub.files(REPOSITORY).keys() == {name.rpartition("/")[2] for name in MODEL}


def test_private_is_made_private_and_public_is_the_rule(upload_hub, tiny_copy):
    push(tiny_copy, "owner/seen", token=TOKEN)
    push(tiny_copy, "owner/hidden", token=TOKEN, private=True)
    push(tiny_copy, "owner/hidden", token=TOKEN, private=True)
    assert upload_hub.private == {"owner/hidden"}


def test_what_is_to_be_private_does_not_go_into_a_public_repository(upload_hub, tiny_copy):
    upload_hub.make(REPOSITORY)
    assert "public" in refusal(lambda: push(tiny_copy, REPOSITORY, token=TOKEN, private=True))
    assert not upload_hub.files(REPOSITORY)


def test_the_token_of_this_machine_s_login_is_used(upload_hub, tiny_copy, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\n")
    push(tiny_copy, REPOSITORY)
    assert upload_hub.files(REPOSITORY).keys() == MODEL


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "hf auth login"),
        ("  ", "hf auth login"),
        ("hf_two words", "copy it again"),
        ("hf_ключ", "copy it again"),
    ],
)
def test_a_token_that_is_none_is_told_before_anything_is_sent(upload_hub, tiny_copy, token, said):
    assert said in refusal(lambda: push(tiny_copy, REPOSITORY, token=token))
    assert not upload_hub.log


def test_a_token_that_the_hub_refuses_is_told_without_it(upload_hub, tiny_copy):
    sentence = refusal(lambda: push(tiny_copy, REPOSITORY, token="hf_expired"))
    assert "does not accept this token" in sentence
    assert "hf_expired" not in sentence


@pytest.mark.parametrize("there", [False, True])
def test_a_namespace_of_others_is_told(upload_hub, tiny_copy, there):
    if there:
        upload_hub.make("google/tiny-8")
    assert "may not write to google" in refusal(lambda: push(tiny_copy, "google/tiny-8", token=TOKEN))
    assert ("google/tiny-8", "main") not in upload_hub.folders or not upload_hub.files("google/tiny-8")


@pytest.mark.parametrize(
    "name", ["", "tiny", "a/b/c", "owner/re--po", "-owner/x", "owner/" + "r" * 200, "o/a b"]
)
def test_a_name_that_no_repository_can_have_is_told(upload_hub, tiny_copy, name):
    assert "write owner/" in refusal(lambda: push(tiny_copy, name, token=TOKEN))
    assert not upload_hub.log


def test_a_hub_out_of_reach_is_told(upload_hub, tiny_copy, monkeypatch):
    from huggingface_hub import constants

    with socket.socket() as unused:  # bound but not listening
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert "check the network" in refusal(lambda: push(tiny_copy, REPOSITORY, token=TOKEN))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "check the network" in refusal(lambda: push(tiny_copy, REPOSITORY, token=TOKEN))


def test_another_refusal_gives_the_hub_s_own_reason(upload_hub, tiny_copy, monkeypatch):
    monkeypatch.setattr(upload_hub, "take", lambda *asked: (429, {"error": "you have used\nup your share"}))
    sentence = refusal(lambda: push(tiny_copy, REPOSITORY, token=TOKEN))
    assert "429" in sentence
    assert "you have used up your share" in sentence


def test_a_card_that_the_hub_refuses_is_told(upload_hub, trained):
    (trained / "README.md").write_text("---\ntags: [never closed\n---\n")
    sentence = refusal(lambda: push(trained, REPOSITORY, token=TOKEN))
    assert "card" in sentence
    assert "no YAML" in sentence
    assert not upload_hub.files(REPOSITORY)


@pytest.mark.parametrize(
    "missing",
    ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json", *sorted(MODEL)[-1:]],
)
def test_a_folder_that_is_not_whole_is_refused_before_anything_is_sent(upload_hub, tiny_copy, missing):
    (tiny_copy / missing).unlink()
    assert refusal(lambda: push(tiny_copy, REPOSITORY, token=TOKEN))
    assert not upload_hub.log


def test_damaged_weights_are_refused_before_anything_is_sent(upload_hub, tiny_copy):
    (tiny_copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"half")
    assert "damaged" in refusal(lambda: push(tiny_copy, REPOSITORY, token=TOKEN))
    assert not upload_hub.log


@pytest.mark.parametrize("name", ["missing", "x" * 5000, "~nobody/models"])
def test_a_folder_that_is_not_there_is_told(upload_hub, tmp_path, name):
    assert "no folder" in refusal(lambda: push(tmp_path / name, REPOSITORY, token=TOKEN))
