from itertools import islice

import pytest
import torch

from ddpm_app.core.images import to_uint8
from ddpm_app.core.samplers import generators
from ddpm_app.engine import DETERMINISTIC, BranchRequest, Engine, Fork, SampleRequest
from tests.doubles import refusal

MODELS = ["tiny-8", "exact-normal"]
every_model = pytest.mark.parametrize("model", MODELS)
every_sampler = pytest.mark.parametrize(
    "settings", [{"sampler": "ddpm"}, {"sampler": "ddim", "eta": 1.0}, {"sampler": "langevin"}], ids=str
)
STEPS = {"num_inference_steps": 10, "timestep_spacing": "leading"}  # t = 901, 801, ..., 1
SEED = 9


def grown(engine, model, **values):
    """The frames of one request from t = 501 on, unless said otherwise."""
    plain = STEPS | {"seed": SEED, "num_images": 1, "diffusion_steps": 501}
    return list(engine.run(BranchRequest(model=model, **(plain | values))))


def trunk(engine, model, **values):
    return list(engine.run(SampleRequest(model=model, num_images=1, seed=SEED, **STEPS, **values)))


def close(a, b):
    """At most one level apart: batches of other sizes round differently in the tiny network."""
    return (to_uint8(a).int() - to_uint8(b).int()).abs().max().item() <= 1


@every_model
@every_sampler
def test_the_same_noise_gives_the_same_pixels(engine, model, settings):
    settings = {"sampler": "ddpm"} | settings
    whole = trunk(engine, model, **settings)
    again = grown(engine, model, branch_seed=SEED, **settings)
    assert [frame.t for frame in again] == [frame.t for frame in whole]
    assert torch.equal(again[-1].shared, whole[3].x_t)  # what the step that left t = 601 has reached
    assert all(torch.equal(a.x_t, b.x_t) for a, b in zip(again, whole, strict=True))


@every_model
@every_sampler
def test_new_noise_gives_other_pixels_from_the_same_x_t(engine, model, settings):
    frames = grown(engine, model, branch_seed=100, num_images=3, **settings)
    assert all(torch.equal(frame.shared, frames[-1].shared) for frame in frames[4:])
    finals = [
        *frames[-1].images.int(),
        trunk(engine, model, **({"sampler": "ddpm"} | settings))[-1].images[0],
    ]
    assert all((finals[j] - finals[k]).abs().max() > 1 for j in range(4) for k in range(j))


@every_model
def test_the_noise_of_a_branch_is_that_of_a_whole_run_of_its_seed_at_the_same_steps(engine, model):
    loaded = engine.model(model)
    first = grown(engine, model, branch_seed=100)[4]  # leaves t = 501, the fifth of ten steps
    chain = loaded.diffusion.respaced(10, "leading")
    t = torch.tensor([500])
    p = chain.p_mean_variance(loaded.denoiser(first.shared, t), first.shared, torch.tensor([5]))
    source = generators([100])[0]
    drawn = [torch.randn(loaded.image_shape, generator=source) for _ in range(6)]  # x_T, then a step each
    torch.testing.assert_close(first.x_t, p.mean + (p.log_variance / 2).exp() * drawn[5])


@every_model
def test_a_branch_does_not_depend_on_its_siblings(engine, model):
    three = grown(engine, model, branch_seed=100, num_images=3)[-1]
    assert close(grown(engine, model, branch_seed=102)[-1].x_t[0], three.x_t[2])


@every_model
def test_a_frame_that_is_given_is_not_walked_to_again(engine, model, watch):
    walked = grown(engine, model, branch_seed=100)
    calls = []
    watch(lambda x_t, t: calls.append(int(t[0])))
    engine = Engine("cpu", engine.checkpoints)  # which loads it again, and is watched
    frame = walked[-1].shared[0]
    kept = frame.clone()
    given = grown(engine, model, branch_seed=100, x_t=frame)
    assert calls == [500, 400, 300, 200, 100, 0]
    assert [frame.step for frame in given] == [1, 2, 3, 4, 5, 6]
    assert torch.equal(given[-1].x_t, walked[-1].x_t)
    assert torch.equal(frame, kept)  # the root is left as it was


