"""The tree of branches through the served API."""

import re
from itertools import pairwise

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from ddpm_app.engine import BranchRequest, Engine, Fork, SampleRequest
from ddpm_app.pictures import read_recipe
from ddpm_app.ui import build_app
from ddpm_app.ui.openings import open_tree
from ddpm_app.ui.trees import (
    MAX_BRANCHES,
)
from tests.ui.served import opened, path, status

TINY = {"model": "tiny-8", "num_inference_steps": 10, "timestep_spacing": "trailing", "seed": 5}


@pytest.fixture
def visitor(url: str):
    """A session of its own, since the tree belongs to one."""
    client = Client(url, verbose=False)
    yield client
    client.close()


def gallery(answer) -> list[str]:
    pictures = next(part for part in answer if isinstance(part, list | dict) and "image" in str(part))
    pictures = pictures["value"] if isinstance(pictures, dict) else pictures
    return [each["image"] for each in pictures]


def drawn(answer) -> list[dict]:
    tree = answer[1]
    return tree.get("value", tree)["branches"]


def level(file: str) -> np.ndarray:
    return np.asarray(opened(file)).astype(int)


def test_the_trunk_is_the_picture_of_a_plain_run(visitor: Client, engine: Engine):
    answer = visitor.predict(**TINY, api_name="/branches")
    assert "A trunk to fork<" in status(answer[0])
    (shown,) = gallery(answer)
    *_, frame = engine.run(SampleRequest(**TINY, sampler="ddpm", num_images=1))
    assert np.abs(level(shown) - frame.images[0].permute(1, 2, 0).numpy()).max() <= 1


def test_a_fork_by_new_noise_leads_elsewhere_and_leaves_the_rest_of_the_tree_alone(visitor: Client):
    before = visitor.predict(**TINY, api_name="/branches")
    after = visitor.predict(diffusion_steps=610, num_branches=3, branch_seed=20, api_name="/fork")
    assert "3 branches from t = 600 of the trunk" in status(after[0])
    assert [each["forks"] for each in drawn(after)] == ["", "600:20", "600:21", "600:22"]
    assert drawn(after)[0] == drawn(before)[0]
    pictures = [level(file) for file in gallery(after)]
    assert np.array_equal(pictures[0], level(gallery(before)[0]))
    assert all(np.abs(a - b).max() > 1 for a, b in pairwise(pictures))
    assert all(each["distance"] > 1 for each in drawn(after)[1:])
    assert path(after[-1]) == 23  # the next seed that nobody has


def test_a_finished_picture_is_not_forked(visitor: Client):
    visitor.predict(**TINY, api_name="/branches")
    with pytest.raises(AppError, match="nothing left to draw"):
        visitor.predict(diffusion_steps=0, num_branches=1, api_name="/fork")


def test_an_equal_picture_is_said_to_be_of_the_same_noise_only_where_it_is(visitor: Client):
    visitor.predict(**TINY, sampler="ddim", eta=0, api_name="/branches")
    answer = visitor.predict(diffusion_steps=600, num_branches=1, branch_seed=20, api_name="/fork")
    assert [(each["distance"], each["again"]) for each in drawn(answer)] == [(0, False), (0, False)]
    answer = visitor.predict(diffusion_steps=600, num_branches=1, noise="same", api_name="/fork")
    assert [each["again"] for each in drawn(answer)].count(True) == 1


def test_the_steps_of_a_tree_that_grows_are_counted_through(visitor: Client):
    job = visitor.submit(**TINY, branches="600:8 300:9", api_name="/branches")
    job.result(60)
    told = [re.search(r"step (\d+) of (\d+)", status(update[0])) for update in job.outputs()]
    steps = [(int(found[1]), int(found[2])) for found in told if found]
    assert {of for _, of in steps} == {10 + 6 + 3}
    assert [step for step, _ in steps] == sorted(step for step, _ in steps)


def test_a_fork_by_the_same_noise_gives_the_same_picture(visitor: Client):
    visitor.predict(**TINY, api_name="/branches")
    visitor.predict(diffusion_steps=600, num_branches=1, branch_seed=20, api_name="/fork")
    answer = visitor.predict(path="600:20", diffusion_steps=300, noise="same", api_name="/fork")
    assert "1 branch from t = 300 of branch 20" in status(answer[0])
    assert "the same picture" in status(answer[0])
    _, parent, child = (level(file) for file in gallery(answer))
    assert np.array_equal(parent, child)
    assert drawn(answer)[2]["distance"] == 0


@pytest.mark.slow
def test_the_recipe_of_the_figure_grows_the_whole_tree_again(visitor: Client, url: str):
    visitor.predict(**TINY, api_name="/branches")
    visitor.predict(diffusion_steps=600, num_branches=2, branch_seed=20, api_name="/fork")
    answer = visitor.predict(
        path="600:21", diffusion_steps=300, num_branches=1, branch_seed=30, api_name="/fork"
    )
    recipe = read_recipe(path(answer[3]))
    assert recipe["procedure"] == "branches"
    assert recipe["branches"] == "600:20 600:21 600:21/300:30"
    taken = ("model", "sampler", "num_inference_steps", "seed", "timestep_spacing", "branches", "eta")
    other = Client(url, verbose=False)
    again = other.predict(**{name: recipe[name] for name in taken}, api_name="/branches")
    other.close()
    assert "4 branches<" in status(again[0])
    for one, two in zip(gallery(answer), gallery(again), strict=True):
        assert np.abs(level(one) - level(two)).max() <= 1


