import math

import pytest
import torch

from ddpm_app.core.diffusion import GaussianDiffusion
from ddpm_app.core.oracle import normal_denoiser
from ddpm_app.core.samplers import ddim, reverse
from ddpm_app.core.schedules import cosine_betas, linear_betas, zero_terminal_snr
from ddpm_app.engine import SampleRequest, SlerpRequest, StochasticRequest
from ddpm_app.engine.solvers import DETERMINISTIC, SOLVERS, solver
from tests.doubles import refusal

MEAN, STD, SHAPE = 0.2, 0.5, (1, 8, 8)
TRAINED = GaussianDiffusion(linear_betas(1000), clip_denoised=False)
DENOISER = normal_denoiser(TRAINED, MEAN, STD)
every_solver = pytest.mark.parametrize("name", SOLVERS)
every_deterministic = pytest.mark.parametrize("name", sorted(DETERMINISTIC))


def final(chain, denoiser, rule, seeds=(1, 2), shape=SHAPE, **options):
    *_, last = reverse(chain, denoiser, rule, seeds, shape, **options)
    return last.x_t


def evenly_in_lambda(steps, lowest=20, highest=700):
    """`steps` timesteps, near enough uniform in log(alpha / sigma), where these solvers have their order."""
    half_log_snr = TRAINED.snr.log() / 2
    wanted = torch.linspace(half_log_snr[lowest], half_log_snr[highest], steps, dtype=torch.float64)
    return [int((half_log_snr - value).abs().argmin()) for value in wanted]


def exact(x_t, t, last):
    """The probability flow of normal data from x_t at timestep t to `last`, and E[x_0 | x] from there."""

    def moments(t):
        alpha_bar = TRAINED.alphas_cumprod[t].item()
        return math.sqrt(alpha_bar) * MEAN, math.sqrt(alpha_bar * STD**2 + 1 - alpha_bar)

    (mean, std), (mean_last, std_last) = moments(t), moments(last)
    x = mean_last + std_last * (x_t.double() - mean) / std
    signal = TRAINED.alphas_cumprod[last].sqrt().item()
    return MEAN + signal * STD**2 / std_last**2 * (x - mean_last)


def error(rule_of, steps):
    """The largest error after so many steps from one given x_t."""
    chain = TRAINED.respaced(evenly_in_lambda(steps))
    x_t = torch.linspace(-2, 2, 64).view(1, *SHAPE)
    x_0 = final(chain, DENOISER, rule_of(chain), [0], x_t=x_t)
    return (x_0 - exact(x_t, 700, 20)).abs().max().item()


@every_deterministic
def test_it_nears_the_probability_flow_with_the_square_of_its_steps(name):
    few, twice, four_times = (error(lambda chain: solver(name, chain), steps) for steps in (12, 24, 48))
    # the second order would make each 4 with steps of one size; UniPC's corrector makes it more
    assert few / twice > 3
    assert twice / four_times > 3
    first_order = [error(lambda chain: ddim, steps) for steps in (24, 48)]
    assert first_order[0] / first_order[1] == pytest.approx(2, abs=0.2)
    assert twice < first_order[0] / 20


@every_solver
def test_few_steps_recover_the_mean_and_deviation_of_normal_data(name):
    chain = TRAINED.respaced(25, "trailing")
    pixels = final(chain, DENOISER, solver(name, chain), shape=(1, 64, 64))
    assert pixels.mean().item() == pytest.approx(MEAN, abs=4 * STD / math.sqrt(2 * 64 * 64))
    # four standard errors, and 3 % for 25 steps in place of infinitely many
    assert pixels.std().item() == pytest.approx(STD, rel=4 / math.sqrt(4 * 64 * 64) + 0.03)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers' own tables
@pytest.mark.parametrize("clip_sample", [True, False])
@every_solver
def test_it_is_the_loop_of_diffusers_own_scheduler(name, clip_sample):
    import diffusers

    diffusion = GaussianDiffusion(TRAINED.betas, clip_denoised=clip_sample)
    kind, settings = SOLVERS[name]
    scheduler = getattr(diffusers, kind)(
        prediction_type="sample", trained_betas=TRAINED.betas.numpy(), timestep_spacing="trailing", **settings
    )
    scheduler.set_timesteps(10)
    chain = diffusion.respaced(10, "trailing")
    assert scheduler.timesteps.tolist() == chain.timesteps.tolist()[::-1]
    source = torch.Generator().manual_seed(3)
    x_t = torch.randn(SHAPE, generator=source)[None]
    for t in scheduler.timesteps:
        x_0 = diffusion.predict_x0(x_t, t[None], DENOISER(x_t, t[None]))
        noise = (
            {} if name in DETERMINISTIC else {"variance_noise": torch.randn(SHAPE, generator=source)[None]}
        )
        x_t = scheduler.step(x_0.clamp(-1, 1) if clip_sample else x_0, t, x_t, **noise).prev_sample
    # its tables are float32
    torch.testing.assert_close(final(chain, DENOISER, solver(name, chain), [3]), x_t, rtol=0, atol=2e-4)


