"""The tree of branches: through the served API, and as the page draws it."""

from itertools import pairwise

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError

from ddpm_app.engine import BranchRequest, Engine, Fork, Frame, SampleRequest
from ddpm_app.pictures import read_recipe
from ddpm_app.ui import build_app
from ddpm_app.ui.openings import open_tree
from ddpm_app.ui.trees import (
    MAX_BRANCH_BYTES,
    MAX_BRANCHES,
    MAX_FRAMES,
    Branch,
    Growth,
    Tree,
    ordered,
    read_paths,
    spelled,
    with_parents,
)
from tests.doubles import refusal
from tests.ui.test_server import opened, path, status

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
    assert "A trunk to fork in" in status(answer[0])
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


def test_a_fork_by_the_same_noise_gives_the_same_picture(visitor: Client):
    visitor.predict(**TINY, api_name="/branches")
    visitor.predict(diffusion_steps=600, num_branches=1, branch_seed=20, api_name="/fork")
    answer = visitor.predict(path="600:20", diffusion_steps=300, noise="same", api_name="/fork")
    assert "1 branch from t = 300 of branch 20" in status(answer[0])
    assert "the same picture" in status(answer[0])
    _, parent, child = (level(file) for file in gallery(answer))
    assert np.array_equal(parent, child)
    assert drawn(answer)[2]["distance"] == 0


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
    assert "4 branches in" in status(again[0])
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
    assert "4 branches in" in status(answer[0])
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


def test_a_full_tree_is_not_grown_further(visitor: Client):
    paths = " ".join(f"900:{seed}" for seed in range(MAX_BRANCHES - 3))
    visitor.predict(**TINY, branches=paths, api_name="/branches")
    visitor.predict(diffusion_steps=600, num_branches=2, branch_seed=200, api_name="/fork")
    with pytest.raises(AppError, match=f"at most {MAX_BRANCHES} branches"):
        visitor.predict(diffusion_steps=300, num_branches=1, branch_seed=300, api_name="/fork")


def test_a_solver_that_remembers_its_steps_is_refused(visitor: Client):
    with pytest.raises(AppError, match=r"unipc|Value"):
        visitor.predict(**TINY, sampler="unipc", api_name="/branches")


# the tree itself


def frames(num_steps: int, shape=(3, 4, 4), count: int = 1):
    """A run whose x_t all have the value of the t that they stand at, and whose guesses are one lower."""
    start = torch.full((1, *shape), float(num_steps))
    for step in range(1, num_steps + 1):
        left = num_steps - step
        yield Frame(
            step,
            num_steps,
            left,
            torch.full((count, *shape), float(left)),
            torch.full((count, *shape), left / num_steps),
            start,
        )


def test_a_frame_is_kept_with_the_guess_made_from_it_and_not_with_the_one_that_led_to_it():
    growth = Growth([()], 10)
    for frame in frames(10):
        growth.take(frame)
    (trunk,) = growth.branches()
    assert trunk.t == (*range(10, 1, -1), 0)
    assert [x_t[0, 0, 0].item() for x_t in trunk.x_t] == list(trunk.t)
    guessed = [round((level / 255 * 2 - 1) * 10) for level in trunk.guesses[:, 0, 0, 0].tolist()]
    assert guessed[:-1] == [t - 1 for t in trunk.t[:-1]]


@pytest.mark.parametrize(
    ("num_steps", "shape"), [(1000, (3, 4, 4)), (20, (3, 4, 4)), (50, (3, 256, 256)), (1, (1, 4, 4))]
)
def test_what_is_kept_of_a_branch_is_bounded(num_steps: int, shape: tuple):
    growth = Growth([()], num_steps)
    for frame in frames(num_steps, shape):
        growth.take(frame)
    (trunk,) = growth.branches()
    numbers = trunk.x_t[0].numel()
    assert 2 <= len(trunk.t) <= MAX_FRAMES + 2
    assert (len(trunk.t) - 2) * numbers * 4 <= MAX_BRANCH_BYTES
    assert (trunk.t[0], trunk.t[-1]) == (num_steps, 0)


def test_rows_stand_so_that_no_line_from_a_parent_crosses_a_row():
    paths = read_paths("800:1 300:2 800:1/500:3 800:4 800:1/200:5 800:1/500:3/100:6")
    rows = ordered([(), *paths])
    assert rows[0] == ()
    assert sorted(map(spelled, rows)) == sorted(["", *map(spelled, paths)])
    for place, row in enumerate(rows[1:], 1):
        parent = rows.index(row[:-1])
        assert parent < place
        between = rows[parent + 1 : place]
        assert all(each[-1].diffusion_steps <= row[-1].diffusion_steps for each in between)


def test_a_fork_leaves_the_branch_on_which_its_moment_stands_first():
    young, youngest = read_paths("600:1 600:1/300:2")
    grown = [
        Branch(each, t, torch.zeros(len(t), 1, 2, 2), torch.zeros(len(t), 1, 2, 2).byte())
        for each, t in (((), (1000, 600, 200, 0)), (young, (600, 450, 300, 0)), (youngest, (300, 150, 0)))
    ]
    tree = Tree(BranchRequest(seed=5), 1000, tuple(grown))
    found = [tree.fork_of(youngest, t)[:2] for t in (2000, 610, 600, 460, 310, 190, 1)]
    assert found == [
        ((), 1000),
        ((), 600),
        ((), 600),
        (young, 450),
        (young, 300),
        (youngest, 150),
        (youngest, 150),
    ]
    assert tree.seed(()) == 5


@pytest.mark.parametrize("text", ["600", "600:", "a:b", "600:1/", "600:1,500:2", "600:-1", "6" * 9 + ":1"])
def test_what_is_no_path_is_refused(text: str):
    assert "600:8" in refusal(lambda: read_paths(text))


def test_paths_are_read_as_they_are_written():
    text = "600:8 600:8/250:12"
    assert " ".join(map(spelled, read_paths(text))) == text
    assert read_paths("  ") == []


def test_a_path_stands_after_all_that_lead_to_it_each_once():
    paths = with_parents(read_paths("600:8/250:12 600:8/250:13/100:1 600:8"))
    assert [*map(spelled, paths)] == ["600:8", "600:8/250:12", "600:8/250:13", "600:8/250:13/100:1"]
    assert "at most 24" in refusal(lambda: read_paths("600:8/" * 200_000 + "600:8"))
    many = " ".join(f"{t}:1/50:1" for t in range(100, 112))
    assert "at most 24" in refusal(lambda: read_paths(f"{many} 90:1"))
    assert len(read_paths(many)) == 12
