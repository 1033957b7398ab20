"""A checkpoint of denoising-diffusion-pytorch computes here what it computes there."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm_app.core.schedules import linear_betas
from ddpm_app.models import compiled, load_model, pieces
from ddpm_app.models.convert import Settings, convert
from tests.doubles import edit, refusal
from tests.hostile import anything, is_a_sentence, made_or_refused, several
from tests.models.lucidrains_layout import lucidrains, lucidrains_tensors

SIZE = {"image_size": 16}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model-10.pt"


def saved(tensors, prediction_type="v_prediction", **beside):
    """What the library's trainer saves: a GaussianDiffusion, its average, its optimiser."""
    alphas_cumprod = torch.cumprod(1 - linear_betas(1000), 0)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    clipped = snr.clamp(max=5)
    weight = {"epsilon": clipped / snr, "sample": clipped, "v_prediction": clipped / (snr + 1)}
    chain = {
        "betas": linear_betas(1000),
        "alphas_cumprod": alphas_cumprod,
        "loss_weight": weight[prediction_type],
    }
    whole = {f"model.{name}": tensor for name, tensor in tensors.items()}
    whole |= {name: table.float() for name, table in (chain | beside).items() if table is not None}
    raw = {f"model.{name}": torch.zeros_like(tensor) for name, tensor in tensors.items()}
    average = {f"ema_model.{name}": tensor for name, tensor in whole.items()}
    return {
        "step": 10,
        "model": whole | raw,
        "ema": average | {"step": torch.tensor([1.0])},
        "version": "2.2.5",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"outputs": 6},
        {"mults": (1, 3), "full": (True, False), "init_dim": 8},
        {"mults": (2,), "full": (False,)},
    ],
)
def test_its_networks_are_converted_exactly(file, arguments):
    tensors = lucidrains_tensors(**arguments)
    torch.save(saved(tensors), file)
    facts = convert(file, file.with_suffix(""), Settings(**SIZE))
    model = load_model(file.with_suffix(""), "cpu")
    x_t, t = (
        torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 1, 500, 999]),
    )
    expected = lucidrains(tensors, x_t, t)
    assert expected.std() > 0.1  # else anything is near
    torch.testing.assert_close(model.denoiser(x_t, t), expected, rtol=1e-4, atol=1e-4)
    model.settle()  # what is compiled in the background computes the same
    torch.testing.assert_close(model.denoiser(x_t, t), expected, rtol=1e-4, atol=1e-4)
    learned = arguments.get("outputs") == 6
    assert model.diffusion.variance_type == ("learned_range" if learned else "fixed_small")
    # whose loss is that of eps, although its weights lie there for v
    assert model.diffusion.prediction_type == ("epsilon" if learned else "v_prediction")
    assert facts["weights"].value.startswith("averaged (EMA)")
    assert facts["attention heads"].value == "2 of 6 channels"
    assert model.operations() > 0


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_its_chain_is_read_from_the_file(file, prediction_type):
    torch.save(saved(lucidrains_tensors(), prediction_type), file)
    facts = convert(file, file.with_suffix(""), Settings(**SIZE))
    diffusion = load_model(file.with_suffix(""), "cpu").diffusion
    assert diffusion.prediction_type == prediction_type
    assert facts["prediction_type"].source == facts["T"].source == "read"
    torch.testing.assert_close(diffusion.betas, linear_betas(1000).float().double())
    card = (file.with_suffix("") / "README.md").read_text()
    assert "DDPMPipeline" not in card
    assert "LucidrainsUNet" in card


def test_the_network_alone_has_the_librarys_default_and_an_assumed_schedule(file):
    torch.save(lucidrains_tensors(), file)
    facts = convert(file, file.with_suffix(""), Settings(**SIZE, schedule="cosine"))
    assert load_model(file.with_suffix(""), "cpu").diffusion.prediction_type == "v_prediction"
    assert (facts["prediction_type"].source, facts["schedule"].source) == ("assumed", "given")


