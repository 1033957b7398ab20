from dataclasses import replace

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.oracle import normal_denoiser
from ddpm_app.core.schedules import linear_betas
from ddpm_app.engine import (
    BranchRequest,
    Cancelled,
    CancelToken,
    Engine,
    Fork,
    InterpolateRequest,
    LikelihoodRequest,
    Limits,
    SampleRequest,
    SlerpRequest,
    StochasticRequest,
)
from ddpm_app.engine.analytic import DRAWN_IN, MOST, GammaRequest, informed, measure, measuring_calls
from ddpm_app.engine.procedures import sample
from ddpm_app.engine.requests import REVERSE_VARIANCES
from ddpm_app.models import Measured, Model
from tests.doubles import refusal, save_pipeline, tiny_network

ASKED = SampleRequest(
    model="tiny-8", sampler="ddpm", variance_type="analytic", num_inference_steps=6, num_images=2, seed=3
)
MEAN, STD = 0.1, 0.25
PICTURE = torch.randint(256, (3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def exact(prediction_type: str) -> Model:
    """A perfect network for normal pixels, that predicts what is asked for."""
    diffusion = GaussianDiffusion(linear_betas(1000), prediction_type, clip_denoised=False)  # type: ignore[arg-type]
    denoiser = normal_denoiser(diffusion, MEAN, STD)
    return Model("exact", denoiser, diffusion, (1, 32, 32), torch.device("cpu"), "closed form", 0)


def last(engine: Engine, request: SampleRequest = ASKED, token: CancelToken | None = None):
    *_, frame = engine.run(request, token)
    return frame


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction", "posterior_mean"])
def test_on_normal_data_it_is_the_variance_of_the_true_reverse_step(prediction_type):
    model = exact(prediction_type)
    wanted = replace(ASKED, num_inference_steps=20)
    chain = informed(wanted, model).diffusion.with_variance("analytic").respaced(20)
    before = chain.alphas_cumprod_prev * STD**2 + 1 - chain.alphas_cumprod_prev
    after = chain.alphas_cumprod * STD**2 + 1 - chain.alphas_cumprod
    truth = before - chain.alphas * before**2 / after  # x_{t-1} and x_t are jointly normal
    torch.testing.assert_close(chain.analytic_variance, truth, rtol=0.03, atol=0)
    assert (chain.posterior_variance / truth)[:4].max() < 0.9  # beta-tilde is not nearly as close


def test_samples_with_it_have_the_spread_of_the_data_where_the_others_miss_it():
    def deviation(kind):
        model, wanted = exact("epsilon"), replace(ASKED, variance_type=kind, num_inference_steps=5)
        *_, frame = sample(wanted, informed(wanted, model))
        return frame.x_t.std().item()

    assert deviation("fixed_small") < 0.6 * STD
    assert deviation("analytic") == pytest.approx(STD, rel=0.05)
    assert deviation("fixed_large") > 1.5 * STD


def test_the_same_seed_draws_the_same_images_whoever_asked_first(engine, tiny_pipeline):
    first = last(engine)
    assert torch.equal(last(engine).x_t, first.x_t)
    other = Engine("cpu", tiny_pipeline.parent)
    last(other, replace(ASKED, num_inference_steps=4, seed=8))
    torch.testing.assert_close(last(other).x_t, first.x_t, rtol=0, atol=1e-5)
    assert not torch.allclose(last(other, replace(ASKED, variance_type="fixed_small")).x_t, first.x_t)


def test_an_image_is_the_same_alone_and_in_a_batch(engine):
    both = last(engine)
    alone = last(engine, replace(ASKED, seed=ASKED.seed + 1, num_images=1))
    torch.testing.assert_close(alone.x_t[0], both.x_t[1], rtol=0, atol=1e-5)


def test_it_is_measured_once_and_at_the_visited_timesteps_alone(engine, watch):
    calls = []
    watch(lambda x_t, t: calls.append((len(x_t), set(t.tolist()))))
    progress = list(engine.measuring(ASKED))
    assert progress == [(k, DRAWN_IN + 6) for k in range(1, DRAWN_IN + 7)]
    assert {count for count, _ in calls} == {MOST}
    visited = set(engine.model("tiny-8").diffusion.respaced(6).timesteps.tolist())
    assert set().union(*(t for _, t in calls[-6:])) == visited
    calls.clear()
    assert list(engine.measuring(ASKED)) == []
    last(engine)
    assert [count for count, _ in calls] == [2] * 6
    assert len(list(engine.measuring(replace(ASKED, num_inference_steps=7)))) < DRAWN_IN


@pytest.mark.parametrize("sampler", ["ddim", "langevin", "sde-dpmsolver++"])
def test_nothing_is_measured_for_a_sampler_that_has_no_such_choice(engine, sampler):
    request = replace(ASKED, sampler=sampler)
    assert list(engine.measuring(request)) == []
    assert measuring_calls(engine.model("tiny-8"), request) == 0
    plain = last(engine, replace(request, variance_type="auto"))
    assert torch.equal(last(engine, request).x_t, plain.x_t)


DDPM = {"model": "tiny-8", "sampler": "ddpm", "num_inference_steps": 5, "num_images": 2}


@pytest.mark.parametrize(
    "request_",
    [
        StochasticRequest(**DDPM, variance_type="analytic", diffusion_steps=333),
        StochasticRequest(**DDPM, variance_type="analytic", diffusion_steps=333, picture=PICTURE),
        InterpolateRequest(**DDPM, variance_type="analytic", picture_a=PICTURE, picture_b=255 - PICTURE),
        SlerpRequest(**DDPM, variance_type="analytic"),
        BranchRequest(**DDPM, variance_type="analytic", forks=(Fork(801, 4),), diffusion_steps=401),
    ],
    ids=lambda request: type(request).__name__,
)
def test_every_procedure_takes_it(engine, request_):
    assert last(engine, request_).x_t.isfinite().all()
    assert list(engine.measuring(request_)) == []


def test_a_model_that_learned_the_variances_of_single_steps_may_take_it_in_few(tmp_path):
    save_pipeline(tmp_path / "single", tiny_network(out_channels=6), variance_type="learned")
    engine = Engine("cpu", tmp_path)
    assert last(engine, replace(ASKED, model="single")).x_t.isfinite().all()


def test_a_stop_ends_the_measuring_and_what_was_found_is_kept(engine, watch):
    token, calls = CancelToken(), []

    def stop(x_t, t):
        calls.append(1)
        if len(calls) == DRAWN_IN + 2:
            token.cancel()

    watch(stop)
    with pytest.raises(Cancelled):
        list(engine.run(ASKED, token))
    assert DRAWN_IN + 2 <= len(calls) <= DRAWN_IN + 3
    assert engine.active_runs == 0
    assert len(list(engine.measuring(ASKED))) <= 5


def test_a_public_page_counts_what_is_measured_until_it_is_known(tiny_pipeline, watch):
    calls = []
    watch(lambda x_t, t: calls.append(len(x_t)))
    public = Engine("cpu", tiny_pipeline.parent, Limits(("tiny-8",), 1e12, 60))
    model = public.model("tiny-8")
    told = ASKED.network_calls + measuring_calls(model, ASKED)
    budget = 1e12 * public.limits.share(told, model)
    close = Engine("cpu", tiny_pipeline.parent, Limits(("tiny-8",), 0.9 * budget, 60))
    assert "times the work" in refusal(lambda: list(close.measuring(ASKED)))
    assert "times the work" in refusal(lambda: last(close))
    assert calls == []
    last(public)
    assert sum(calls) == told
    assert measuring_calls(model, ASKED) == 0


def test_what_another_process_measured_is_taken_over():
    model = exact("epsilon")
    *_, report = measure(GammaRequest(model="exact", timesteps=(0, 500)), model)
    own = Measured(gamma={0: 0.5})
    own.learn(report.measured)
    assert own.pictures is report.measured.pictures
    assert own.gamma == {0: 0.5, 500: report.measured.gamma[500]}


def test_it_is_offered_for_sampling_and_no_bound_takes_it():
    assert "analytic" in REVERSE_VARIANCES
    sentence = refusal(lambda: LikelihoodRequest(picture=PICTURE, variance_type="analytic"))
    assert "fixed_small" in sentence
