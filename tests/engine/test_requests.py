import dataclasses
import json
import math

import pytest
import torch

from ddpm_app.engine import (
    CompressionRequest,
    ForwardRequest,
    InterpolateRequest,
    LikelihoodRequest,
    SampleRequest,
    SlerpRequest,
    StochasticRequest,
)
from tests.doubles import refusal

PICTURE = torch.zeros(3, 8, 8, dtype=torch.uint8)
WHOLE = {
    SampleRequest: {"num_inference_steps", "num_images", "seed"},
    StochasticRequest: {"num_inference_steps", "num_images", "seed", "diffusion_steps"},
    InterpolateRequest: {"num_inference_steps", "num_images", "seed", "diffusion_steps"},
    SlerpRequest: {"num_inference_steps", "num_images", "seed", "other_seed"},
    ForwardRequest: {"seed"},
    LikelihoodRequest: {"num_terms", "num_draws", "seed"},
    CompressionRequest: {"num_terms", "seed"},
}
PICTURES = {
    InterpolateRequest: {"picture_a": PICTURE, "picture_b": PICTURE},
    ForwardRequest: {"picture": PICTURE},
    LikelihoodRequest: {"picture": PICTURE},
    CompressionRequest: {"picture": PICTURE},
}
NOT_WHOLE = [math.nan, math.inf, -math.inf, -1, 1.5, 10**30, 10**400, 1e300, True, None, "7", "", [7], {}]
every_request = pytest.mark.parametrize("request_type", WHOLE, ids=lambda kind: kind.__name__)
every_whole_field = pytest.mark.parametrize(
    ("request_type", "name"),
    [(kind, name) for kind, names in WHOLE.items() for name in sorted(names)],
    ids=lambda value: getattr(value, "__name__", value),
)


def make(request_type, **values):
    return request_type(**(PICTURES.get(request_type, {}) | values))


@every_whole_field
@pytest.mark.parametrize("value", NOT_WHOLE, ids=lambda value: repr(value)[:8])
def test_what_is_no_whole_number_in_range_is_refused_by_name(request_type, name, value):
    sentence = refusal(lambda: make(request_type, **{name: value}))
    assert sentence.startswith(f"{name} must be a whole number in ")
    assert ".." in sentence
    assert f"got {repr(value)[:6]}" in sentence


@pytest.mark.parametrize("name", ["num_inference_steps", "num_images"])
def test_nothing_cannot_be_asked_for(name):
    assert "1.." in refusal(lambda: SampleRequest(**{name: 0}))


@pytest.mark.parametrize("request_type", [InterpolateRequest, SlerpRequest])
def test_a_path_has_at_least_its_two_ends(request_type):
    assert "2..256" in refusal(lambda: make(request_type, num_images=1))


@every_whole_field
@pytest.mark.parametrize("value", [50.0, 50])
def test_a_whole_float_is_a_whole_number(request_type, name, value):
    kept = getattr(make(request_type, **{name: value}), name)
    assert kept == 50
    assert type(kept) is int


@pytest.mark.parametrize("seed", [0, 2**32, 2**53 + 1, 2**63 - 1])
def test_seeds_of_63_bits_are_kept_to_the_last_bit(seed):
    assert SampleRequest(seed=seed).seed == seed
    assert all(0 <= each < 2**63 for each in SampleRequest(seed=seed).seeds)


