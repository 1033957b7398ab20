from typing import get_args

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion, PredictionType, Spacing, VarianceType
from ddpm_app.core.losses import training_target
from ddpm_app.core.schedules import SCHEDULES, cosine_betas, linear_betas, zero_terminal_snr
from ddpm_app.errors import UserError

T = 1000
LINEAR = linear_betas(T)
PLACES = torch.tensor([0, 1, 499, 999])


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# float64 images, so that the formulas are compared and not float32's rounding
X_0, NOISE = randn(4, 3, 4, 4, seed=0).tanh(), randn(4, 3, 4, 4, seed=1)


def table(values):
    return values.view(-1, 1, 1, 1)


# the tables


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_table_is_finite_and_float64(name):
    diffusion = GaussianDiffusion(SCHEDULES[name](T).float())
    for chain in (diffusion, diffusion.respaced(30)):
        for tensor in vars(chain).values():
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                assert tensor.dtype == torch.float64
                assert tensor.isfinite().all()
                assert tensor.shape == (len(chain),)


def test_the_posterior_log_variance_at_0_is_the_value_at_1():
    diffusion = GaussianDiffusion(LINEAR)
    clipped = diffusion.posterior_log_variance_clipped
    assert diffusion.posterior_variance[0] == 0
    assert clipped[0] == clipped[1] == diffusion.posterior_variance[1].log()
    assert torch.equal(clipped[1:], diffusion.posterior_variance[1:].log())


def test_snr_is_the_ratio_of_the_variances_of_signal_and_noise():
    diffusion = GaussianDiffusion(LINEAR)
    assert diffusion.snr[0].item() == pytest.approx(0.9999 / 0.0001)
    assert (diffusion.snr.diff() < 0).all()


# q


def test_q_sample_has_the_mean_and_variance_of_single_steps_taken_one_after_the_other():
    signal, variance, steps = 1.0, 0.0, []
    for beta in LINEAR.tolist():
        signal, variance = (1 - beta) ** 0.5 * signal, (1 - beta) * variance + beta
        steps.append((signal, variance))
    signal, variance = torch.tensor(steps, dtype=torch.float64)[PLACES].T
    x_t = GaussianDiffusion(LINEAR).q_sample(X_0, PLACES, NOISE)
    torch.testing.assert_close(x_t, table(signal) * X_0 + table(variance.sqrt()) * NOISE, rtol=0, atol=1e-12)


def test_predict_x0_and_predict_eps_undo_q_sample():
    diffusion = GaussianDiffusion(LINEAR)
    x_t = diffusion.q_sample(X_0, PLACES, NOISE)
    # 1 / sqrt(alpha-bar) = 157 and 1 / sqrt(1 - alpha-bar) = 100 magnify float64 rounding
    torch.testing.assert_close(diffusion.predict_x0(x_t, PLACES, NOISE), X_0, rtol=0, atol=1e-12)
    torch.testing.assert_close(diffusion.predict_eps(x_t, PLACES, X_0), NOISE, rtol=0, atol=1e-12)


def test_coefficients_are_cast_to_the_images_dtype_once_at_the_end():
    diffusion = GaussianDiffusion(LINEAR)
    x_t = diffusion.q_sample(X_0.float(), PLACES, NOISE.float())
    assert x_t.dtype == torch.float32
    # two products and a sum in float32; a float32 table of 1 - alpha-bar would be 8e-5 off at t = 0
    torch.testing.assert_close(x_t.double(), diffusion.q_sample(X_0, PLACES, NOISE), rtol=1e-6, atol=1e-6)
    noise_alone = diffusion.q_sample(torch.zeros(4, 1, 1, 1), PLACES, torch.ones(4, 1, 1, 1))
    exact = table((1 - diffusion.alphas_cumprod[PLACES]).sqrt())
    torch.testing.assert_close(noise_alone.double(), exact, rtol=1e-7, atol=0)


