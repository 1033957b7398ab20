"""The tree of branches itself: what is kept of a run, where a fork begins, how a path is written."""

import pytest
import torch

from ddpm_app.engine import BranchRequest, Frame
from ddpm_app.ui.trees import (
    MAX_BRANCH_BYTES,
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


def test_a_branch_that_has_not_begun_stands_at_its_fork():
    assert Growth(read_paths("600:8/250:12"), 10).now == 250
    growth = Growth(read_paths("5:8"), 10)
    growth.take(next(frames(10)))
    assert growth.now == 10


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
