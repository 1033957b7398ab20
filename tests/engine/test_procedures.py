import pytest
import torch

from ddpm_app.core.images import from_uint8, to_uint8
from ddpm_app.core.samplers import SAMPLERS, generators, reverse
from ddpm_app.engine import (
    DETERMINISTIC,
    EVERY_SAMPLER,
    ForwardRequest,
    InterpolateRequest,
    SampleRequest,
    StochasticRequest,
)
from ddpm_app.engine.batching import PIXELS_PER_PASS
from ddpm_app.engine.procedures import NOISE_STREAM, seed_beside
from tests.doubles import refusal

MODELS = ["tiny-8", "exact-normal"]
every_model = pytest.mark.parametrize("model", MODELS)
STEPS = 10  # leading: t = 900, 800, ..., 0


def picture(engine, model, seed):
    shape = engine.model(model).image_shape
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def stochastic(engine, model, **values):
    plain = {"num_inference_steps": STEPS, "timestep_spacing": "leading", "num_images": 3}
    return list(engine.run(StochasticRequest(model=model, **(plain | values))))


def interpolation(engine, model, **values):
    ends = {"picture_a": picture(engine, model, 1), "picture_b": picture(engine, model, 2)}
    plain = {"num_inference_steps": STEPS, "timestep_spacing": "leading", "num_images": 5}
    return list(engine.run(InterpolateRequest(model=model, **(plain | ends | values))))


def close(a, b):
    """At most one level apart: batches of other sizes round differently in the tiny network."""
    return (to_uint8(a).int() - to_uint8(b).int()).abs().max().item() <= 1


# stochastic


@every_model
def test_all_continuations_leave_one_x_t_and_differ_with_ddpm(engine, model):
    frames = stochastic(engine, model, diffusion_steps=501)
    finals = frames[-1].images
    assert all((finals[j].int() - finals[k].int()).abs().max() > 1 for j, k in ((0, 1), (0, 2), (1, 2)))
    below = [frame for frame in frames if frame.shared is not None]
    assert [frame.t for frame in below] == [500, 400, 300, 200, 100, 0]
    assert below[0].shared.shape == (1, *engine.model(model).image_shape)
    assert all(torch.equal(frame.shared, below[0].shared) for frame in below)
    assert all(len(frame.x_t) == 3 for frame in below)
    assert torch.equal(below[0].shared_images, to_uint8(below[0].shared))


@every_model
def test_without_noise_all_continuations_are_the_same(engine, model):
    x_0 = stochastic(engine, model, sampler="ddim", eta=0.0, diffusion_steps=501)[-1].x_t
    assert close(x_0[0], x_0[1])
    assert close(x_0[0], x_0[2])


@every_model
@pytest.mark.parametrize("sampler", [name for name in EVERY_SAMPLER if name not in DETERMINISTIC])
def test_x_t_lies_on_the_chain_of_the_same_seed(engine, model, sampler):
    frames = stochastic(engine, model, sampler=sampler, seed=9, diffusion_steps=501)
    whole = SampleRequest(
        model=model,
        sampler=sampler,
        seed=9,
        num_images=1,
        num_inference_steps=STEPS,
        timestep_spacing="leading",
    )
    passed = {frame.t: frame.x_t for frame in engine.run(whole)}
    assert torch.equal(frames[-1].shared, passed[600])  # what the step that left 600 has reached: x_500
    above = [frame for frame in frames if frame.shared is None]
    assert [frame.t for frame in above] == [900, 800, 700, 600]
    assert all(torch.equal(frame.x_t, passed[frame.t]) for frame in above)


def test_frames_above_and_below_x_t_are_counted_through(engine):
    frames = stochastic(engine, "tiny-8", diffusion_steps=501)
    assert [frame.step for frame in frames] == list(range(1, 11))
    assert {frame.num_steps for frame in frames} == {10}


def test_the_chain_is_led_through_an_x_t_it_does_not_visit(engine):
    frames = stochastic(engine, "tiny-8", diffusion_steps=556)
    assert [frame.t for frame in frames] == [900, 800, 700, 600, 555, 500, 400, 300, 200, 100, 0]
    assert [frame.step for frame in frames] == list(range(1, 12))
    assert len(frames[4].x_t) == 3


