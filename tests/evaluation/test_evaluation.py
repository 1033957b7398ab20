import statistics

import pytest
import torch

from ddpm_app.engine import CompressionRequest, Engine, LikelihoodRequest, SampleRequest
from ddpm_app.evaluation import compare_with_diffusers, negative_log_likelihood, rate_distortion
from tests.doubles import refusal, save_pipeline, tiny_network

PICTURES = torch.randint(256, (4, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_the_mean_is_that_of_the_pictures_each_with_its_own_seed():
    engine = Engine("cpu")
    reports = list(negative_log_likelihood(engine, PICTURES, "exact-normal", 6, seed=3))
    assert [report.num_images for report in reports] == [1, 2, 3, 4]
    singles = []
    for k, picture in enumerate(PICTURES):
        *_, last = engine.likelihood(
            LikelihoodRequest(model="exact-normal", picture=picture, num_terms=6, seed=3 + k)
        )
        singles.append(last.bits_per_dim)
    assert reports[-1].bits_per_dim == pytest.approx(statistics.fmean(singles))
    assert reports[-1].standard_error == pytest.approx(statistics.stdev(singles) / 2)
    parts = reports[-1].prior_bpd + reports[-1].vb_bpd + reports[-1].decoder_bpd
    assert reports[-1].bits_per_dim == pytest.approx(parts)
    assert engine.active_runs == 0


def test_the_curve_over_a_data_set_is_the_mean_of_those_measured_at_each_time():
    *_, report = negative_log_likelihood(Engine("cpu"), PICTURES[:2], "exact-normal", 1000)
    assert list(report.terms) == list(range(1000))
    assert report.terms[0] == pytest.approx(report.decoder_bpd)
    assert sum(report.terms.values()) == pytest.approx(report.vb_bpd + report.decoder_bpd)


def test_the_rows_of_table_4_are_means_over_pictures_each_with_its_own_seed():
    engine = Engine("cpu")
    *_, report = rate_distortion(engine, PICTURES[:2], "exact-normal", 150, seed=3)
    singles = []
    for k in range(2):
        *_, last = engine.compress(
            CompressionRequest(model="exact-normal", picture=PICTURES[k], num_terms=150, seed=3 + k)
        )
        singles.append({last.reverse_steps(each): each for each in last.received})
    assert [row.reverse_steps for row in report.rows] == list(range(1000, 0, -100))
    for row in report.rows:
        a, b = (single[row.reverse_steps] for single in singles)
        assert row.rate_bpd == pytest.approx((a.rate_bpd + b.rate_bpd) / 2)
        assert row.rmse == pytest.approx((a.rmse + b.rmse) / 2)
        assert row.rmse_standard_error == pytest.approx(abs(a.rmse - b.rmse) / 2)
    assert report.decoder_bpd == pytest.approx(statistics.fmean(single[1000].term_bpd for single in singles))
    assert engine.active_runs == 0


def test_pictures_of_the_largest_seeds_are_sent_too():
    *_, report = rate_distortion(Engine("cpu"), PICTURES[:2], "exact-normal", 2, seed=2**63 - 1)
    assert report.num_images == 2


def test_the_variance_and_the_precision_asked_for_are_used():
    engine = Engine("cpu")

    def bits(**settings):
        (report,) = negative_log_likelihood(engine, PICTURES[:1], "exact-normal", 6, **settings)
        return report.bits_per_dim

    assert bits(variance_type="fixed_small") != bits(variance_type="fixed_large")
    assert bits(precision="fast") == bits()  # a closed form has one precision
    assert "exact, fast" in refusal(lambda: bits(precision="half"))
    assert "fixed_small" in refusal(lambda: bits(variance_type="large"))


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_the_engine_and_diffusers_draw_the_same_pictures(tmp_path, sampler, prediction_type):
    save_pipeline(tmp_path / "tiny", tiny_network(), prediction_type=prediction_type)
    request = SampleRequest(
        model="tiny", sampler=sampler, num_inference_steps=5, num_images=2, eta=0.5, seed=3
    )
    report = compare_with_diffusers(Engine("cpu", tmp_path), request, rounds=2)
    assert report.largest_difference <= 1
    assert (report.num_images, report.num_inference_steps) == (2, 5)
    assert report.ratio > 0


def test_only_what_diffusers_can_do_too_is_compared(tiny_pipeline):
    engine = Engine("cpu", tiny_pipeline.parent)

    def compared(model, steps):
        return compare_with_diffusers(engine, SampleRequest(model=model, num_inference_steps=steps), 1)

    assert "no weights" in refusal(lambda: compared("exact-normal", 10))
    assert "divide 1000" in refusal(lambda: compared("tiny-8", 30))
    assert engine.active_runs == 0
