import pytest
import torch

from ddpm_app.core.images import from_uint8
from ddpm_app.core.likelihood import prior_bpd, vb_bpd
from ddpm_app.core.samplers import generators
from ddpm_app.engine import BoundsRequest, Cancelled, CancelToken, Engine, VarianceRequest
from ddpm_app.engine.improved import spread, variance_types
from ddpm_app.engine.procedures import NOISE_STREAM
from tests.doubles import refusal, save_pipeline, tiny_network

T = 40


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A model that gives a range of variances, and one that does not."""
    folder = tmp_path_factory.mktemp("checkpoints")
    two = {"out_channels": 6}
    save_pipeline(
        folder / "learned", tiny_network(**two), num_train_timesteps=T, variance_type="learned_range"
    )
    save_pipeline(folder / "fixed", tiny_network(), num_train_timesteps=T)
    return Engine("cpu", folder)


@pytest.fixture(scope="module")
def pictures():
    pixels = torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return tuple(pixels)


def noise_of(seed, shape):
    return torch.randn(shape, generator=generators([seed ^ NOISE_STREAM])[0])


def test_v_is_what_the_network_says(engine, pictures):
    request = VarianceRequest(model="learned", pictures=pictures, num_timesteps=10, seed=4)
    reports = list(engine.measure(request))
    last, model = reports[-1], engine.model("learned")
    assert last.timesteps == tuple(spread(T, 10))
    assert [report.step for report in reports] == list(range(1, len(last.timesteps) + 1))
    d = model.diffusion
    for place, t in enumerate(last.timesteps):
        x_t = d.q_sample(from_uint8(torch.stack(pictures)), torch.full((2,), t), noise_of(4, (2, 3, 8, 8)))
        v = (model.denoiser(x_t, torch.full((2,), t))[:, 3:].double() + 1) / 2
        assert last.v[place] == pytest.approx(v.mean().item(), abs=1e-4)
        low, high = v.flatten().sort().values[[19, 364]].tolist()  # 5 % and 95 % of 384 values
        assert last.v_low[place] == pytest.approx(low, abs=1e-2)
        assert last.v_high[place] == pytest.approx(high, abs=1e-2)
        assert last.v_low[place] < last.v[place] < last.v_high[place]
        small, large = d.posterior_log_variance_clipped[t].item(), d.betas[t].log().item()
        expected = last.v[place] * large + (1 - last.v[place]) * small
        assert last.log_variance[place] == pytest.approx(expected, abs=1e-4)


def test_a_model_that_learned_its_variance_keeps_it_between_its_bounds():
    engine = Engine("cpu")
    own = torch.rand((2, 1, 28, 28), generator=torch.Generator().manual_seed(1)).mul(255).to(torch.uint8)
    request = VarianceRequest(model="mnist-28-hybrid", pictures=tuple(own), num_timesteps=4)
    *_, last = engine.measure(request)
    assert all(-0.1 < v < 1.1 for v in last.v)  # nothing holds v there but its training
    d = engine.model("mnist-28-hybrid").diffusion
    for t, log_variance in zip(last.timesteps, last.log_variance, strict=True):
        small, large = d.posterior_log_variance_clipped[t].item(), d.betas[t].log().item()
        assert (
            small - 0.1 * abs(large - small) - 1e-3 < log_variance < large + 0.1 * abs(large - small) + 1e-3
        )


def test_without_a_learned_range_there_is_no_v(engine, pictures):
    sentence = refusal(lambda: list(engine.measure(VarianceRequest(model="fixed", pictures=pictures))))
    assert "fixed_small" in sentence
    assert variance_types(engine.model("fixed")) == ["fixed_small", "fixed_large"]
    assert variance_types(engine.model("learned")) == ["fixed_small", "fixed_large", "learned_range"]


def test_with_all_steps_the_bound_is_the_plain_one(engine, pictures):
    """Every term by hand, one at a time, on the same noise."""
    request = BoundsRequest(model="learned", picture=pictures[0], steps=(10, T), seed=6)
    *_, last = engine.measure(request)
    assert (last.step, last.num_steps) == (10 + T, 10 + T)
    found = {(bound.num_inference_steps, bound.variance_type): bound for bound in last.bounds}
    model, x_0 = engine.model("learned"), from_uint8(pictures[0])[None]
    (source,) = generators([6 ^ NOISE_STREAM])
    noise = torch.cat([torch.randn(size, 3, 8, 8, generator=source) for size in (16, 16, 8)])
    for kind in ("fixed_small", "fixed_large", "learned_range"):
        plain = model.diffusion.with_variance(kind)
        with torch.inference_mode():
            terms = [
                vb_bpd(plain, model.denoiser, x_0, torch.tensor([i]), noise[i : i + 1]).item()
                for i in range(T)
            ]
        bound = found[T, kind]
        assert bound.decoder_bpd == pytest.approx(terms[0], rel=1e-4)
        assert bound.vb_bpd == pytest.approx(sum(terms[1:]), rel=1e-4)
        assert bound.prior_bpd == pytest.approx(prior_bpd(plain, x_0).item())
        assert bound.bits_per_dim == pytest.approx(sum(terms) + bound.prior_bpd, rel=1e-4)
        assert found[10, kind].bits_per_dim != bound.bits_per_dim
    assert len({round(found[10, kind].vb_bpd, 6) for _, kind in found}) == 3


def test_bounds_arrive_one_number_of_steps_after_another_and_can_be_stopped(engine, pictures):
    token = CancelToken()
    seen = []

    def measured():
        for report in engine.measure(BoundsRequest(model="fixed", picture=pictures[0], steps=(5, 20)), token):
            seen.append(len(report.bounds))
            if seen[-1] == 2:
                token.cancel()

    with pytest.raises(Cancelled):
        measured()
    assert seen == [0, 2]
    assert engine.active_runs == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"steps": ()}, "at least one"),
        ({"steps": (5, float("nan"))}, "steps must be a whole number in 1.."),
        ({"seed": -1}, "seed must be"),
        ({"precision": "half"}, "exact, fast"),
        ({"picture": None}, "picture must be"),
    ],
)
def test_a_bound_that_cannot_be_measured_is_refused(pictures, values, said):
    assert said in refusal(lambda: BoundsRequest(**({"picture": pictures[0]} | values)))


@pytest.mark.parametrize(
    ("values", "said"),
    [({"pictures": ()}, "1 to 64"), ({"num_timesteps": 1}, "2.."), ({"seed": 0.5}, "seed")],
)
def test_variances_that_cannot_be_measured_are_refused(pictures, values, said):
    assert said in refusal(lambda: VarianceRequest(**({"pictures": pictures} | values)))


@pytest.mark.parametrize(("length", "count"), [(1000, 50), (40, 10), (10, 50), (1, 2)])
def test_the_timesteps_measured_increase_within_the_chain_and_have_both_ends(length, count):
    timesteps = spread(length, count)
    assert timesteps == sorted(set(timesteps))
    assert (timesteps[0], timesteps[-1]) == (0, length - 1)
    assert min(length, count) // 2 <= len(timesteps) <= count + 1


def test_a_number_of_steps_that_the_chain_has_not_is_refused_before_the_others_are_walked(engine, pictures):
    reports = engine.measure(BoundsRequest(model="fixed", picture=pictures[0], steps=(4, 10_000)))
    assert "num_inference_steps must lie in" in refusal(lambda: next(reports))