@every_model
def test_after_all_diffusion_steps_only_x_T_is_shared(engine, model):
    frames = stochastic(engine, model, diffusion_steps=1000, seed=9)
    assert [frame.t for frame in frames] == [999, *range(900, -1, -100)]
    x_T = torch.randn(engine.model(model).image_shape, generator=generators([9])[0])
    assert torch.equal(frames[0].shared[0], x_T)


def test_after_one_diffusion_step_all_continuations_agree(engine):
    frames = stochastic(engine, "tiny-8", diffusion_steps=1)
    assert [frame.t for frame in frames] == list(range(900, -1, -100))
    assert [len(frame.x_t) for frame in frames] == [1] * 9 + [3]
    assert close(frames[-1].x_t[0], frames[-1].x_t[2])  # the last step adds no noise


def test_no_network_call_above_x_t_is_wasted(engine, watch):
    calls = []
    watch(lambda x_t, t: calls.append((len(x_t), int(t[0]))))
    stochastic(engine, "tiny-8", diffusion_steps=501)
    assert calls == [(1, t) for t in (900, 800, 700, 600)] + [(3, t) for t in (500, 400, 300, 200, 100, 0)]


def test_a_continuation_does_not_depend_on_how_many_there_are(engine):
    one, three = (
        stochastic(engine, "exact-normal", diffusion_steps=501, num_images=n)[-1].images for n in (1, 3)
    )
    assert torch.equal(one[0], three[0])


@every_model
def test_a_picture_is_noised_to_x_t_by_the_seeds_own_stream_of_noise(engine, model):
    given = picture(engine, model, 1)
    frames = stochastic(engine, model, picture=given, diffusion_steps=501, seed=4)
    assert [frame.t for frame in frames] == [500, 400, 300, 200, 100, 0]
    assert [frame.step for frame in frames] == [1, 2, 3, 4, 5, 6]
    assert {frame.num_steps for frame in frames} == {6}
    noise = torch.randn(given.shape, generator=generators([4 ^ NOISE_STREAM])[0])
    alpha_bar = engine.model(model).diffusion.alphas_cumprod[500]
    expected = alpha_bar.sqrt() * from_uint8(given) + (1 - alpha_bar).sqrt() * noise
    torch.testing.assert_close(frames[0].shared[0], expected.float())


def test_of_a_picture_noised_by_one_step_the_exact_denoiser_keeps_it(engine):
    shapes = engine.model("exact-shapes")
    x_0 = stochastic(engine, "exact-shapes", num_images=1, seed=3)[-1].images[0]  # one of the sixteen
    again = stochastic(engine, "exact-shapes", picture=x_0, diffusion_steps=1)[-1].images
    assert again.shape == (3, *shapes.image_shape)
    assert all((image.int() - x_0.int()).abs().max() <= 1 for image in again)


@pytest.mark.parametrize("steps", [1001, 5000])
def test_more_diffusion_steps_than_the_chain_has_are_refused(engine, steps):
    assert "1..1000" in refusal(lambda: stochastic(engine, "tiny-8", diffusion_steps=steps))
    assert "1..1000" in refusal(lambda: interpolation(engine, "tiny-8", diffusion_steps=steps))


# interpolation


@every_model
def test_the_ends_of_an_interpolation_are_the_reconstructions_of_the_ends(engine, model):
    frames = interpolation(engine, model, diffusion_steps=501, seed=4)
    chain = engine.model(model).diffusion.respaced([0, 100, 200, 300, 400, 500])
    for k, end in ((0, 0), (-1, 1)):
        x_t = frames[0].shared[end : end + 1]
        steps = reverse(
            chain, engine.model(model).denoiser, SAMPLERS["ddpm"], [6 ^ NOISE_STREAM], x_t.shape[1:], x_t=x_t
        )
        *_, last = steps
        assert close(frames[-1].x_t[k], last.x_t[0])
    assert [frame.t for frame in frames] == [500, 400, 300, 200, 100, 0]
    assert not close(frames[-1].x_t[0], frames[-1].x_t[-1])


