from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from ddpm_app.core.images import to_uint8
from ddpm_app.core.langevin import correct
from ddpm_app.core.samplers import ddpm, reverse
from ddpm_app.engine import EVERY_SAMPLER, SampleRequest
from ddpm_app.engine import run as run_on_the_default_engine
from tests.doubles import refusal

TINY = {"model": "tiny-8", "num_inference_steps": 5}
every_sampler = pytest.mark.parametrize("sampler", EVERY_SAMPLER)


def last_frame(engine, **values):
    *_, frame = engine.run(SampleRequest(**values))
    return frame


def levels_apart(a, b):
    return (a.int() - b.int()).abs().max().item()


# frames


@every_sampler
def test_there_is_one_frame_a_step_and_the_timesteps_go_down(engine, sampler):
    frames = list(engine.run(SampleRequest(**TINY, sampler=sampler, num_images=2)))
    assert [frame.step for frame in frames] == [1, 2, 3, 4, 5]
    assert {frame.num_steps for frame in frames} == {5}
    assert [frame.t for frame in frames] == [800, 600, 400, 200, 0]
    assert all(frame.images.shape == frame.pred_x0_images.shape == (2, 3, 8, 8) for frame in frames)
    assert all(frame.images.dtype == frame.pred_x0_images.dtype == torch.uint8 for frame in frames)


@every_sampler
def test_the_last_frame_is_x0_hat(engine, sampler):
    frame = last_frame(engine, **TINY, sampler=sampler, num_images=2)
    torch.testing.assert_close(frame.x_t, frame.pred_x0)
    assert len(frame.images.unique()) > 10


def test_a_run_that_starts_from_noise_alone_has_nothing_shared(engine):
    frame = last_frame(engine, **TINY, num_images=1)
    with pytest.raises(RuntimeError, match="nothing shared"):
        _ = frame.shared_images


@pytest.mark.parametrize(("spacing", "first"), [("leading", 800), ("trailing", 999), ("linspace", 999)])
def test_the_spacing_decides_the_first_timestep(engine, spacing, first):
    frame = next(iter(engine.run(SampleRequest(**TINY, timestep_spacing=spacing, num_images=1))))
    assert frame.t == first


def test_ddim_with_eta_1_is_ddpm_with_the_small_variance(engine):
    ddim = last_frame(engine, **TINY, sampler="ddim", eta=1.0, num_images=2)
    ddpm = last_frame(engine, **TINY, sampler="ddpm", variance_type="fixed_small", num_images=2)
    large = last_frame(engine, **TINY, sampler="ddpm", variance_type="fixed_large", num_images=2)
    assert levels_apart(ddim.images, ddpm.images) <= 1
    assert levels_apart(large.images, ddpm.images) > 1


def test_a_kept_eps_changes_ddim_and_nothing_else(engine):
    def apart(sampler):
        both = [last_frame(engine, **TINY, sampler=sampler, rederive_eps=own) for own in (True, False)]
        return levels_apart(both[0].images, both[1].images)

    assert apart("ddim") > 1
    assert apart("ddpm") == 0


def test_langevin_corrections_are_those_of_the_core_loop(engine):
    corrected = last_frame(engine, **TINY, sampler="ddpm", langevin_steps=2, langevin_snr=0.2, num_images=2)
    plain = last_frame(engine, **TINY, sampler="ddpm", num_images=2)
    model, request = engine.model("tiny-8"), SampleRequest(**TINY)
    chain = model.diffusion.respaced(request.num_inference_steps)
    corrector = partial(correct, num_steps=2, snr=0.2)
    *_, own = reverse(chain, model.denoiser, ddpm, [0, 1], model.image_shape, corrector=corrector)
    assert levels_apart(corrected.images, to_uint8(own.x_t)) <= 1
    assert levels_apart(corrected.images, plain.images) > 1


def test_seeds_2_to_the_32_apart_give_the_same_picture(engine):
    one, other = (last_frame(engine, **TINY, num_images=1, seed=seed) for seed in (7, 7 + 2**32))
    assert torch.equal(one.images, other.images)


