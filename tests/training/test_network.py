from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddpm_app.models import read_network
from ddpm_app.training.network import build_unet
from tests.doubles import edit, refusal, save_pipeline

LEARNING = {"variance_type": "learned_range", "objective": "hybrid"}


@pytest.fixture
def given(config, tmp_path):
    """The folder of a model that no seed of a run makes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        return str(save_pipeline(tmp_path / "given", build_unet(config)))


def weights(network) -> dict[str, Tensor]:
    return network.state_dict()


def test_attention_is_where_the_picture_has_the_edges_named(config):
    config = replace(config, image_size=16, block_out_channels=(32, 32, 64), attention_resolutions=(8,))
    unet = build_unet(config)
    assert unet.config.down_block_types == ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D")
    assert unet.config.up_block_types == ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    assert (unet.config.sample_size, unet.config.in_channels, unet.config.out_channels) == (16, 3, 3)


def test_a_head_dimension_of_0_is_one_head(config):
    assert build_unet(replace(config, attention_head_dim=0)).config.attention_head_dim is None


@pytest.mark.parametrize("variance_type", ["learned", "learned_range"])
def test_a_learned_variance_doubles_the_outputs(config, variance_type):
    config = replace(config, channels=1, variance_type=variance_type, objective="vlb")
    assert build_unet(config).config.out_channels == 2


def test_a_run_begins_with_the_weights_of_the_model_named(config, given):
    wanted, begun = weights(read_network(given)[0]), weights(build_unet(replace(config, init_from=given)))
    assert wanted.keys() == begun.keys()
    assert all(torch.equal(wanted[name], begun[name]) for name in wanted)


def test_a_variance_that_the_model_lacks_begins_at_zero(config, given):
    unet = build_unet(replace(config, init_from=given, **LEARNING)).eval()
    x_t, t = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 7])
    with torch.inference_mode():
        prediction, variance = unet(x_t, t).sample.chunk(2, dim=1)
        wanted = read_network(given)[0].eval()(x_t, t).sample
    # the convolution of six channels may add in another order than that of three
    torch.testing.assert_close(prediction, wanted, rtol=1e-5, atol=1e-6)
    assert not variance.any()


def test_a_model_that_learned_its_variance_keeps_it(config, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        learned = save_pipeline(tmp_path / "learned", build_unet(replace(config, **LEARNING)))
    unet = build_unet(replace(config, init_from=str(learned), **LEARNING))
    assert torch.equal(unet.conv_out.weight, read_network(learned)[0].conv_out.weight)


def test_what_no_setting_names_is_the_given_model_s(config, tmp_path):
    unet = build_unet(config)
    odd = {"flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6}  # as in the authors' models
    folder = save_pipeline(tmp_path / "odd", type(unet).from_config(unet.config, **odd))
    begun = build_unet(replace(config, init_from=str(folder), dropout=0.1))
    assert {name: begun.config[name] for name in odd} == odd
    assert begun.config.dropout == 0.1


def test_where_the_given_model_lay_is_not_told(config, given):
    edit(Path(given, "unet", "config.json"), _name_or_path="/home/me/given/unet")
    assert "_name_or_path" not in build_unet(replace(config, init_from=given)).config


@pytest.mark.parametrize(
    "changes",
    [
        {"block_out_channels": (64,)},
        {"layers_per_block": 2},
        {"attention_resolutions": (8,)},
        {"channels": 1},
        {"norm_num_groups": 4},  # of the same shapes
        {"attention_head_dim": 8},
        {"prediction_type": "v_prediction"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_model_that_computes_another_thing_is_refused(config, given, changes):
    sentence = refusal(lambda: build_unet(replace(config, init_from=given, **changes)))
    assert given in sentence
    assert next(iter(changes)) in sentence


def test_a_model_to_begin_with_that_is_not_there_is_refused(config, tmp_path):
    assert "none" in refusal(lambda: build_unet(replace(config, init_from=str(tmp_path / "none"))))
