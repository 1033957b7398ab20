"""The bound and the lossy code of one picture, where theory knows their expectation over the noise."""

import math
from itertools import pairwise

import pytest
import torch

from ddpm_app.core.images import from_uint8, to_uint8
from ddpm_app.core.likelihood import prior_bpd
from ddpm_app.engine import CompressionRequest, Engine, LikelihoodRequest
from ddpm_app.models import load_model
from ddpm_app.models.exact import shape_pictures
from tests.doubles import refusal, save_pipeline, tiny_network

MEAN, STD = 0.1, 0.25  # of exact-normal
NOISE = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NORMAL = to_uint8(MEAN + STD * NOISE)
CHAIN = load_model("exact-normal", "cpu").diffusion.with_variance("fixed_large")


def likelihood(engine, **settings):
    *_, last = engine.likelihood(LikelihoodRequest(**{"model": "exact-normal", "picture": NORMAL} | settings))
    return last


def compressed(engine, **settings):
    *_, last = engine.compress(CompressionRequest(**{"model": "exact-normal", "picture": NORMAL} | settings))
    return last


def theory():
    """Expectation and variance over the noise of each L_{t-1} of NORMAL at t = 1, 2, ... (999,)."""
    alpha_bar, snr = (table[1:, None] for table in (CHAIN.alphas_cumprod, CHAIN.snr))
    shrunk = 1 / (1 + STD**2 * snr)
    known = shrunk * (from_uint8(NORMAL).double().flatten() - MEAN)  # x_0 - x0-hat = known - noisy * noise
    noisy = (1 - shrunk) * ((1 - alpha_bar) / alpha_bar).sqrt()
    weight = CHAIN.posterior_mean_coef1[1:] ** 2 / CHAIN.betas[1:] / 2 / math.log(2)
    ratio = CHAIN.posterior_variance[1:] / CHAIN.betas[1:]
    mean = weight * (known**2 + noisy**2).mean(1) + (ratio - 1 - ratio.log()) / 2 / math.log(2)
    variance = weight**2 * (4 * known**2 * noisy**2 + 2 * noisy**4).sum(1) / NORMAL.numel() ** 2
    return mean, variance


def test_reports_grow_until_every_term_asked_for_is_measured(engine):
    request = LikelihoodRequest(model="exact-normal", picture=NORMAL, num_terms=20)
    reports = list(engine.likelihood(request))
    assert len(reports) > 5
    for before, after in pairwise(reports):
        assert after.timesteps[: before.step] == before.timesteps
        assert after.terms[: before.step] == before.terms
    last = reports[-1]
    assert last.step == last.num_steps == len(last.terms) == len(set(last.timesteps))
    assert last.decoder_bpd == last.terms[0]
    assert last.bits_per_dim == last.prior_bpd + last.vb_bpd + last.decoder_bpd
    assert engine.active_runs == 0


def test_measuring_all_terms_is_exact_and_a_few_terms_agree_within_their_error(engine):
    whole, part = (likelihood(engine, num_terms=terms, variance_type="fixed_large") for terms in (1000, 50))
    assert whole.standard_error == 0
    assert sorted(whole.timesteps) == list(range(1000))
    assert whole.vb_bpd == pytest.approx(sum(whole.terms[1:]))
    assert part.vb_bpd == pytest.approx(whole.vb_bpd, abs=4 * part.standard_error + 0.1)
    # 7.04 bits/dim is the entropy of this data; see test_likelihood in core
    assert 6.7 < whole.bits_per_dim < 7.7


@pytest.mark.slow
def test_the_error_of_several_draws_holds_the_noise_where_no_timestep_is_left_out(engine):
    reports = [
        likelihood(engine, num_terms=1000, num_draws=2, variance_type="fixed_large", seed=seed)
        for seed in range(8)
    ]
    found = [(each.vb_bpd, each.vb_error, each.decoder_bpd, each.decoder_error) for each in reports]
    sums, errors, decoders, decoder_errors = torch.tensor(found, dtype=torch.float64).T
    variance = theory()[1].sum().item() / 2
    assert errors.square().mean().item() == pytest.approx(variance, rel=0.5)
    # 8 repeats leave a quarter of sampling error
    assert sums.std().item() == pytest.approx(variance**0.5, rel=0.75)
    assert decoder_errors.square().mean().item() ** 0.5 == pytest.approx(decoders.std().item(), rel=0.75)
    assert reports[0].standard_error == pytest.approx(math.hypot(errors[0], decoder_errors[0]))