def test_the_exact_normal_is_sampled_with_its_mean_and_deviation(engine):
    pixels = last_frame(
        engine, model="exact-normal", sampler="ddpm", num_inference_steps=100, num_images=64
    ).x_t
    # 16,384 pixels leave 0.002 of sampling error, a hundred steps some bias in the deviation
    assert pixels.mean().item() == pytest.approx(0.1, abs=0.01)
    assert pixels.std().item() == pytest.approx(0.25, abs=0.02)


# seeds


@every_sampler
def test_the_same_seed_gives_the_same_picture_alone_and_in_a_batch(engine, sampler):
    batch = last_frame(engine, **TINY, sampler=sampler, seed=40, num_images=16).images
    for k in (0, 5, 15):
        alone = last_frame(engine, **TINY, sampler=sampler, seed=40 + k, num_images=1).images
        assert levels_apart(alone[0], batch[k]) <= 1
    assert levels_apart(batch[0], batch[1]) > 1


@every_sampler
@pytest.mark.parametrize("model", ["exact-normal", "exact-shapes"])
def test_with_an_exact_model_it_is_equal_to_the_last_level(engine, sampler, model):
    values = {"model": model, "sampler": sampler, "num_inference_steps": 5}
    batch = last_frame(engine, **values, seed=40, num_images=16).images
    alone = torch.cat([last_frame(engine, **values, seed=40 + k, num_images=1).images for k in (0, 5, 15)])
    assert torch.equal(alone, batch[[0, 5, 15]])


def test_a_recipe_makes_the_same_images_again(engine):
    request = SampleRequest(**TINY, sampler="ddpm", seed=11, num_images=3)
    again = last_frame(engine, **request.recipe())
    assert torch.equal(last_frame(engine, **TINY, sampler="ddpm", seed=11, num_images=3).images, again.images)


def test_a_run_leaves_the_global_generator_alone(engine):
    engine.model("tiny-8")
    before = torch.random.get_rng_state()
    last_frame(engine, **TINY, sampler="ddpm", num_images=2)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_each_step_may_be_taken_by_another_thread(engine):
    request = SampleRequest(**TINY, sampler="ddpm", num_images=2)
    expected = [frame.images for frame in engine.run(request)]
    steps, taken = engine.run(request), []
    for _ in range(5):
        with ThreadPoolExecutor(1) as pool:
            taken.append(pool.submit(next, steps).result().images)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(next, steps, None).result() is None
    assert all(torch.equal(a, b) for a, b in zip(expected, taken, strict=True))
    assert engine.active_runs == 0


# refusals that hang on the model


def test_more_steps_than_the_chain_has_are_refused_with_its_length(engine):
    sentence = refusal(lambda: list(engine.run(SampleRequest(model="tiny-8", num_inference_steps=1001))))
    assert "1..1000" in sentence
    assert "1001" in sentence
    assert engine.active_runs == 0


@pytest.mark.parametrize("variance_type", ["learned", "learned_range"])
def test_a_learned_variance_is_refused_by_a_network_without_one(engine, variance_type):
    request = SampleRequest(
        model="tiny-8", sampler="ddpm", variance_type=variance_type, num_inference_steps=1000, num_images=1
    )
    sentence = refusal(lambda: list(engine.run(request)))
    assert variance_type in sentence
    assert "fixed_small or fixed_large" in sentence


def test_a_learned_variance_of_single_steps_takes_all_of_them(engine):
    request = SampleRequest(**TINY, sampler="ddpm", variance_type="learned")
    assert "1000" in refusal(lambda: list(engine.run(request)))


@pytest.mark.parametrize("model", ["tiny-9", "", "no/such\x00folder", "../tiny-8", "x" * 5000])
def test_an_unknown_model_is_refused_in_one_sentence(engine, model):
    refusal(lambda: list(engine.run(SampleRequest(model=model))))
    assert engine.active_runs == 0


def test_the_default_engine_runs_an_exact_model():
    frames = list(run_on_the_default_engine(SampleRequest(model="exact-normal", num_inference_steps=2)))
    assert len(frames) == 2
