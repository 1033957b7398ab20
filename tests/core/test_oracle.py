import pytest
import torch
from torch.distributions import Normal

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.oracle import image_set_denoiser, normal_denoiser
from ddpm_app.core.schedules import linear_betas

DIFFUSION = GaussianDiffusion(linear_betas(1000))
T_OF_EACH = torch.tensor([0, 40, 300, 700, 999])


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


IMAGES = randn(4, 2, 3, 3, seed=0).tanh()
NOISE = randn(5, 2, 3, 3, seed=1)
X_T = DIFFUSION.q_sample(IMAGES[[0, 1, 2, 3, 0]], T_OF_EACH, NOISE)


def expected_x0(denoiser, x_t, t):
    return DIFFUSION.predict_x0(x_t, t, denoiser(x_t, t))


def signal_and_deviation(t):
    alpha_bar = DIFFUSION.alphas_cumprod[t]
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def test_the_image_set_oracle_is_bayes_rule_over_the_images():
    x0 = expected_x0(image_set_denoiser(DIFFUSION, IMAGES), X_T, T_OF_EACH)
    for k, t in enumerate(T_OF_EACH):
        signal, deviation = signal_and_deviation(t)
        evidence = torch.stack([Normal(signal * image, deviation).log_prob(X_T[k]).sum() for image in IMAGES])
        weights = (evidence - evidence.logsumexp(0)).exp()
        brute = sum(weight * image for weight, image in zip(weights, IMAGES, strict=True))
        # float64 all the way; eps to x0-hat divides by sqrt(alpha-bar), 1/157 at the end
        torch.testing.assert_close(x0[k], brute, rtol=0, atol=1e-12)


def test_the_normal_oracle_is_the_integral_over_all_pixel_values():
    mean, std = 0.2, 0.4
    x0 = expected_x0(normal_denoiser(DIFFUSION, mean, std), X_T, T_OF_EACH)
    values = torch.linspace(mean - 10 * std, mean + 10 * std, 8001, dtype=torch.float64)
    for k, t in enumerate(T_OF_EACH):
        signal, deviation = signal_and_deviation(t)
        pixels = X_T[k].flatten()[:, None]
        log_joint = Normal(signal * values, deviation).log_prob(pixels) - ((values - mean) / std) ** 2 / 2
        brute = (torch.softmax(log_joint, 1) @ values).view_as(X_T[k])
        # the grid is 10 times finer than the sharpest likelihood, where sums of normals are exact
        torch.testing.assert_close(x0[k], brute, rtol=0, atol=1e-12)


def test_the_normal_oracle_takes_a_mean_for_each_pixel():
    means = IMAGES[0]
    x0 = expected_x0(normal_denoiser(DIFFUSION, means, 0.4), X_T, T_OF_EACH)
    for c, i, j in [(0, 0, 0), (1, 2, 1)]:
        alone = expected_x0(normal_denoiser(DIFFUSION, means[c, i, j].item(), 0.4), X_T, T_OF_EACH)
        torch.testing.assert_close(x0[:, c, i, j], alone[:, c, i, j])


def test_where_the_noise_ends_the_oracle_sees_the_image_itself():
    x_0, t = IMAGES, torch.zeros(4, dtype=torch.int64)
    x_t = DIFFUSION.q_sample(x_0, t, NOISE[:4])
    # the next image lies a hundred deviations away, so its weight is 0 in float64
    pred_x0 = expected_x0(image_set_denoiser(DIFFUSION, IMAGES), x_t, t)
    torch.testing.assert_close(pred_x0, x_0, rtol=0, atol=1e-12)


def test_the_mean_of_normal_data_is_all_that_is_left_at_the_mean_of_x_t():
    x_t = DIFFUSION.q_sample(torch.full_like(NOISE, 0.2), T_OF_EACH, torch.zeros_like(NOISE))
    eps = normal_denoiser(DIFFUSION, 0.2, 0.4)(x_t, T_OF_EACH)
    torch.testing.assert_close(eps, torch.zeros_like(eps), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "denoiser",
    [image_set_denoiser(DIFFUSION, IMAGES), normal_denoiser(DIFFUSION, 0.2, 0.4)],
    ids=["set", "normal"],
)
def test_an_oracle_answers_each_image_at_its_own_timestep_in_the_dtype_of_the_image(denoiser):
    together = denoiser(X_T.float(), T_OF_EACH)
    assert together.dtype == torch.float32
    for k in range(5):
        alone = denoiser(X_T[k : k + 1].float(), T_OF_EACH[k : k + 1])
        # eps at t = 0 divides float32 rounding by sqrt(1 - alpha-bar) = 0.01
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=5e-5)