def test_every_branch_carries_the_recipe_that_grows_it_alone(visitor: Client, engine: Engine):
    visitor.predict(**TINY, api_name="/branches")
    visitor.predict(diffusion_steps=600, num_branches=1, branch_seed=20, api_name="/fork")
    answer = visitor.predict(
        path="600:20", diffusion_steps=300, num_branches=2, branch_seed=30, api_name="/fork"
    )
    file = gallery(answer)[-1]
    recipe = read_recipe(file)
    fields = BranchRequest.__dataclass_fields__
    request = BranchRequest(**{name: value for name, value in recipe.items() if name in fields})
    assert (request.forks, request.diffusion_steps) == ((Fork(600, 20),), 300)
    *_, frame = engine.run(request)
    assert np.abs(level(file) - frame.images[0].permute(1, 2, 0).numpy()).max() <= 1


@pytest.mark.slow
def test_each_session_has_a_tree_of_its_own(visitor: Client, url: str):
    visitor.predict(**TINY, api_name="/branches")
    other = Client(url, verbose=False)
    other.predict(**TINY | {"seed": 6}, api_name="/branches")
    other.predict(diffusion_steps=600, num_branches=4, branch_seed=20, api_name="/fork")
    other.close()
    mine = visitor.predict(diffusion_steps=300, num_branches=1, branch_seed=40, api_name="/fork")
    assert [each["seed"] for each in drawn(mine)] == [5, 40]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"path": "600:99"}, "no branch 600:99"),
        ({"path": "here"}, "600:8"),
        ({"noise": "old"}, "old"),
        ({"num_branches": 0}, "0"),
        ({"branch_seed": 2**70}, "branch_seed"),
        ({"branch_seed": 1.5}, "branch_seed"),
        ({"diffusion_steps": -3}, "diffusion_steps"),
    ],
    ids=str,
)
def test_what_cannot_be_forked_gets_its_sentence(visitor: Client, values: dict, said: str):
    visitor.predict(**TINY, api_name="/branches")
    with pytest.raises(AppError, match=said):
        visitor.predict(**values, api_name="/fork")


def test_a_path_grows_what_it_leads_through_and_leaves_it_where_an_x_t_is_kept(visitor: Client):
    answer = visitor.predict(**TINY, branches="610:20/310:30 610:20/310:31", api_name="/branches")
    assert "4 branches<" in status(answer[0])
    rows = sorted(each["forks"] for each in drawn(answer))
    assert rows == ["", "600:20", "600:20/300:30", "600:20/300:31"]


def test_without_a_tree_of_its_own_a_session_is_told_so_though_the_page_opens_with_one(
    visitor: Client, engine: Engine
):
    with pytest.raises(AppError, match="grow a new trunk first"):
        visitor.predict(api_name="/fork")
    fns = build_app(engine).fns.values()
    (kept,) = [
        each for fn in fns if fn.api_name == "fork" for each in fn.inputs if isinstance(each, gr.State)
    ]
    assert kept.value is None  # which it is again once Gradio has dropped an old tree
    (begin,) = [fn.fn for fn in fns if fn.outputs == [kept]]
    assert begin().paths


def test_what_did_not_grow_to_its_end_leaves_the_tree_that_stood_there(engine: Engine):
    page = build_app(engine)
    served = {fn.api_name: fn for fn in page.fns.values()}
    drawn, kept = served["branches"].outputs[1], served["fork"].inputs[-1]
    undoing = [fn for fn in page.fns.values() if (fn.inputs, fn.outputs) == ([kept], [drawn])]
    after = [fn.trigger_after for fn in undoing if fn.trigger_only_on_failure]
    assert after == [served["branches"]._id, served["fork"]._id]
    stops = {target for fn in undoing for target in fn.targets if target[1] == "click"}
    assert len(stops) == 2
    tree = open_tree()
    assert undoing[0].fn(tree) == tree.drawable()


@pytest.mark.slow
def test_a_full_tree_is_not_grown_further(visitor: Client):
    paths = " ".join(f"900:{seed}" for seed in range(MAX_BRANCHES - 3))
    visitor.predict(**TINY, branches=paths, api_name="/branches")
    visitor.predict(diffusion_steps=600, num_branches=2, branch_seed=200, api_name="/fork")
    with pytest.raises(AppError, match=f"at most {MAX_BRANCHES} branches"):
        visitor.predict(diffusion_steps=300, num_branches=1, branch_seed=300, api_name="/fork")


def test_a_solver_that_remembers_its_steps_is_refused(visitor: Client):
    with pytest.raises(AppError, match=r"unipc|Value"):
        visitor.predict(**TINY, sampler="unipc", api_name="/branches")
