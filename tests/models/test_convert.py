"""A converted checkpoint computes what the published network computes; the networks are in layouts.py."""

import math
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from ddpm_app.core.schedules import cosine_betas
from ddpm_app.models import load_model
from ddpm_app.models.convert import Settings, convert
from tests.doubles import refusal
from tests.models.layouts import HoUNet, OpenAIUNet, filled

ONE_HEAD = {"num_heads": 1, "image_size": 16}


@pytest.fixture(scope="module")
def ho():
    return filled(HoUNet())


@pytest.fixture(scope="module")
def openai():
    return filled(OpenAIUNet())


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.pt"


def noise(batch=4):
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def converted(file, content, **settings):
    """The model that the file made of `content` becomes, and the facts told of it."""
    torch.save(content, file)
    out = file.with_suffix("")
    facts = convert(file, out, Settings(**settings))
    return load_model(out, "cpu"), facts


def assert_same(model, network, t=(0, 1, 500, 999), theirs=None):
    t = torch.tensor(t)
    expected = network(noise(), t if theirs is None else theirs)
    assert expected.std() > 0.1  # else anything is near
    torch.testing.assert_close(model.denoiser(noise(), t), expected, rtol=1e-5, atol=1e-5)


def test_ho_s_network_is_converted_exactly(file, ho):
    model, facts = converted(file, ho.state_dict())
    assert_same(model, ho)
    assert model.image_shape == (3, 32, 32)  # attention at 16 x 16, on the second level
    assert model.diffusion.variance_type == "fixed_large"
    assert facts["block_out_channels"].value == "(32, 64, 64)"
    assert facts["attention at"].value == "16, the middle"
    assert (facts["picture size"].source, facts["schedule"].source) == ("assumed", "assumed")


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ({}, {"num_heads": 1}),
        ({"shifts": True, "outputs": 6, "layers": 2}, {"num_heads": 1}),
        ({"heads": 4, "shifts": True}, {"num_heads": 4}),
        ({"head_channels": 16, "by_blocks": True, "shifts": True}, {"num_head_channels": 16}),
        ({"head_channels": 16, "new_order": True}, {"num_head_channels": 16, "new_attention_order": True}),
        ({"attends": (), "heads": 2}, {"num_heads": 2}),
    ],
)
def test_openai_s_networks_are_converted_exactly(file, arguments, settings):
    network = filled(OpenAIUNet(**arguments))
    model, facts = converted(file, network.state_dict(), image_size=16, **settings)
    assert_same(model, network)
    learned = arguments.get("outputs") == 6
    assert model.diffusion.variance_type == ("learned_range" if learned else "fixed_large")
    assert facts["variance_type"].source == ("read" if learned else "assumed")


def test_the_wrong_number_of_heads_would_show(file):
    network = filled(OpenAIUNet(heads=4))
    model, _ = converted(file, network.state_dict(), image_size=16, num_heads=2)
    with pytest.raises(AssertionError, match="not close"):
        assert_same(model, network)


def test_a_network_that_saw_rescaled_timesteps_is_given_them(file, openai):
    told = {**ONE_HEAD, "num_train_timesteps": 4000, "schedule": "cosine"}
    model, facts = converted(file, openai.state_dict(), **told)
    t = (0, 1, 2222, 3999)
    assert_same(model, openai, t, theirs=torch.tensor(t) * 0.25)
    torch.testing.assert_close(model.diffusion.betas, cosine_betas(4000))
    assert facts["network sees 1000 t / T"].source == "assumed"


def test_a_network_that_saw_its_timesteps_as_they_are_is_left_so(file, openai):
    told = {**ONE_HEAD, "num_train_timesteps": 4000, "rescale_timesteps": False}
    model, _ = converted(file, openai.state_dict(), **told)
    assert_same(model, openai, (0, 1, 2222, 3999))
    assert model.diffusion.betas[[0, -1]].tolist() == pytest.approx([2.5e-5, 0.005])


def test_safetensors_and_half_precision_are_read(file, ho):
    half = {key: tensor.half() for key, tensor in ho.state_dict().items()}
    save_file(half, file.with_suffix(".safetensors"))
    convert(file.with_suffix(".safetensors"), file.with_suffix(""))
    rounded = HoUNet().eval()
    rounded.load_state_dict(half)
    with torch.no_grad():
        assert_same(load_model(file.with_suffix(""), "cpu"), rounded)


@pytest.mark.parametrize("trainer", ["ddim", "named"])
def test_the_averaged_weights_are_taken_unless_the_raw_are_asked_for(file, ho, trainer):
    average, raw = ho.state_dict(), filled(HoUNet(), seed=1).state_dict()
    if trainer == "ddim":
        parallel = {f"module.{key}": tensor for key, tensor in raw.items()}
        content = [parallel, {"state": {0: {"exp_avg": raw["conv_in.weight"]}}}, 3, 700, average]
    else:
        online = {f"online_model.model.{key}": tensor for key, tensor in raw.items()}
        ema = {f"ema_model.model.{key}": tensor for key, tensor in average.items()}
        content = {"step": 7, "model": {f"model.{key}": raw[key] for key in raw}, "ema": online | ema}
    model, facts = converted(file, content)
    assert_same(model, ho)
    assert facts["weights"].value.startswith("averaged (EMA)")
    shutil.rmtree(file.with_suffix(""))
    model, facts = converted(file, content, raw=True)
    assert_same(model, filled(HoUNet(), seed=1))
    assert facts["weights"].value.startswith("as trained")


def test_a_name_that_only_contains_the_letters_of_ema_is_no_average(file, ho):
    _, facts = converted(file.with_name("my_schema_model.pt"), {"schema": ho.state_dict()})
    assert "does not tell" in facts["weights"].value
    _, facts = converted(file.with_name("ema_0.9999_500000.pt"), ho.state_dict())
    assert facts["weights"].value == "averaged (EMA)"


def test_weights_that_are_no_numbers_are_refused(file, ho):
    state = ho.state_dict()
    spoilt = state["conv_in.weight"].clone()
    spoilt[0, 0, 0, 0] = math.nan
    assert "no number in conv_in.weight" in refusal(
        lambda: converted(file, state | {"conv_in.weight": spoilt})
    )
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_a_full_disk_is_told_and_leaves_nothing(file, ho, monkeypatch):
    from diffusers import DDPMPipeline
    from safetensors import SafetensorError

    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(DDPMPipeline, "save_pretrained", full)
    sentence = refusal(lambda: converted(file, ho.state_dict()))
    assert "No space left" in sentence
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_weights_named_as_an_average_have_no_raw_ones_beside(file, ho):
    torch.save({"ema": ho.state_dict()}, file)
    assert "without --raw" in refusal(lambda: convert(file, file.with_suffix(""), Settings(raw=True)))


# refusals

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


def test_the_old_format_of_torch_is_read(file, ho):
    torch.save(ho.state_dict(), file, _use_new_zipfile_serialization=False)
    convert(file, file.with_suffix(""))
    assert_same(load_model(file.with_suffix(""), "cpu"), ho)


def test_a_folder_that_is_there_is_not_written_over(file, ho, tmp_path):
    torch.save(ho.state_dict(), file)
    (tmp_path / "kept").mkdir()
    assert "there already" in refusal(lambda: convert(file, tmp_path / "kept"))
    assert not any((tmp_path / "kept").iterdir())
