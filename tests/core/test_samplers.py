import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.oracle import image_set_denoiser, normal_denoiser
from ddpm_app.core.samplers import SAMPLERS, ddim, ddpm, generators, reverse
from ddpm_app.core.schedules import linear_betas

BETAS = linear_betas(1000)
TRAINED = GaussianDiffusion(BETAS)
DENOISER = normal_denoiser(TRAINED, 0.2, 0.5)  # pixel by pixel, so no batch can change an image
SHAPE = (2, 4, 4)
RULES = {**SAMPLERS, "ddim, eta 0.5": partial(ddim, eta=0.5), "ddim, eta 1": partial(ddim, eta=1.0)}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def final(chain, denoiser, rule, seeds, shape=SHAPE, **options):
    *_, last = reverse(chain, denoiser, rule, seeds, shape, **options)
    return last.x_t


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def no_draw():
    pytest.fail("a draw that was not due")


# the loop


@every_rule
@pytest.mark.parametrize("timesteps", [1, 7, [3, 500, 998]], ids=str)
def test_the_steps_are_those_of_the_chain_from_its_last_timestep_down(rule, timesteps):
    chain = TRAINED.respaced(timesteps)
    told = []

    def denoiser(x_t, t):
        told.append(t)
        return DENOISER(x_t, t)

    steps = list(reverse(chain, denoiser, rule, seeds=[0, 1], shape=SHAPE))
    downwards = chain.timesteps.tolist()[::-1]
    assert [step.t for step in steps] == downwards
    assert [step.remaining for step in steps] == list(range(len(chain)))[::-1]
    assert {(step.x_t.shape, step.pred_x0.shape) for step in steps} == {((2, *SHAPE), (2, *SHAPE))}
    assert {step.x_t.dtype for step in steps} == {torch.float32}
    # one image, one trained timestep; a solver of higher order may ask more than once a step
    assert all(t.dtype == torch.int64 and t.shape == (2,) for t in told)
    assert sorted({int(t[0]) for t in told}, reverse=True) == downwards


@every_rule
def test_the_last_step_returns_x0_hat_since_the_last_alpha_bar_is_1(rule):
    for timesteps in (10, [5, 300, 990]):
        *_, last = reverse(TRAINED.respaced(timesteps), DENOISER, rule, seeds=[3], shape=SHAPE)
        # the weights of x0-hat and x_t are 1 and 0 up to float32 rounding
        torch.testing.assert_close(last.x_t, last.pred_x0, rtol=0, atol=1e-6)


@every_rule
def test_no_noise_is_added_at_the_last_step(rule):
    chain, x_t = TRAINED.respaced([40]), torch.full((1, *SHAPE), 0.3)
    assert torch.equal(*(final(chain, DENOISER, rule, [seed], x_t=x_t) for seed in (1, 2)))


def test_ddpm_and_ddim_draw_nothing_at_the_last_place():
    x_t = torch.full((1, *SHAPE), 0.3)
    p = TRAINED.p_mean_variance(x_t, x_t, torch.zeros(1, dtype=torch.int64))
    for rule in (ddpm, ddim, partial(ddim, eta=1.0)):
        rule(TRAINED, p, x_t, 0, no_draw)


# seeds


def test_ddpm_draws_x_T_first_and_then_one_image_for_every_step_but_the_last():
    chain, source = TRAINED.respaced(12), torch.Generator("cpu").manual_seed(7)
    x_t = torch.randn(SHAPE, generator=source)[None]
    visited = chain.timesteps.tolist()
    for i, step in zip(
        reversed(range(12)), reverse(chain, DENOISER, ddpm, seeds=[7], shape=SHAPE), strict=True
    ):
        alpha_bar = TRAINED.alphas_cumprod[visited[i]].item()
        before = TRAINED.alphas_cumprod[visited[i - 1]].item() if i else 1.0
        alpha = alpha_bar / before
        eps = DENOISER(x_t, torch.tensor([visited[i]]))
        x_0 = ((x_t - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)).clamp(-1, 1)
        x_t = math.sqrt(before) * (1 - alpha) * x_0 + math.sqrt(alpha) * (1 - before) * x_t
        x_t = x_t / (1 - alpha_bar)
        if i:
            x_t = x_t + math.sqrt(1 - alpha) * torch.randn(SHAPE, generator=source)
        # float32 rounding in another order; 1 / sqrt(alpha-bar) = 130 at the first step magnifies it
        torch.testing.assert_close(step.x_t, x_t, rtol=0, atol=2e-5)
        torch.testing.assert_close(step.pred_x0, x_0, rtol=0, atol=2e-5)


@every_rule
def test_an_image_depends_on_its_own_seed_alone(rule):
    chain, seeds = TRAINED.respaced(8), list(range(100, 116))
    batch = final(chain, DENOISER, rule, seeds)
    assert torch.equal(final(chain, DENOISER, rule, seeds[::-1]), batch.flip(0))
    for place in (0, 7, 15):
        assert torch.equal(final(chain, DENOISER, rule, [seeds[place]])[0], batch[place])
    assert len(torch.unique(batch, dim=0)) == 16