def test_beside_a_learned_variance_the_network_alone_predicts_eps(file):
    torch.save(lucidrains_tensors(outputs=6), file)
    facts = convert(file, file.with_suffix(""), Settings(**SIZE))
    assert load_model(file.with_suffix(""), "cpu").diffusion.prediction_type == "epsilon"
    assert facts["prediction_type"].source == "read"


def test_without_betas_the_schedule_is_the_librarys_default(file):
    torch.save(lucidrains_tensors(), file)
    facts = convert(file, file.with_suffix(""), Settings(**SIZE))
    assert (facts["schedule"].value, facts["schedule"].source) == ("sigmoid", "assumed")
    alphas_cumprod = load_model(file.with_suffix(""), "cpu").diffusion.alphas_cumprod
    t = torch.arange(1, 1000, dtype=torch.float64) / 1000  # the last beta is held at 0.999
    v_start, v_end = 1 / (1 + math.exp(3)), 1 / (1 + math.exp(-3))
    expected = (v_end - 1 / (1 + (3 - 6 * t).exp())) / (v_end - v_start)
    torch.testing.assert_close(alphas_cumprod[:-1], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({}, {}, "add --image-size"),
        ({}, {"image_size": 10}, "halves its pictures"),
        ({}, SIZE | {"schedule": "cosine"}, "leave --schedule"),
        ({}, SIZE | {"num_heads": 4}, "leave their flags out"),
        ({}, SIZE | {"rescale_timesteps": True}, "leave it out"),
        ({"downs.0.0.block1.norm.weight": torch.ones(12)}, SIZE, "group norms"),
        ({"time_mlp.0.weights": torch.ones(4)}, SIZE, "embedding of t"),
        ({"mid_attn.mem_kv": None}, SIZE, "without memories"),
        ({"init_conv.weight": torch.zeros(12, 6, 7, 7)}, SIZE, "self_condition"),
        ({"ups.1.0.mlp.1.weight": None}, SIZE, "ups.1.0.mlp.1.weight"),
        ({"downs.1.3.1.weight": torch.zeros(7, 3, 1, 1)}, SIZE, "cannot express"),
    ],
)
def test_what_cannot_be_converted_is_said_and_nothing_is_written(file, changes, settings, words):
    tensors = lucidrains_tensors() | changes
    torch.save(saved({name: tensor for name, tensor in tensors.items() if tensor is not None}), file)
    assert words in refusal(lambda: convert(file, file.with_suffix(""), Settings(**settings)))
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_any_value_of_any_setting_is_followed_or_refused(file):
    torch.save(saved(lucidrains_tensors(mults=(1, 2), full=(False, True))), file)
    convert(file, file.with_suffix(""), Settings(**SIZE))
    config = file.with_suffix("") / "unet" / "config.json"
    whole = config.read_text()

    @several
    @given(
        st.dictionaries(st.sampled_from([*json.loads(whole), "unheard_of"]), anything, min_size=1, max_size=3)
    )
    def change(values):
        config.write_text(whole)
        edit(config, **values)
        _, said = made_or_refused(lambda: load_model(file.with_suffix(""), "cpu"))
        assert not said or is_a_sentence(said)

    change()


@pytest.mark.parametrize("full", [(True, False), (False, True)])
def test_its_networks_are_computed_by_openvino_too(file, tmp_path, full, monkeypatch):
    monkeypatch.delenv("DDPM_APP_RUNTIME")
    monkeypatch.setenv("DDPM_APP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_seconds", lambda way, *batch: float(not isinstance(way, pieces.Pieces)))
    torch.save(saved(lucidrains_tensors(mults=(1, 2), full=full)), file)
    convert(file, tmp_path / "converted", Settings(**SIZE))
    model = load_model(tmp_path / "converted", "cpu")
    x_t, t = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 70, 700])
    exact = [model.denoiser(x_t[:n], t[:n]) for n in (1, 3)]
    model.settle()
    assert model.backend == "OpenVINO float32 on cpu"
    for n, output in zip((1, 3), exact, strict=True):
        torch.testing.assert_close(model.denoiser(x_t[:n], t[:n]), output, rtol=1e-3, atol=1e-4)