@every_model
def test_a_branch_of_a_branch_is_told_by_its_forks_alone(engine, model):
    outer = grown(engine, model, branch_seed=100)
    below = next(frame for frame in outer if frame.t == 200).x_t[0]  # the step that left 201 leads to 101
    told = grown(engine, model, forks=(Fork(501, 100),), diffusion_steps=101, branch_seed=200)
    given = grown(engine, model, diffusion_steps=101, branch_seed=200, x_t=below)
    assert torch.equal(told[-1].shared[0], below)
    assert torch.equal(told[-1].x_t, given[-1].x_t)
    assert not close(told[-1].x_t, outer[-1].x_t)


@every_model
def test_a_fork_to_the_seed_that_goes_on_anyway_changes_nothing(engine, model):
    plain = grown(engine, model, forks=(Fork(701, 100),), diffusion_steps=301, branch_seed=200)
    spelled = grown(
        engine,
        model,
        forks=(Fork(901, SEED), Fork(701, 100), Fork(501, 100)),
        diffusion_steps=301,
        branch_seed=200,
    )
    assert torch.equal(plain[-1].x_t, spelled[-1].x_t)


@pytest.mark.parametrize("x_t", ["a", torch.zeros(1, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_an_x_t_that_this_model_cannot_go_on_from_is_refused(engine, x_t):
    assert "x_t" in refusal(lambda: grown(engine, "tiny-8", x_t=x_t))


def test_a_branch_of_x_T_shares_nothing_but_x_T(engine):
    frames = grown(engine, "tiny-8", diffusion_steps=901, branch_seed=100, num_images=2)
    x_T = torch.randn(3, 8, 8, generator=generators([SEED])[0])
    assert len(frames) == 10
    assert torch.equal(frames[0].shared[0], x_T)
    assert not close(frames[-1].x_t[0], frames[-1].x_t[1])


def test_without_noise_every_branch_is_the_path_itself(engine):
    finals = grown(engine, "tiny-8", sampler="ddim", num_images=2)[-1].x_t
    whole = trunk(engine, "tiny-8", sampler="ddim")[-1].x_t[0]
    assert all(close(final, whole) for final in finals)


def test_a_run_that_is_left_early_calls_the_network_no_more(engine, watch):
    calls = []
    watch(lambda x_t, t: calls.append(int(t[0])))
    request = BranchRequest(model="tiny-8", seed=SEED, num_images=2, diffusion_steps=501, **STEPS)
    assert len(list(islice(engine.run(request), 6))) == 6
    assert calls == [900, 800, 700, 600, 500, 400]
    assert engine.active_runs == 0


@pytest.mark.parametrize("values", [{"diffusion_steps": 555}, {"forks": ((555, 1),), "diffusion_steps": 301}])
def test_a_t_that_the_run_does_not_visit_is_refused_with_the_nearest(engine, values):
    assert "501 and 601" in refusal(lambda: grown(engine, "tiny-8", **values))
    assert engine.active_runs == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        *(
            ({"sampler": name}, "one stored x_t does not hold")
            for name in (*sorted(DETERMINISTIC), "sde-dpmsolver++")
        ),
        ({"langevin_steps": 2}, "langevin_steps to 0"),
        ({"diffusion_steps": 0}, "1..10000"),
        ({"branch_seed": -1}, "branch_seed"),
        ({"forks": ((300, 1), (500, 2))}, "ever fewer"),
        ({"forks": ((300, 1),), "diffusion_steps": 400}, "ever fewer"),
        ({"forks": ((300,),)}, "a pair"),
        ({"forks": 300}, "list"),
        ({"forks": ((300, 2**70),)}, "seed of a fork"),
        ({"forks": tuple((300, k) for k in range(65)), "diffusion_steps": 300}, "at most 64"),
    ],
    ids=str,
)
def test_what_cannot_be_a_branch_gets_its_sentence(values, said):
    assert said in refusal(lambda: BranchRequest(**values))
