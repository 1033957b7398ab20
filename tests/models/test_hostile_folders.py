"""Folders that somebody damaged or made to do harm: a sentence for each, or a model that runs."""

import json
import math
import os
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_app.models import load_model
from tests.doubles import edit, refusal, save_pipeline, tiny_network
from tests.hostile import NUMBERS, OTHERS, anything, is_a_sentence, made_or_refused, several

NETWORK, SCHEDULER, INDEX = "unet/config.json", "scheduler/scheduler_config.json", "model_index.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def runs_or_refuses(folder: Path) -> str:
    """The sentence with which the folder is refused; empty where its model gives numbers for an image."""
    model, said = made_or_refused(lambda: load_model(folder, "cpu"))
    if model is None:
        assert is_a_sentence(said)
        return said
    with torch.inference_mode():
        output = model.denoiser(torch.randn(1, *model.image_shape), torch.tensor([len(model.diffusion) - 1]))
    assert output.isfinite().all()
    return ""


def keys(file: str) -> list[str]:
    """Those that diffusers itself writes there."""
    from diffusers import DDPMScheduler

    return sorted(tiny_network().config) if file == NETWORK else sorted(DDPMScheduler().config)


@pytest.mark.parametrize("file", [NETWORK, SCHEDULER])
def test_any_value_of_any_setting_is_followed_or_refused(tiny_copy, file):
    whole = (tiny_copy / file).read_text()

    @several
    @given(st.dictionaries(st.sampled_from(keys(file)), anything, min_size=1, max_size=3))
    def change(values):
        (tiny_copy / file).write_text(whole)
        edit(tiny_copy / file, **values)
        runs_or_refuses(tiny_copy)

    change()


@pytest.mark.parametrize("value", NUMBERS + OTHERS, ids=repr)
@pytest.mark.parametrize("key", ["layers_per_block", "block_out_channels", "norm_num_groups", "sample_size"])
def test_a_network_of_any_size_is_refused_before_it_takes_memory(tiny_copy, key, value):
    edit(tiny_copy / NETWORK, **{key: [value, value] if key == "block_out_channels" else value})
    runs_or_refuses(tiny_copy)


@pytest.mark.parametrize("file", [NETWORK, SCHEDULER, INDEX])
@several
@given(
    text=st.recursive(
        anything, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
    )
)
def test_any_json_in_place_of_a_configuration_is_refused(tiny_copy, file, text):
    (tiny_copy / file).write_text(json.dumps(text))
    sentence = runs_or_refuses(tiny_copy)
    assert sentence or file != NETWORK


@pytest.mark.parametrize("file", [NETWORK, SCHEDULER, INDEX])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": "' + "b" * 2_000_000 + '"}'], ids=["deep", "long"])
def test_json_made_to_choke_on_is_refused(tiny_copy, file, text):
    (tiny_copy / file).write_text(text)
    assert Path(file).name in refusal(lambda: load_model(tiny_copy, "cpu"))


@pytest.mark.parametrize("steps", [10_001, 10**9, 10**15])
def test_a_chain_longer_than_any_is_refused(tiny_copy, steps):
    edit(tiny_copy / SCHEDULER, num_train_timesteps=steps)
    assert "num_train_timesteps must be" in refusal(lambda: load_model(tiny_copy, "cpu"))


# weights