@every_rule
def test_sampling_neither_reads_nor_moves_the_global_random_state(rule):
    chain, before = TRAINED.respaced(4), torch.get_rng_state()
    first = final(chain, DENOISER, rule, [5])
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.rand(3)
        assert torch.equal(final(chain, DENOISER, rule, [5]), first)


def test_a_given_x_t_takes_the_place_of_the_first_draw():
    chain, x_t = TRAINED.respaced([400, 800]), torch.full((1, *SHAPE), 0.3)
    first = next(reverse(chain, DENOISER, ddpm, seeds=[7], shape=SHAPE, x_t=x_t))
    p = chain.p_mean_variance(DENOISER(x_t, torch.tensor([800])), x_t, torch.tensor([1]))
    noise = torch.randn(SHAPE, generator=torch.Generator("cpu").manual_seed(7))
    # exp(log(variance) / 2) against sqrt(variance) in float32
    torch.testing.assert_close(first.x_t, p.mean + chain.betas[1].sqrt().float() * noise, rtol=0, atol=1e-6)


def test_a_given_x_t_is_left_as_it_was():
    x_t = torch.full((1, *SHAPE), 0.3)
    final(TRAINED.respaced(5), DENOISER, ddpm, [7], x_t=x_t)
    assert (x_t == 0.3).all()


def test_ddim_without_eta_draws_x_T_alone():
    chain = TRAINED.respaced(6)
    x_T = torch.randn(SHAPE, generator=torch.Generator("cpu").manual_seed(7))[None]
    from_x_T = final(chain, DENOISER, ddim, [8], x_t=x_T)
    assert torch.equal(final(chain, DENOISER, ddim, [7]), from_x_T)
    p = chain.p_mean_variance(x_T, x_T, torch.tensor([5]))
    ddim(chain, p, x_T, 5, no_draw)


def test_each_seed_has_a_generator_of_its_own_on_the_cpu():
    sources = generators([3, 3, 4])
    draws = [torch.randn(5, generator=source) for source in sources]
    assert {source.device.type for source in sources} == {"cpu"}
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


# threads


@every_rule
def test_each_step_may_be_taken_by_another_thread_and_inference_mode_stays_inside(rule):
    chain = TRAINED.respaced(5)
    expected = [step.x_t for step in reverse(chain, DENOISER, rule, seeds=[7], shape=SHAPE)]
    run = reverse(chain, DENOISER, rule, seeds=[7], shape=SHAPE)

    def advance():
        return next(run).x_t, torch.is_inference_mode_enabled()

    for x_t in expected:
        with ThreadPoolExecutor(1) as thread:
            reached, leaked = thread.submit(advance).result()
        assert torch.equal(reached, x_t)
        assert not leaked
    assert not torch.is_inference_mode_enabled()


def test_a_run_left_half_way_leaves_nothing_switched_on():
    run = reverse(TRAINED.respaced(5), DENOISER, ddpm, seeds=[7], shape=SHAPE)
    next(run)
    assert not torch.is_inference_mode_enabled()
    run.close()
    assert torch.ones(1, requires_grad=True).sum().requires_grad


# DDIM


@pytest.mark.parametrize("clip_denoised", [True, False])
@pytest.mark.parametrize("steps", [1000, 30])
def test_ddim_with_eta_1_has_the_mean_and_variance_of_the_posterior(clip_denoised, steps):
    diffusion = GaussianDiffusion(BETAS, variance_type="fixed_small", clip_denoised=clip_denoised)
    chain = diffusion.respaced(steps)
    x_t, eps, noise = randn(3, 1, *SHAPE).double()
    for i in (1, 2, steps // 2, steps - 1):
        p = chain.p_mean_variance(eps, x_t, torch.tensor([i]))
        q = chain.q_posterior(p.pred_x0, x_t, torch.tensor([i]))
        step = partial(ddim, chain, p, x_t, i, eta=1.0)
        # float64; unclipped x0-hat reaches hundreds
        torch.testing.assert_close(step(lambda: torch.zeros_like(noise)), q.mean, rtol=0, atol=1e-9)
        torch.testing.assert_close(step(lambda: noise), q.mean + q.variance.sqrt() * noise, rtol=0, atol=1e-9)
        ancestral = ddpm(chain, p, x_t, i, lambda: noise)
        torch.testing.assert_close(step(lambda: noise), ancestral, rtol=0, atol=1e-9)


@pytest.mark.parametrize("clip_denoised", [True, False])
def test_a_whole_run_of_ddim_with_eta_1_is_one_of_ddpm_with_the_small_variance(clip_denoised):
    diffusion = GaussianDiffusion(BETAS, variance_type="fixed_small", clip_denoised=clip_denoised)
    chain = diffusion.respaced(50)
    images = [final(chain, DENOISER, rule, [1, 2]) for rule in (ddpm, partial(ddim, eta=1.0))]
    # the same numbers in another order, in float32
    torch.testing.assert_close(*images, rtol=0, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_ddim_step_from_the_true_eps_lands_on_the_marginal_of_the_timestep_before(eta):
    # Song et al. (2020), lemma 1: whatever eta is, x_{t-1} ~ N(sqrt(alpha-bar) x_0, 1 - alpha-bar)
    chain, i = TRAINED.respaced(20), 12
    x_0, eps = randn(2, 1, *SHAPE).double().tanh()
    x_t = chain.q_sample(x_0, torch.tensor([i]), eps)
    p = chain.p_mean_variance(eps, x_t, torch.tensor([i]))
    mean = ddim(chain, p, x_t, i, lambda: torch.zeros_like(x_t), eta=eta)
    noise = ddim(chain, p, x_t, i, lambda: torch.ones_like(x_t), eta=eta) - mean
    before = chain.alphas_cumprod_prev[i]
    direction = (mean - before.sqrt() * x_0) / eps
    total = direction.square() + noise.square()
    torch.testing.assert_close(total, (1 - before).expand_as(x_t), rtol=1e-9, atol=0)


# truths


@every_rule
def test_every_sampler_recovers_the_mean_and_deviation_of_normal_data(rule):
    mean, std, num_pixels = 0.2, 0.5, 2 * 64 * 64
    diffusion = GaussianDiffusion(BETAS, clip_denoised=False)
    pixels = final(diffusion, normal_denoiser(diffusion, mean, std), rule, [0, 1], (1, 64, 64))
    # four standard errors, and 1.5 % for a thousand steps in place of infinitely many
    assert pixels.mean().item() == pytest.approx(mean, abs=4 * std / math.sqrt(num_pixels))
    assert pixels.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * num_pixels) + 0.015)