def test_the_bound_depends_on_its_seed_alone(engine):
    def bits(seed):
        return likelihood(engine, num_terms=10, seed=seed).bits_per_dim

    assert bits(1) == bits(1) != bits(2)


def test_a_picture_of_another_shape_and_a_variance_that_is_not_there_are_refused(engine):
    colour = torch.zeros(3, 16, 16, dtype=torch.uint8)
    assert "(1, 16, 16)" in refusal(lambda: likelihood(engine, picture=colour))
    learned = {"model": "tiny-8", "picture": colour[:, :8, :8], "variance_type": "learned_range"}
    assert "fixed_small or fixed_large" in refusal(lambda: likelihood(engine, **learned))
    assert engine.active_runs == 0


def test_the_whole_chain_measures_what_theory_expects_of_this_very_picture(engine):
    mean, variance = theory()
    report = likelihood(engine, num_terms=1000, variance_type="fixed_large")
    off = (
        torch.tensor(sorted(zip(report.timesteps, report.terms, strict=True)), dtype=torch.float64)[1:, 1]
        - mean
    )
    scores = off / variance.sqrt()
    # a square of a normal is skewed at the few largest t alone
    assert scores.abs().max() < 6
    assert scores.mean().abs() < 4 / 999**0.5
    assert scores.std().item() == pytest.approx(1, abs=0.1)
    assert report.vb_bpd == pytest.approx(mean.sum().item(), abs=4 * variance.sum().sqrt().item())
    assert report.standard_error == 0


def test_a_subsample_agrees_with_the_whole_chain_within_its_standard_error(engine):
    truth, repeats = theory()[0].sum().item(), 30
    reports = [
        likelihood(engine, num_terms=30, variance_type="fixed_large", seed=seed) for seed in range(repeats)
    ]
    assert all(report.step == report.num_steps < 32 for report in reports)
    found = [(report.vb_bpd, report.standard_error) for report in reports]
    sums, errors = torch.tensor(found, dtype=torch.float64).T
    deviation = sums.std().item()
    assert sums.mean().item() == pytest.approx(truth, abs=4 * deviation / repeats**0.5)
    # 30 repeats leave an eighth of sampling error
    assert errors.square().mean().item() ** 0.5 == pytest.approx(deviation, rel=0.4)


@pytest.mark.parametrize("num_terms", [10, 1000])
def test_the_bits_of_the_pixels_sum_to_the_bound(engine, num_terms):
    reports = list(
        engine.likelihood(LikelihoodRequest(model="exact-shapes", picture=shape(0), num_terms=num_terms))
    )
    for report in (reports[0], reports[-1]):
        assert report.bits_per_pixel.shape == (32, 32)
        assert (report.bits >= 0).all()
        assert report.bits_per_pixel.sum().item() / (3 * 32 * 32) == pytest.approx(
            report.bits_per_dim, rel=1e-12
        )


def test_many_draws_of_the_noise_calm_the_bits_of_every_pixel(engine):
    def bits(seed, num_draws):
        return likelihood(engine, num_terms=10, num_draws=num_draws, seed=seed).bits

    once, often = ([bits(seed, num_draws) for seed in range(8)] for num_draws in (1, 16))
    once, often = torch.stack(once).std(0).mean(), torch.stack(often).std(0).mean()
    # the terms of few timesteps stand for many others, whose choice stays a gamble
    assert often < once / 2


def shape(place):
    return to_uint8(shape_pictures()[place])


def test_terms_measured_together_are_those_measured_alone(engine, monkeypatch, watch):
    sizes = []
    watch(lambda x_t, t: sizes.append(len(x_t)))
    settings = {"model": "tiny-8", "picture": torch.full((3, 8, 8), 99, dtype=torch.uint8), "num_terms": 60}
    together = likelihood(engine, **settings)
    assert set(sizes[:-1]) == {16}
    sizes.clear()
    monkeypatch.setattr("ddpm_app.engine.likelihood.TERMS_AT_ONCE", 1)
    alone = likelihood(engine, **settings)
    assert set(sizes) == {1}
    assert together.timesteps == alone.timesteps
    assert together.terms == pytest.approx(alone.terms, rel=1e-4, abs=1e-7)