@pytest.mark.parametrize("steps", [1000, 30])
def test_q_posterior_is_bayes_rule(steps):
    chain = GaussianDiffusion(LINEAR).respaced(steps)
    i = torch.tensor([1, 2, steps // 2, steps - 1])
    beta, before = table(chain.betas[i]), table(chain.alphas_cumprod[i - 1])
    x_t = chain.q_sample(X_0, i, NOISE)
    # x_{t-1} ~ N(sqrt(before) x_0, 1 - before) seen through x_t ~ N(sqrt(1 - beta) x_{t-1}, beta)
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (before.sqrt() * X_0 / (1 - before) + (1 - beta).sqrt() * x_t / beta) / precision
    q = chain.q_posterior(X_0, x_t, i)
    torch.testing.assert_close(q.mean, mean, rtol=0, atol=1e-11)
    torch.testing.assert_close(q.variance, 1 / precision, rtol=1e-9, atol=0)
    torch.testing.assert_close(q.log_variance, (1 / precision).log(), rtol=1e-9, atol=0)


def test_q_posterior_at_0_is_the_image_without_variance():
    t = torch.zeros(4, dtype=torch.int64)
    q = GaussianDiffusion(LINEAR).q_posterior(X_0, NOISE, t)
    torch.testing.assert_close(q.mean, X_0, rtol=0, atol=1e-12)
    assert (q.variance == 0).all()


# p


@pytest.mark.parametrize("prediction_type", get_args(PredictionType))
@pytest.mark.parametrize("timesteps", [T, 30, 7, [0, 3, 500, 501, 999]], ids=str)
def test_every_prediction_type_leads_to_the_same_x0_hat_and_eps(prediction_type, timesteps):
    trained = GaussianDiffusion(LINEAR, prediction_type)
    chain = trained.respaced(timesteps)
    i = torch.tensor([0, 1, len(chain) // 2, len(chain) - 1])
    t = chain.timesteps[i]
    x_t = trained.q_sample(X_0, t, NOISE)
    p = chain.p_mean_variance(training_target(trained, X_0, x_t, t, NOISE), x_t, i)
    # mu-tilde's weight of x_0 is 1.3e-4 at the end of the chain: float64 rounding grows to 1e-12
    torch.testing.assert_close(p.pred_x0, X_0, rtol=0, atol=1e-10)
    torch.testing.assert_close(p.eps, NOISE, rtol=0, atol=1e-10)
    torch.testing.assert_close(p.mean, chain.q_posterior(X_0, x_t, i).mean, rtol=0, atol=1e-10)


@pytest.mark.parametrize("prediction_type", get_args(PredictionType))
def test_clipping_holds_x0_hat_within_1_and_derives_mean_and_eps_from_it(prediction_type):
    diffusion = GaussianDiffusion(LINEAR, prediction_type)
    x_0 = 3 * X_0
    x_t = diffusion.q_sample(x_0, PLACES, NOISE)
    p = diffusion.p_mean_variance(training_target(diffusion, x_0, x_t, PLACES, NOISE), x_t, PLACES)
    clipped = x_0.clamp(-1, 1)
    assert not torch.equal(clipped, x_0)
    torch.testing.assert_close(p.pred_x0, clipped, rtol=0, atol=1e-10)
    torch.testing.assert_close(p.mean, diffusion.q_posterior(clipped, x_t, PLACES).mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(diffusion.q_sample(p.pred_x0, PLACES, p.eps), x_t, rtol=0, atol=1e-10)


def test_without_clipping_x0_hat_and_eps_stay_as_predicted():
    diffusion = GaussianDiffusion(LINEAR, clip_denoised=False)
    x_0 = 3 * X_0
    p = diffusion.p_mean_variance(NOISE, diffusion.q_sample(x_0, PLACES, NOISE), PLACES)
    torch.testing.assert_close(p.pred_x0, x_0, rtol=0, atol=1e-11)
    torch.testing.assert_close(p.eps, NOISE, rtol=0, atol=1e-11)


@pytest.mark.parametrize("chains_own", [True, False])
def test_the_caller_may_overrule_whether_the_chain_clips(chains_own):
    chain = GaussianDiffusion(LINEAR, "sample", clip_denoised=chains_own)
    x_0, x_t = torch.full((1, 1, 1, 1), 3.0), torch.zeros(1, 1, 1, 1)
    t = torch.tensor([5])
    found = {clip: chain.p_mean_variance(x_0, x_t, t, clip_denoised=clip) for clip in (True, False, None)}
    assert {clip: p.pred_x0.item() for clip, p in found.items()} == {
        True: 1,
        False: 3,
        None: 1 if chains_own else 3,
    }


def test_zero_terminal_snr_is_sampled_from_its_last_timestep_by_velocity():
    diffusion = GaussianDiffusion(zero_terminal_snr(LINEAR), "v_prediction")
    x_t = diffusion.q_sample(X_0, PLACES, NOISE)
    assert torch.equal(x_t[3], NOISE[3])
    p = diffusion.p_mean_variance(diffusion.velocity(X_0, PLACES, NOISE), x_t, PLACES)
    torch.testing.assert_close(p.pred_x0, X_0, rtol=0, atol=1e-12)
    assert p.mean.isfinite().all()
    assert p.log_variance.isfinite().all()


# the variance


def log_variance(diffusion, places, output):
    x_t = torch.zeros(len(places), 1, 1, 1)
    model_output = torch.cat([x_t, torch.full_like(x_t, output)], 1)
    p = diffusion.p_mean_variance(model_output, x_t, places)
    torch.testing.assert_close(p.variance, p.log_variance.exp())
    return p.log_variance.flatten().double()


@pytest.mark.parametrize("steps", [1000, 30, 2, 1])
def test_the_fixed_variances_are_beta_tilde_and_beta_with_beta_tildes_second_value_at_0(steps):
    trained = GaussianDiffusion(LINEAR)
    chain = trained.respaced(steps)
    places = torch.arange(steps)
    # a chain of one step has no second value and falls back on beta
    first = chain.posterior_variance[1] if steps > 1 else chain.betas[0]
    for variance_type, variances in [("fixed_small", chain.posterior_variance), ("fixed_large", chain.betas)]:
        expected = torch.cat([first[None], variances[1:]]).log()
        # a float32 logarithm near -9 is good to 5e-7
        actual = log_variance(chain.with_variance(variance_type), places, 0.5)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1000, 30])
def test_the_learned_range_runs_from_beta_tilde_to_beta_in_logarithms(steps):
    chain = GaussianDiffusion(LINEAR, variance_type="learned_range").respaced(steps)
    places = torch.tensor([0, 1, steps // 2, steps - 1])
    small, large = chain.posterior_log_variance_clipped[places], chain.betas[places].log()
    # float32 logarithms, see above
    for output, expected in [(-1, small), (1, large), (0, (small + large) / 2)]:
        torch.testing.assert_close(log_variance(chain, places, output), expected, rtol=0, atol=1e-6)


def test_a_learned_log_variance_passes_through():
    diffusion = GaussianDiffusion(LINEAR, variance_type="learned")
    assert log_variance(diffusion, PLACES, -7.5).tolist() == [-7.5] * 4


@pytest.mark.parametrize("variance_type", get_args(VarianceType))
@pytest.mark.parametrize(
    "betas", [LINEAR, cosine_betas(T), zero_terminal_snr(LINEAR)], ids=["lin", "cos", "zero"]
)
def test_no_variance_type_is_ever_infinite_or_nan(variance_type, betas):
    diffusion = GaussianDiffusion(betas, "v_prediction", variance_type)
    for output in (-1, 0, 1):
        assert log_variance(diffusion, torch.arange(T), output).isfinite().all()


@pytest.mark.parametrize("variance_type", ["learned", "learned_range"])
def test_a_learned_variance_needs_twice_the_channels(variance_type):
    diffusion = GaussianDiffusion(LINEAR, variance_type=variance_type)
    with pytest.raises(UserError, match=r"twice the image's channels.*choose fixed_small or fixed_large"):
        diffusion.p_mean_variance(NOISE, NOISE, PLACES)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_fixed_variance_ignores_the_variance_a_network_learned(variance_type, channels):
    diffusion = GaussianDiffusion(LINEAR, variance_type=variance_type)
    x_t, eps = X_0[:, :channels], NOISE[:, :channels]
    with_variance = diffusion.p_mean_variance(torch.cat([eps, 100 * eps], 1), x_t, PLACES)
    without = diffusion.p_mean_variance(eps, x_t, PLACES)
    for name, value in vars(without).items():
        assert torch.equal(getattr(with_variance, name), value), name


def test_with_variance_changes_the_variance_alone():
    chain = GaussianDiffusion(
        LINEAR, "v_prediction", "fixed_large", False, timestep_spacing="trailing"
    ).respaced(30)
    other = chain.with_variance("fixed_small")
    assert other.variance_type == "fixed_small"
    assert chain.variance_type == "fixed_large"
    assert other.trained is chain.trained
    assert (other.prediction_type, other.clip_denoised, other.timestep_spacing) == (
        "v_prediction",
        False,
        "trailing",
    )
    assert torch.equal(other.timesteps, chain.timesteps)
    assert torch.equal(other.betas, chain.betas)


@pytest.mark.parametrize(
    ("argument", "allowed"),
    [("prediction_type", PredictionType), ("variance_type", VarianceType), ("timestep_spacing", Spacing)],
)
def test_an_unknown_type_raises_and_names_the_choices(argument, allowed):
    with pytest.raises(
        UserError, match=f"{argument} must be one of {', '.join(get_args(allowed))}; got 'other'"
    ):
        GaussianDiffusion(LINEAR, **{argument: "other"})


def test_an_unknown_type_raises_wherever_it_comes_in():
    diffusion = GaussianDiffusion(LINEAR)
    with pytest.raises(UserError, match="variance_type"):
        diffusion.with_variance("fixed_large_log")
    with pytest.raises(UserError, match="timestep_spacing"):
        diffusion.respaced(10, "karras")
