import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.oracle import normal_denoiser
from ddpm_app.core.samplers import ddim, ddpm, generators, reverse
from tests.core.rules import BETAS, SHAPE, TRAINED, every_rule, final, randn

DENOISER = normal_denoiser(TRAINED, 0.2, 0.5)  # pixel by pixel, so no batch can change an image


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