# lossy compression


def test_the_rate_grows_from_the_prior_to_the_bound(engine):
    report = compressed(engine, num_terms=1000, variance_type="fixed_large")
    first, *_, last = report.received
    assert first.t == 999
    assert first.rate_bpd == pytest.approx(prior_bpd(CHAIN, from_uint8(NORMAL)[None]).item())
    assert report.step == report.num_steps == 1000
    for before, after in pairwise(report.received):
        assert after.t < before.t
        assert after.rate_bpd >= before.rate_bpd + before.term_bpd * (1 - 1e-9)
        assert after.standard_error == 0
    assert last.t == 0
    assert report.lossless_bpd == last.rate_bpd + last.term_bpd
    assert report.reverse_steps(last) == 1000


def test_the_rate_at_every_time_is_what_theory_expects_of_this_very_picture(engine):
    mean, _ = theory()
    prior, repeats = prior_bpd(CHAIN, from_uint8(NORMAL)[None]), 12
    reports = [compressed(engine, variance_type="fixed_large", seed=seed) for seed in range(repeats)]
    assert all(report.step == report.num_steps == 150 for report in reports)
    rates = torch.tensor([[each.rate_bpd for each in report.received] for report in reports]).double()
    # mean[k] is the term at place k + 1
    expected = torch.stack([prior[0] + mean[each.t :].sum() for each in reports[0].received])
    scores = (rates.mean(0) - expected)[1:] / (rates.std(0)[1:] / repeats**0.5)
    assert rates[:, 0].tolist() == pytest.approx([prior.item()] * repeats)
    assert scores.abs().max() < 6  # Student, 11 degrees of freedom, 43 of them


def test_a_picture_that_the_model_knows_arrives_whole_and_is_at_first_the_mean_of_all(engine):
    report = compressed(engine, model="exact-shapes", picture=shape(5))
    first, *_, last = report.received
    assert last.rmse < 0.3  # the levels of x_0 are rounded, those of the model are not
    assert (last.picture.int() - shape(5)).abs().max() <= 1
    mean = shape_pictures().mean(0)
    assert (first.picture.int() - to_uint8(mean)).abs().float().mean() < 2
    away = (from_uint8(shape(5)) - mean).square().mean().sqrt().item() * 127.5
    assert first.rmse == pytest.approx(away, rel=0.05)
    # which of sixteen pictures it is takes four bits, and more for a variance that does not know
    chosen = next(each for each in report.received if each.rmse < 1)
    assert 1 < chosen.rate_bpd * 3 * 32 * 32 < 12


def test_a_transmission_depends_on_its_seed_alone(engine):
    def rates(seed):
        return [each.rate_bpd for each in compressed(engine, seed=seed).received]

    assert rates(1) == rates(1) != rates(2)


def test_learned_variances_are_measured_in_both(tmp_path):
    save_pipeline(tmp_path / "hybrid", tiny_network(out_channels=6), variance_type="learned_range")
    engine, picture = Engine("cpu", tmp_path), torch.full((3, 8, 8), 99, dtype=torch.uint8)

    def costs(variance_type):
        settings = {"model": "hybrid", "picture": picture, "variance_type": variance_type, "num_terms": 200}
        return likelihood(engine, **settings), compressed(engine, **settings).lossless_bpd

    (learned, sent), (fixed, sent_fixed) = costs("auto"), costs("fixed_large")
    assert math.isfinite(learned.bits_per_dim + sent)
    assert learned.bits.mean().item() == pytest.approx(learned.bits_per_dim)
    assert sent == pytest.approx(learned.bits_per_dim, rel=0.2)  # other noise
    assert learned.bits_per_dim != fixed.bits_per_dim
    assert sent != sent_fixed


def test_a_learned_full_variance_can_be_sent_too(tmp_path):
    save_pipeline(tmp_path / "full", tiny_network(out_channels=6), variance_type="learned")
    picture = torch.full((3, 8, 8), 99, dtype=torch.uint8)
    assert math.isfinite(compressed(Engine("cpu", tmp_path), model="full", picture=picture).lossless_bpd)