@every_solver
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_one_network_call_a_step_at_the_timesteps_of_the_chain(name, steps):
    diffusion = GaussianDiffusion(cosine_betas(40))
    chain, told = diffusion.respaced(steps), []

    def denoiser(x_t, t):
        told.append(int(t[0]))
        return normal_denoiser(diffusion, MEAN, STD)(x_t, t)

    run = list(reverse(chain, denoiser, solver(name, chain), [0], SHAPE))
    assert told == [step.t for step in run] == chain.timesteps.tolist()[::-1]
    assert all(step.x_t.isfinite().all() for step in run)
    torch.testing.assert_close(run[-1].x_t, run[-1].pred_x0, rtol=0, atol=1e-6)


@every_solver
def test_all_kinds_of_networks_lead_to_the_same_picture(name):
    pictures = []
    for kind in ("epsilon", "sample", "v_prediction", "posterior_mean"):
        for variance_type in ("fixed_large", "learned_range"):
            diffusion = GaussianDiffusion(TRAINED.betas, kind, variance_type)
            exactly, chain = normal_denoiser(diffusion, MEAN, STD), diffusion.respaced(9)

            def denoiser(x_t, t, exactly=exactly, learned=variance_type == "learned_range"):
                output = exactly(x_t, t)
                return torch.cat([output, torch.full_like(x_t, 0.3)], 1) if learned else output

            pictures.append(final(chain, denoiser, solver(name, chain)))
    for picture in pictures[1:]:
        # mu-tilde in float32 holds x0-hat to about three digits at large t
        torch.testing.assert_close(picture, pictures[0], rtol=0, atol=2e-3)


@every_solver
def test_an_image_depends_on_its_own_seed_alone(name):
    chain = TRAINED.respaced(8)
    batch = final(chain, DENOISER, solver(name, chain), range(5))
    for k in (0, 4):
        assert torch.equal(final(chain, DENOISER, solver(name, chain), [k])[0], batch[k])


@every_solver
@pytest.mark.parametrize("length", [3000, 4000])
def test_a_long_chain_of_the_usual_betas_is_walked(name, length):
    diffusion = GaussianDiffusion(linear_betas(length), "v_prediction", clip_denoised=False)
    chain = diffusion.respaced(50, "trailing")
    x_0 = final(chain, normal_denoiser(diffusion, MEAN, STD), solver(name, chain), shape=(1, 64, 64))
    assert x_0.std().item() == pytest.approx(STD, rel=0.2)


@every_solver
def test_it_starts_where_nothing_of_the_image_is_left(name):
    diffusion = GaussianDiffusion(zero_terminal_snr(linear_betas(50)), "v_prediction", clip_denoised=False)
    chain = diffusion.respaced(10, "trailing")
    x_0 = final(chain, normal_denoiser(diffusion, MEAN, STD), solver(name, chain), shape=(1, 64, 64))
    assert x_0.std().item() == pytest.approx(STD, rel=0.1)


@every_solver
def test_only_the_solver_of_the_sde_draws_after_x_t_is_given(name):
    chain, x_t = TRAINED.respaced(6), torch.full((1, *SHAPE), 0.3)
    one, other = (final(chain, DENOISER, solver(name, chain), [seed], x_t=x_t) for seed in (1, 2))
    assert torch.equal(one, other) == (name in DETERMINISTIC)


def test_langevin_corrections_that_unipc_would_undo_are_refused():
    assert "langevin_steps to 0" in refusal(lambda: SampleRequest(sampler="unipc", langevin_steps=1))


@every_deterministic
def test_continuations_that_would_all_be_alike_are_refused(name):
    assert "same picture" in refusal(lambda: StochasticRequest(sampler=name))


def test_with_langevin_corrections_the_continuations_of_a_deterministic_solver_differ(engine):
    *_, last = engine.run(
        StochasticRequest(
            model="tiny-8", sampler="dpmsolver++", langevin_steps=1, num_inference_steps=4, num_images=2
        )
    )
    assert (last.images[0].int() - last.images[1].int()).abs().max() > 1


@every_deterministic
def test_a_path_on_the_sphere_begins_at_the_picture_of_its_seed(engine, name):
    request = SlerpRequest(
        model="exact-normal", sampler=name, num_inference_steps=6, num_images=3, seed=4, other_seed=9
    )
    *_, path = engine.run(request)
    for seed, place in ((4, 0), (9, -1)):
        alone = SampleRequest(
            model="exact-normal", sampler=name, num_inference_steps=6, num_images=1, seed=seed
        )
        *_, last = engine.run(alone)
        assert torch.equal(last.images[0], path.images[place])
