"""A model that learned the variances of single steps: who needs them, and who does not."""

from dataclasses import replace

import pytest
import torch

from ddpm_app.engine import (
    EVERY_SAMPLER,
    BranchRequest,
    CodingRequest,
    Engine,
    InterpolateRequest,
    LikelihoodRequest,
    ReconstructRequest,
    SampleRequest,
    SlerpGridRequest,
    SlerpRequest,
    StochasticRequest,
)
from tests.doubles import refusal, save_pipeline, tiny_network

ENDS = tuple(torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """An engine with one network twice: its variances learned of single steps, or taken as fixed."""
    folder = tmp_path_factory.mktemp("twins")
    for variance_type in ("learned", "fixed_small"):
        save_pipeline(folder / variance_type, tiny_network(out_channels=6), variance_type=variance_type)
    return Engine("cpu", folder)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *((SampleRequest, {"sampler": name}) for name in EVERY_SAMPLER if name != "ddpm"),
        (SampleRequest, {"langevin_steps": 1}),
        (StochasticRequest, {"sampler": "ddim"}),
        (InterpolateRequest, {"sampler": "ddim", "picture_a": ENDS[0], "picture_b": ENDS[1]}),
        (SlerpRequest, {}),
        (BranchRequest, {"sampler": "ddim", "diffusion_steps": 667}),
        (SlerpGridRequest, {"edge": 2}),
        (ReconstructRequest, {"pictures": ENDS}),
    ],
)
def test_a_variance_that_the_sampler_does_not_take_is_no_obstacle_to_few_steps(twins, kind, values):
    learned, fixed = (
        [*twins.run(kind(model=model, num_inference_steps=3, **values))][-1].x_t
        for model in ("learned", "fixed_small")
    )
    assert torch.equal(learned, fixed)


def test_the_sampler_that_takes_it_needs_single_steps_or_a_fixed_variance(twins):
    request = SampleRequest(model="learned", sampler="ddpm", num_inference_steps=3, num_images=1)
    assert "or a fixed variance" in refusal(lambda: list(twins.run(request)))
    assert len(list(twins.run(replace(request, variance_type="fixed_large")))) == 3


@pytest.mark.parametrize(("own", "other"), [("learned", "learned_range"), ("learned_range", "learned")])
def test_what_was_learned_as_one_thing_is_not_read_as_the_other(tmp_path, own, other):
    save_pipeline(tmp_path / "model", tiny_network(out_channels=6), variance_type=own)
    engine, asked = Engine("cpu", tmp_path), {"model": "model", "variance_type": other}
    sampled = SampleRequest(sampler="ddpm", num_inference_steps=1000, num_images=1, **asked)
    for runs in (
        lambda: engine.run(sampled),
        lambda: engine.likelihood(LikelihoodRequest(picture=ENDS[0], **asked)),
        lambda: engine.measure(CodingRequest(pictures=ENDS, **asked)),
    ):
        assert f"learned its variance as {own}" in refusal(lambda runs=runs: next(iter(runs())))