@pytest.mark.parametrize("steps", [50, 1000])
def test_ddim_on_normal_data_is_the_straight_map_its_closed_form_says(steps):
    mean, std = 0.2, 0.5
    diffusion = GaussianDiffusion(BETAS, clip_denoised=False)
    chain = diffusion.respaced(steps)
    slope, offset = 1.0, 0.0  # x_t = slope x_T + offset
    for i in reversed(range(steps)):
        alpha_bar, before = chain.alphas_cumprod[i].item(), chain.alphas_cumprod_prev[i].item()
        gain = math.sqrt(alpha_bar) * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)  # of x0-hat in x_t
        rest = mean * (1 - gain * math.sqrt(alpha_bar))
        along = math.sqrt((1 - before) / (1 - alpha_bar))
        factor = math.sqrt(before) * gain + along * (1 - math.sqrt(alpha_bar) * gain)
        slope = factor * slope
        offset = factor * offset + (math.sqrt(before) - along * math.sqrt(alpha_bar)) * rest
    x_T = randn(1, 1, 8, 8)
    x_0 = final(chain, normal_denoiser(diffusion, mean, std), ddim, [0], (1, 8, 8), x_t=x_T)
    # a thousand float32 steps
    torch.testing.assert_close(x_0, slope * x_T + offset, rtol=0, atol=1e-4)
    # and the map of normal noise to normal data is x_0 = mean + std x_T, which few steps miss by more
    assert slope == pytest.approx(std, rel=0.1 if steps == 50 else 0.005)
    assert offset == pytest.approx(mean, rel=0.02)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_ddpm_in_few_steps_has_the_deviation_its_closed_form_says(variance_type):
    std, num_pixels = 0.5, 2 * 64 * 64
    diffusion = GaussianDiffusion(BETAS, variance_type=variance_type, clip_denoised=False)
    chain = diffusion.respaced(20)
    variance = 1.0
    for i in reversed(range(20)):
        alpha_bar, before = chain.alphas_cumprod[i].item(), chain.alphas_cumprod_prev[i].item()
        beta = 1 - alpha_bar / before
        small = beta * (1 - before) / (1 - alpha_bar)
        gain = math.sqrt(alpha_bar) * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        of_x_0 = math.sqrt(before) * beta / (1 - alpha_bar)
        of_x_t = math.sqrt(1 - beta) * (1 - before) / (1 - alpha_bar)
        factor = of_x_0 * gain + of_x_t
        sigma2 = 0 if i == 0 else {"fixed_small": small, "fixed_large": beta}[variance_type]
        variance = factor**2 * variance + sigma2
    pixels = final(chain, normal_denoiser(diffusion, 0.0, std), ddpm, [0, 1], (1, 64, 64))
    # four standard errors
    assert pixels.std().item() == pytest.approx(math.sqrt(variance), rel=4 / math.sqrt(2 * num_pixels))


@every_rule
def test_every_sample_of_a_set_of_images_ends_at_one_of_them(rule):
    images = randn(3, *SHAPE).tanh()
    chain = TRAINED.respaced(40)
    samples = final(chain, image_set_denoiser(TRAINED, images), rule, range(12))
    distances = (samples[:, None] - images).abs().amax((2, 3, 4))
    # at the last steps all weight is on one image, and float32 rounding is left
    assert distances.amin(1).max() < 1e-4
    assert set(distances.argmin(1).tolist()) == {0, 1, 2}
