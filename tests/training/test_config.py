import math
from dataclasses import FrozenInstanceError

import pytest

from ddpm_app.training import TrainingConfig
from tests.doubles import refusal


def made(**settings):
    return TrainingConfig(data="pictures", out="run", **settings)


def test_what_is_given_is_kept_and_cannot_be_changed():
    config = made(image_size=64, held_out="others")
    assert (config.data, config.out, config.image_size, config.held_out) == ("pictures", "run", 64, "others")
    with pytest.raises(FrozenInstanceError):
        config.image_size = 32


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("schedule", "steep", "linear"),
        ("prediction_type", "noise", "epsilon"),
        ("variance_type", "large", "learned_range"),
        ("objective", "complex", "simple, vlb, hybrid"),
        ("timestep_sampling", "often", "uniform, importance"),
        ("precision", "double", "bf16"),
        ("log_with", "paper", "tensorboard, trackio"),
        ("channels", 2, "1 or 3"),
        ("image_size", 0, "at least 1"),
        ("image_size", 9, "multiple of 8"),
        ("block_out_channels", (), "multiples of 32"),
        ("block_out_channels", (32, 40), "multiples of 32"),
        ("block_out_channels", (32, 0), "multiples of 32"),
        ("norm_num_groups", 3, "1, 2, 4, 8, 16 or 32"),
        ("layers_per_block", 0, "at least 1"),
        ("attention_head_dim", -1, "at least 0"),
        ("attention_head_dim", 48, "divide 128"),
        ("num_train_timesteps", 0, "at least 1"),
        ("num_steps", 0, "at least 1"),
        ("image_size", 1_000_000, "at most 1024"),
        ("batch_size", -1, "at least 1"),
        ("batch_size", math.nan, "a whole number"),
        ("batch_size", 4.0, "a whole number"),
        ("num_steps", True, "a whole number"),
        ("flip", "no", "true or false"),
        ("learning_rate", "3e-4", "a number"),
        ("schedule", 7, "text"),
        ("block_out_channels", 32, "whole numbers"),
        ("block_out_channels", (32, 64.0), "whole numbers"),
        ("block_out_channels", (32,) * 17, "1 to 16"),
        ("num_train_timesteps", 10_001, "at most 10000"),
        ("layers_per_block", 17, "at most 16"),
        ("gradient_accumulation_steps", 0, "at least 1"),
        ("save_every", 0, "at least 1"),
        ("sample_every", 0, "at least 1"),
        ("warmup_steps", -1, "at least 0"),
        ("min_snr_gamma", -5.0, "at least 0"),
        ("min_snr_gamma", math.nan, "at least 0"),
        ("max_grad_norm", -1.0, "at least 0"),
        ("max_grad_norm", math.nan, "at least 0"),
        ("learning_rate", math.nan, "0..1"),
        ("learning_rate", -1e-4, "0..1"),
        ("learning_rate", math.inf, "0..1"),
        ("final_learning_rate", 2.0, "0..1"),
        ("ema_decay", 1.5, "0..1"),
        ("ema_decay", math.nan, "0..1"),
        ("dropout", -0.1, "0..1"),
        ("seed", -1, "0..2**32 - 1"),
        ("seed", 2**64, "0..2**32 - 1"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(name, value, said):
    sentence = refusal(lambda: made(**{name: value}))
    assert sentence.startswith(name)
    assert said in sentence
    assert "got" in sentence


@pytest.mark.parametrize("variance_type", ["learned", "learned_range"])
def test_a_variance_is_learned_from_the_bound_alone(variance_type):
    sentence = refusal(lambda: made(variance_type=variance_type, objective="simple"))
    assert variance_type in sentence
    assert "hybrid or vlb" in sentence
    for objective in ("hybrid", "vlb"):
        assert made(variance_type=variance_type, objective=objective).objective == objective


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_the_hybrid_objective_wants_a_learned_variance(variance_type):
    assert "learned_range" in refusal(lambda: made(variance_type=variance_type, objective="hybrid"))
    assert made(variance_type=variance_type, objective="vlb").objective == "vlb"


def test_a_guide_leads_a_model_that_is_named_and_teaches_no_variance():
    for changes in ({}, {"init_from": "a", "objective": "vlb"}):
        assert "give both, or no guide" in refusal(lambda changes=changes: made(guide="b", **changes))
    assert made(guide="b", init_from="a").guidance_scale == 2
    assert "guidance_from" in refusal(lambda: made(guidance_from=1.5))
    assert "guidance_scale" in refusal(lambda: made(guidance_scale=-1.0))


def test_min_snr_weights_are_for_squared_errors():
    assert "leave it 0" in refusal(lambda: made(min_snr_gamma=5.0, objective="vlb"))
    assert made(min_snr_gamma=5.0).min_snr_gamma == 5
    assert made(min_snr_gamma=5.0, objective="hybrid", variance_type="learned_range").min_snr_gamma == 5