def safetensors(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    """A file of that header, whose length it states truly unless another is given."""
    return struct.pack("<Q", len(header) if length is None else length) + header + body


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HEADERS = {
    "no header": safetensors(b"", length=0),
    "longer than the file": safetensors(b"{}", length=10**6),
    "longer than memory": safetensors(b"{}", length=2**63),
    "no json": safetensors(b"\xff" * 64),
    "no table": safetensors(b"[1, 2]"),
    "deep": safetensors(b'{"a":' * 50_000),
    "beyond the end": safetensors(
        json.dumps({"a": TENSOR | {"data_offsets": [0, 2**40], "shape": [2**38]}}).encode()
    ),
    "backwards": safetensors(json.dumps({"a": TENSOR | {"data_offsets": [8, 0]}}).encode(), bytes(8)),
    "overlapping": safetensors(json.dumps({"a": TENSOR, "b": TENSOR}).encode(), bytes(8)),
    "unknown type": safetensors(json.dumps({"a": TENSOR | {"dtype": "F31"}}).encode(), bytes(8)),
    "negative shape": safetensors(json.dumps({"a": TENSOR | {"shape": [-2]}}).encode(), bytes(8)),
    "shape that overflows": safetensors(
        json.dumps({"a": TENSOR | {"shape": [2**62, 2**62]}}).encode(), bytes(8)
    ),
    "a path for a name": safetensors(json.dumps({"../../x": TENSOR}).encode(), bytes(8)),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_hostile_header_is_refused(tiny_copy, kind):
    (tiny_copy / WEIGHTS).write_bytes(HEADERS[kind])
    sentence = refusal(lambda: load_model(tiny_copy, "cpu"))
    assert "fetch" in sentence
    assert not list(tiny_copy.parent.parent.glob("x*"))


def test_bytes_changed_anywhere_are_noticed_or_are_other_weights(tiny_copy):
    file = tiny_copy / WEIGHTS
    whole = file.read_bytes()

    @several
    @given(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=40))
    def change(place, patch):
        file.write_bytes((whole[:place] + patch + whole[place + len(patch) :])[: len(whole)])
        runs_or_refuses(tiny_copy)

    change()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_give_no_numbers_are_refused(tmp_path, value):
    network = tiny_network()
    with torch.no_grad():
        network.conv_out.bias[0] = value
    folder = save_pipeline(tmp_path / "model", network)
    assert "no finite numbers" in refusal(lambda: load_model(folder, "cpu"))


def test_a_bin_that_swells_when_unpacked_is_refused(tiny_copy):
    (tiny_copy / WEIGHTS).unlink()
    file = (tiny_copy / WEIGHTS).with_suffix(".bin")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        pack.writestr("archive/data/0", bytes(50_000_000))
        pack.writestr("archive/version", b"3\n")
    assert file.stat().st_size < 100_000
    assert "not opened" in refusal(lambda: load_model(tiny_copy, "cpu"))


# other files than the folder's own


@pytest.mark.parametrize("file", [NETWORK, SCHEDULER, INDEX, WEIGHTS])
def test_what_a_link_points_at_is_not_told(tiny_copy, tmp_path, file):
    secret = tmp_path / "secret"
    secret.write_text("xyzzy-password")
    (tiny_copy / file).unlink()
    (tiny_copy / file).symlink_to(secret)
    assert "xyzzy" not in refusal(lambda: load_model(tiny_copy, "cpu"))


@pytest.mark.parametrize("file", [NETWORK, WEIGHTS])
def test_a_link_in_a_circle_and_a_pipe_are_no_files(tiny_copy, file):
    (tiny_copy / file).unlink()
    (tiny_copy / file).symlink_to(tiny_copy / file)
    assert refusal(lambda: load_model(tiny_copy, "cpu"))
    (tiny_copy / file).unlink()
    os.mkfifo(tiny_copy / file)  # to open it would wait for ever
    assert refusal(lambda: load_model(tiny_copy, "cpu"))


NAMES = [
    "..",
    "../..",
    "a/../../b",
    "owner/repo@../../x",
    "owner/..",
    "/",
    "~",
    "~nobody/x",
    "a\0b",
    "x" * 5000,
]


@pytest.mark.parametrize("name", [*NAMES, "owner/repo@", "o/r@v@w", "file:///tmp", "C:\\x", "​", "-"])
def test_a_name_that_is_none_gets_a_sentence(tiny_copy, hub, name):
    assert refusal(lambda: load_model(name, "cpu", checkpoints=tiny_copy.parent))
    assert not [line for line in hub.log if ".." in line]


@several
@given(name=st.text())
def test_any_text_as_a_name_gets_a_sentence(tiny_copy, name):
    assert refusal(lambda: load_model(name, "cpu", checkpoints=tiny_copy.parent))
