import pytest
import torch

from ddpm_app.engine import InterpolateRequest, SampleRequest, StochasticRequest, visited, visits
from tests.doubles import refusal

PICTURE = torch.zeros(3, 8, 8, dtype=torch.uint8)
TINY = {"model": "tiny-8", "num_inference_steps": 5, "num_images": 2}
ENDS = {"picture_a": PICTURE, "picture_b": PICTURE}
REQUESTS = [
    SampleRequest(**TINY),
    SampleRequest(**TINY, timestep_spacing="linspace"),
    SampleRequest(**TINY, sampler="unipc"),
    StochasticRequest(**TINY, diffusion_steps=501),
    StochasticRequest(**TINY, diffusion_steps=501, picture=PICTURE),
    InterpolateRequest(**TINY, diffusion_steps=501, **ENDS),
    InterpolateRequest(**TINY, sampler="dpmsolver++", diffusion_steps=501, **ENDS),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: type(each).__name__)
def test_the_timesteps_told_are_those_of_the_frames_counted_from_1(engine, request_):
    left = [frame.t + 1 for frame in engine.run(request_)]
    assert visited(request_, engine.model("tiny-8")) == left


@pytest.mark.parametrize("kind", [StochasticRequest, InterpolateRequest])
def test_more_diffusion_steps_than_the_chain_has_are_refused_by_that_name(engine, kind):
    ends = ENDS if kind is InterpolateRequest else {}
    request = kind(**TINY, **ends, diffusion_steps=1500, variance_type="analytic")
    assert "diffusion_steps" in refusal(lambda: list(engine.run(request)))


def test_mixing_bare_pixels_visits_nothing(engine):
    request = InterpolateRequest(**TINY, diffusion_steps=0, **ENDS)
    assert visited(request, engine.model("tiny-8")) == []
    assert visits(request, engine.model("tiny-8")) == "no t"


@pytest.mark.parametrize(
    ("steps", "spacing", "words"),
    [
        (50, "trailing", "t = 1000, 980, …, 20 (50 of 1000, trailing)"),
        (50, "auto", "t = 981, 961, …, 1 (50 of 1000, leading)"),
        (3, "linspace", "t = 1000, 501, 1 (3 of 1000, linspace)"),
        (1000, "leading", "t = 1000, 999, …, 1 (1000 of 1000, leading)"),
    ],
)
def test_they_are_told_in_words(engine, steps, spacing, words):
    request = SampleRequest(model="tiny-8", num_inference_steps=steps, timestep_spacing=spacing)
    assert visits(request, engine.model("tiny-8")) == words