@pytest.mark.parametrize("seed", [2**63, 2**64, 2**64 + 1, 2.0**63])
def test_seeds_beyond_that_are_refused(seed):
    assert "seed must be a whole number in 0..9223372036854775807" in refusal(
        lambda: SampleRequest(seed=seed)
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.01, 10**400, True, "0.5", None])
def test_eta_is_a_number_from_0_to_1(value):
    assert refusal(lambda: SampleRequest(eta=value)).startswith("eta must be a number in 0..1; got ")
    assert SampleRequest(eta=1).eta == 1.0


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("sampler", "ddpm, ddim, langevin, dpmsolver++"),
        ("variance_type", "auto, fixed_small, fixed_large"),
        ("timestep_spacing", "auto, leading, trailing, linspace"),
        ("precision", "exact, fast"),
    ],
)
@pytest.mark.parametrize("value", ["euler", "DDPM", "", None, 3, ["ddpm"]], ids=str)
def test_an_unknown_choice_is_answered_with_the_choices(name, allowed, value):
    sentence = refusal(lambda: SampleRequest(**{name: value}))
    assert sentence.startswith(f"{name} must be one of {allowed}")
    assert sentence.endswith(f"got {value!r}")


def test_forward_and_likelihood_refuse_unknown_choices_too():
    assert "linear, cosine" in refusal(lambda: make(ForwardRequest, schedule="steep"))
    assert "fixed_small" in refusal(lambda: make(LikelihoodRequest, variance_type="small"))
    assert "exact, fast" in refusal(lambda: make(LikelihoodRequest, precision="half"))


@pytest.mark.parametrize("value", [None, 7, ["emoji-32"]])
def test_a_model_is_named_by_a_string(value):
    assert "model must be a name" in refusal(lambda: SampleRequest(model=value))


@pytest.mark.parametrize("value", [[], (), None, 5, "125", (0, 1001), (0, -1), (0.5,), (True,)], ids=str)
def test_forward_needs_a_list_of_whole_steps(value):
    sentence = refusal(lambda: make(ForwardRequest, diffusion_steps=value))
    assert "diffusion_steps must" in sentence
    assert "0..1000" in sentence


def test_forward_keeps_its_steps_as_whole_numbers():
    assert make(ForwardRequest, diffusion_steps=[0, 125.0, 1000]).diffusion_steps == (0, 125, 1000)


@pytest.mark.parametrize("value", [None, "cat.png", PICTURE.float(), PICTURE[0], PICTURE[None]], ids=type)
@pytest.mark.parametrize(
    ("request_type", "name"),
    [
        (InterpolateRequest, "picture_a"),
        (InterpolateRequest, "picture_b"),
        (ForwardRequest, "picture"),
        (LikelihoodRequest, "picture"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(request_type, name, value):
    assert refusal(lambda: make(request_type, **{name: value})).startswith(f"{name} must be a picture")


def test_a_stochastic_run_needs_no_picture_but_refuses_a_wrong_one():
    assert StochasticRequest(picture=None).picture is None
    assert "uint8" in refusal(lambda: StochasticRequest(picture=PICTURE.float()))


@pytest.mark.parametrize("value", ["no", 0, None])
def test_shared_noise_is_yes_or_no(value):
    assert "True or False" in refusal(lambda: make(InterpolateRequest, shared_noise=value))


@pytest.mark.parametrize("value", ["no", 0, None])
def test_whether_eps_is_rederived_is_yes_or_no(value):
    assert refusal(lambda: SampleRequest(rederive_eps=value)).startswith("rederive_eps must be True or False")


@every_request
def test_a_request_is_frozen(request_type):
    made = make(request_type)
    for each in dataclasses.fields(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, each.name, getattr(made, each.name))


@pytest.mark.parametrize("request_type", [SampleRequest, StochasticRequest, InterpolateRequest, SlerpRequest])
def test_a_recipe_survives_json_and_makes_an_equal_request(request_type):
    made = make(request_type, num_inference_steps=7, seed=2**63 - 1, eta=0.1, num_images=3)
    recipe = json.loads(json.dumps(made.recipe(), allow_nan=False))
    assert make(request_type, **recipe) == made
    assert not any(isinstance(value, torch.Tensor) for value in made.recipe().values())


def test_image_k_has_the_seed_plus_k():
    assert SampleRequest(seed=7, num_images=3).seeds == [7, 8, 9]
    assert SampleRequest(seed=2**63 - 2, num_images=3).seeds == [2**63 - 2, 2**63 - 1, 0]
