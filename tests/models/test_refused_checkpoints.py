"""Published checkpoints that are not converted: a sentence each, and nothing is left behind."""

import math
import zipfile

import pytest
import torch

from ddpm_app.models.convert import Settings, convert
from tests.doubles import refusal
from tests.models.layouts import OpenAIUNet

ONE_HEAD = {"num_heads": 1, "image_size": 16}

UNEVEN = {"widths": (32, 64, 96), "heads": 4}
EXTRA = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("arguments", "changes", "settings", "words"),
    [
        ({}, {}, {"image_size": 16}, "--num-head-channels"),
        (UNEVEN, {}, {"image_size": 16, "num_heads": 4}, "4 heads on [64, 96] channels"),
        ({}, {}, {"image_size": 16, "num_heads": 5}, "--num-heads 5 does not divide"),
        ({}, {}, {"num_heads": 1}, "--image-size"),
        ({}, {}, {"image_size": 18, "num_heads": 1}, "multiple of 4"),
        ({}, {"label_emb.weight": EXTRA}, ONE_HEAD, "class-conditional"),
        ({}, {"middle_block.1.encoder_kv.weight": EXTRA}, ONE_HEAD, "middle_block.1.encoder_kv.weight"),
        ({}, {"first_stage_model.conv.weight": EXTRA}, ONE_HEAD, "latent space"),
        ({}, {"out.2.bias": EXTRA}, ONE_HEAD, "conv_out.bias"),
        ({}, {"output_blocks.1.2.conv.weight": None}, ONE_HEAD, "conv_resample"),
        ({}, {"middle_block.1.qkv.weight": torch.zeros(32, 64, 1)}, ONE_HEAD, "has 32 rows"),
        ({}, {"input_blocks.0.0.weight": None}, ONE_HEAD, "no input_blocks.0.0.weight"),
        ({"outputs": 4}, {}, ONE_HEAD, "maps 3 channels to 4"),
        ({}, {}, {**ONE_HEAD, "num_train_timesteps": 5}, "21..10000"),
        ({}, {}, {**ONE_HEAD, "variance_type": "learned"}, "give a fixed one"),
    ],
)
def test_what_diffusers_cannot_express_or_weights_do_not_tell_is_said(
    file, arguments, changes, settings, words
):
    state = OpenAIUNet(**arguments).state_dict() | changes
    torch.save({key: tensor for key, tensor in state.items() if tensor is not None}, file)
    assert words in refusal(lambda: convert(file, file.with_suffix(""), Settings(**settings)))
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_ho_s_network_takes_no_flag_of_openai_s(file, ho):
    torch.save(ho.state_dict(), file)
    for settings in (Settings(num_heads=4), Settings(new_attention_order=True)):
        assert "leave" in refusal(lambda told=settings: convert(file, file.with_suffix(""), told))


# files that are not what they seem


class Runs:
    """What would write a file where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def test_a_pickle_that_asks_for_more_than_tensors_is_not_run(file, ho):
    torch.save(ho.state_dict() | {"more": Runs(file.with_name("run"))}, file)
    assert "holds more than tensors" in refusal(lambda: convert(file, file.with_suffix("")))
    assert not file.with_name("run").exists()


def damaged(file, state):
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[:-2000])


def compressed(file, state):
    torch.save({key: torch.zeros_like(tensor) for key, tensor in state.items()}, file)
    with zipfile.ZipFile(file) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, part in parts.items():
            target.writestr(name, part)


def inflated(file, state):
    torch.save(state | {"conv_in.weight": torch.zeros(1).expand(10**6, 10**6)}, file)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damaged, "damaged"),
        (compressed, "compressed"),
        (inflated, "more numbers than it holds"),
        (lambda file, state: file.write_bytes(b"\x80\x02}q\x00."), "holds no network|damaged"),
        (lambda file, state: file.write_bytes(b""), "damaged"),
        (lambda file, state: file.mkdir(), "no file"),
        (lambda file, state: torch.save([state] * 2 + [7, None, "text"], file), None),
    ],
)
def test_files_that_are_not_what_they_seem_get_a_sentence(file, ho, spoil, words):
    spoil(file, ho.state_dict())
    if words is None:
        assert convert(file, file.with_suffix(""))
    else:
        sentence = refusal(lambda: convert(file, file.with_suffix("")))
        assert any(word in sentence for word in words.split("|")), sentence


# nothing is left


def test_weights_that_are_no_numbers_are_refused(file, ho):
    state = ho.state_dict()
    spoilt = state["conv_in.weight"].clone()
    spoilt[0, 0, 0, 0] = math.nan
    torch.save(state | {"conv_in.weight": spoilt}, file)
    assert "no number in conv_in.weight" in refusal(lambda: convert(file, file.with_suffix("")))
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_a_full_disk_is_told_and_leaves_nothing(file, ho, monkeypatch):
    from diffusers import DDPMPipeline
    from safetensors import SafetensorError

    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(DDPMPipeline, "save_pretrained", full)
    torch.save(ho.state_dict(), file)
    assert "No space left" in refusal(lambda: convert(file, file.with_suffix("")))
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_weights_named_as_an_average_have_no_raw_ones_beside(file, ho):
    torch.save({"ema": ho.state_dict()}, file)
    assert "without --raw" in refusal(lambda: convert(file, file.with_suffix(""), Settings(raw=True)))


def test_a_folder_that_is_there_is_not_written_over(file, ho, tmp_path):
    torch.save(ho.state_dict(), file)
    (tmp_path / "kept").mkdir()
    assert "there already" in refusal(lambda: convert(file, tmp_path / "kept"))
    assert not any((tmp_path / "kept").iterdir())
