"""A converted checkpoint computes what the published network computes; the networks are in layouts.py."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from ddpm_app.core.schedules import cosine_betas
from ddpm_app.models import load_model
from ddpm_app.models.convert import Settings, convert
from tests.models.layouts import HoUNet, OpenAIUNet, filled

ONE_HEAD = {"num_heads": 1, "image_size": 16}


@pytest.fixture(scope="module")
def openai():
    return filled(OpenAIUNet())


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


def test_the_old_format_of_torch_is_read(file, ho):
    torch.save(ho.state_dict(), file, _use_new_zipfile_serialization=False)
    convert(file, file.with_suffix(""))
    assert_same(load_model(file.with_suffix(""), "cpu"), ho)