def test_zero_diffusion_steps_mix_the_pixels_themselves(engine):
    (frame,) = interpolation(engine, "tiny-8", diffusion_steps=0)
    a, b = (picture(engine, "tiny-8", seed) for seed in (1, 2))
    assert (frame.step, frame.num_steps) == (1, 1)
    assert torch.equal(frame.images[0], a)
    assert torch.equal(frame.images[-1], b)
    assert torch.equal(frame.shared_images, torch.stack([a, b]))
    middle = (a.double() + b.double()) / 2
    assert (frame.images[2].double() - middle).abs().max() <= 0.5


def test_between_equal_pictures_all_lambdas_agree_so_they_share_their_noise(engine):
    same = picture(engine, "exact-normal", 1)
    frames = interpolation(engine, "exact-normal", picture_a=same, picture_b=same, diffusion_steps=501)
    for frame in frames:
        torch.testing.assert_close(frame.x_t, frame.x_t[:1].expand_as(frame.x_t), rtol=0, atol=1e-5)


def test_the_noise_of_the_two_ends_is_the_same_only_when_it_is_shared(engine):
    same = picture(engine, "tiny-8", 1)
    for shared_noise in (True, False):
        frames = interpolation(
            engine,
            "tiny-8",
            picture_a=same,
            picture_b=same,
            diffusion_steps=501,
            shared_noise=shared_noise,
        )
        a, b = frames[0].shared
        assert torch.equal(a, b) is shared_noise


@pytest.mark.parametrize("name", ["picture_a", "picture_b"])
def test_a_picture_of_another_shape_is_refused_with_both_shapes(engine, name):
    wrong = torch.zeros(3, 8, 9, dtype=torch.uint8)
    sentences = [
        refusal(lambda steps=steps: interpolation(engine, "tiny-8", diffusion_steps=steps, **{name: wrong}))
        for steps in (0, 500)
    ]
    assert all("(3, 8, 8)" in sentence and "(3, 8, 9)" in sentence for sentence in sentences)
    assert "(3, 8, 9)" in refusal(lambda: stochastic(engine, "tiny-8", picture=wrong))
    assert engine.active_runs == 0


def test_the_noise_on_a_picture_is_independent_of_the_noise_that_the_picture_was_drawn_from(engine):
    drawn = SampleRequest(model="exact-normal", num_images=1, seed=7)
    *_, last = engine.run(drawn)
    request = ForwardRequest(picture=last.images[0], diffusion_steps=(0, 1000), seed=7)
    x_0, noise = engine.forward(request).double().flatten(1)
    assert abs(torch.corrcoef(torch.stack([x_0, noise]))[0, 1]) < 5 / len(x_0) ** 0.5  # five standard errors


def test_a_picture_that_is_continued_does_not_meet_its_own_noise_again_on_its_way_down(engine):
    """At t = T nothing of a picture is left, unless the noise that it was drawn from is drawn again."""
    *_, drawn = engine.run(SampleRequest(model="exact-normal", num_images=4, seed=7))
    for k, image in enumerate(drawn.images):
        last = stochastic(
            engine, "exact-normal", picture=image, diffusion_steps=1000, num_inference_steps=2, seed=6
        )[-1]
        alike = torch.corrcoef(torch.stack([image, last.images[min(k, 2)]]).double().flatten(1))[0, 1]
        assert abs(alike) < 5 / image.numel() ** 0.5


def test_the_noise_between_two_seeds_is_that_of_neither():
    assert seed_beside(3, 7) == 8
    assert seed_beside(0, 2**32 - 1) == 2**32 + 1  # torch reads only the low 32 bits of a seed
    assert seed_beside(2**32 - 1, 1, 0) == 2**32 + 2


def test_a_large_batch_is_computed_in_passes_with_the_same_result(engine, monkeypatch):
    request = SampleRequest(model="exact-shapes", num_images=5, num_inference_steps=3)
    *_, whole = engine.run(request)
    monkeypatch.setitem(PIXELS_PER_PASS, "cpu", 2 * 32 * 32)
    *_, parts = engine.run(request)
    assert torch.equal(whole.images, parts.images)
