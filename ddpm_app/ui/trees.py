"""A tree of branches: what is kept of each, where the next may begin, what the page draws of it.

A path is written `t:seed/t:seed`, a fork each: at x_t the noise of that seed takes over. That of the trunk is
empty.
"""

__all__ = [
    "MAX_BRANCHES",
    "Branch",
    "Growth",
    "Path",
    "Tree",
    "ordered",
    "read_paths",
    "spelled",
    "with_parents",
]

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ddpm_app.core.images import to_uint8
from ddpm_app.engine import BranchRequest, Fork, Frame
from ddpm_app.errors import UserError
from ddpm_app.pictures import sheet
from ddpm_app.ui.figures import figure
from ddpm_app.ui.files import picture_file

MAX_BRANCHES = 25
MAX_FRAMES = 20  # of a whole path, and the finished picture
MAX_BRANCH_BYTES = 4_000_000  # of the x_t that are kept of one branch
Path = tuple[Fork, ...]


def spelled(path: Path) -> str:
    """The path as it is written."""
    return "/".join(f"{fork.diffusion_steps}:{fork.seed}" for fork in path)


def read_paths(text: str) -> list[Path]:
    """The paths in a text, parted by blanks; UserError where one is none."""
    fork, words = r"\d{1,5}:\d{1,19}", text.split()
    paths = [tuple(word.split("/")) for word in words]
    short = max(len(words), *map(len, paths), 0) < MAX_BRANCHES  # or to list all parents could take forever
    known = short and all(re.fullmatch(fork, each) for path in paths for each in path)
    if not known or len(with_parents(paths)) >= MAX_BRANCHES:
        raise UserError(
            f"branches must be at most {MAX_BRANCHES - 1} paths like 600:8 or 600:8/250:12, a blank between "
            f"two: at t = 600 the noise of seed 8 takes over; got {text[:60]!r}"
        )
    return [tuple(Fork(*map(int, each.split(":"))) for each in path) for path in paths]


def with_parents(paths: Sequence[tuple]) -> list[tuple]:
    """The paths and all that lead to them, each once and after its parent."""
    return sorted({path[:depth]: None for path in paths for depth in range(1, len(path) + 1)}, key=len)


@dataclass(frozen=True)
class Branch:
    """From the last fork of its path down: x_t float32 (F, C, H, W) at each of `t`, the last one x_0.

    `guesses` are the x0-hats of these x_t, uint8; `distance` is the RMSE of x_0 to its parent's on the scale
    0..255; `file` has all x_t in one row and the guesses below.
    """

    path: Path
    t: tuple[int, ...]
    x_t: Tensor | None = field(repr=False)  # None where only the file is left
    guesses: Tensor = field(repr=False)
    distance: float = 0.0
    file: str = ""

    @property
    def image(self) -> Tensor:
        """The finished picture, uint8 (C, H, W)."""
        return self.guesses[-1]


class Growth:
    """Branches on their way down: takes the frames of a run, and keeps x_t at evenly spread places."""

    def __init__(self, paths: Sequence[Path], num_inference_steps: int) -> None:
        self.paths = tuple(paths)
        self.now = self.paths[0][-1].diffusion_steps if self.paths[0] else 0  # the t that was left last
        self._steps = num_inference_steps
        self._before: Tensor | None = None
        self._t: list[int] = []
        self._x_t: list[Tensor] = []
        self._guesses: list[Tensor] = []

    def take(self, frame: Frame) -> None:
        """One more step; those on the way to the fork are not of these branches."""
        if frame.shared is None:
            return
        first = self._before is None
        before = frame.shared.expand_as(frame.x_t) if self._before is None else self._before
        place, self._before, self.now = frame.num_steps - frame.step, frame.x_t, frame.t + 1
        affordable = min(MAX_FRAMES, MAX_BRANCH_BYTES // (4 * frame.x_t[0].numel()))
        every = -(-self._steps // max(2, affordable))
        if first or (place and (place + 1) % every == 0):
            self._keep(frame.t + 1, before, frame.pred_x0_images)
        if place == 0:
            self._keep(0, frame.x_t, frame.images)

    def _keep(self, t: int, x_t: Tensor, guesses: Tensor) -> None:
        self._t.append(t)
        self._x_t.append(x_t.cpu())
        self._guesses.append(guesses)

    def branches(self) -> list[Branch]:
        """What came of them, once the last step is taken."""
        x_t, guesses = torch.stack(self._x_t, 1), torch.stack(self._guesses, 1)  # (K, F, C, H, W)
        return [
            Branch(path, tuple(self._t), x_t[k].clone(), guesses[k].clone())
            for k, path in enumerate(self.paths)
        ]


@dataclass(frozen=True)
class Tree:
    """Branches of one trunk: the trunk first, and every parent before its children."""

    trunk: BranchRequest
    num_train_timesteps: int
    branches: tuple[Branch, ...] = ()

    def seed(self, path: Path) -> int:
        """The seed whose noise the path ends with."""
        return path[-1].seed if path else self.trunk.seed

    def branch(self, path: Path) -> Branch:
        """The branch at the end of this path; UserError when there is none."""
        for branch in self.branches:
            if branch.path == path:
                return branch
        raise UserError(f"the tree has no branch {spelled(path)}; it has {self.paths or 'only its trunk'}")

    def fork_of(self, path: Path, t: int) -> tuple[Path, int, Tensor | None]:
        """Where a fork at about `t` of this path begins: the path it leaves, its exact t, x_t (C, H, W)."""
        found: list[tuple[Path, int, Tensor | None]] = []
        for depth in range(len(path) + 1):
            branch = self.branch(path[:depth])
            top = path[depth - 1].diffusion_steps if depth else self.num_train_timesteps + 1
            end = path[depth].diffusion_steps if depth < len(path) else 1
            states = [None] * len(branch.t) if branch.x_t is None else branch.x_t
            kept = zip(branch.t, states, strict=True)
            found += [(branch.path, own, x_t) for own, x_t in kept if end <= own < top]
        if not found:
            raise UserError("nothing is kept of this path below its last fork; fork its parent instead")
        return min(found, key=lambda each: abs(each[1] - t))

    def grown(self, branches: Sequence[Branch]) -> "Tree":
        """The tree with these too, each with its distance and its file, in place of one of the same path."""
        known = {branch.path: branch for branch in self.branches}
        for branch in branches:
            parent = known.get(branch.path[:-1], branch)
            apart = (branch.image.float() - parent.image.float()).square().mean().sqrt().item()
            known[branch.path] = replace(branch, distance=apart, file=self._strip(branch))
        return replace(self, branches=tuple(known.values()))

    def _strip(self, branch: Branch) -> str:
        if branch.x_t is None:
            return branch.file
        strip = sheet(torch.cat([to_uint8(branch.x_t), branch.guesses]), columns=len(branch.t), gap=0)
        told = self.recipe() | {"branches": spelled(branch.path), "t": branch.t}
        return picture_file(strip, "branch", told)

    @property
    def paths(self) -> str:
        """Every branch but the trunk, as `read_paths` reads them."""
        return " ".join(spelled(branch.path) for branch in self.branches[1:])

    def recipe(self) -> dict[str, Any]:
        """What grows the whole tree again."""
        of_one_fork = ("forks", "diffusion_steps", "branch_seed", "num_images")
        own = {name: value for name, value in self.trunk.recipe().items() if name not in of_one_fork}
        return own | {"procedure": "branches", "branches": self.paths}

    def alone(self, path: Path) -> BranchRequest:
        """The request that grows this branch alone again."""
        steps = path[-1].diffusion_steps if path else self.trunk.diffusion_steps
        return replace(
            self.trunk, forks=path[:-1], diffusion_steps=steps, branch_seed=self.seed(path), num_images=1
        )

    def picture(self) -> Image.Image:
        """The tree as a figure: a row for each branch, its x0-hats over t, the finished picture last."""
        rows = [self.branch(path) for path in ordered([branch.path for branch in self.branches])]
        columns = sorted({t for branch in rows for t in branch.t}, reverse=True)
        tiles = [
            branch.guesses[branch.t.index(t)] if t in branch.t else None for branch in rows for t in columns
        ]
        height, width = self.branches[0].image.shape[1:]
        labels = [f"seed {self.seed(branch.path)}" for branch in rows]
        return figure(tiles, labels, {"": len(columns)}, (height, width), fit=(1600, 4096))

    def drawable(self, growth: Growth | None = None, file: str = "") -> dict[str, Any]:
        """What branching.js draws: the branches from top to bottom, with those that still grow."""
        whole = {
            branch.path: self._drawn(branch.path, branch.t, branch.file, 0, branch.distance)
            for branch in self.branches
        }
        if growth:
            for column, path in enumerate(growth.paths):
                whole[path] = self._drawn(path, (growth.now,), file, column) | {"growing": True}
        return {
            "T": self.num_train_timesteps,
            "seed": self.trunk.seed,
            "branches": [whole[path] for path in ordered(list(whole))],
        }

    def _drawn(
        self, path: Path, t: Sequence[int], file: str, column: int, distance: float = 0.0
    ) -> dict[str, Any]:
        return {
            "forks": spelled(path),
            "parent": spelled(path[:-1]),
            "seed": self.seed(path),
            "again": bool(path) and self.seed(path) == self.seed(path[:-1]),
            "from": path[-1].diffusion_steps if path else self.trunk.diffusion_steps,
            "t": list(t),
            "file": file,
            "column": column,
            "distance": round(distance, 1),
        }


def ordered(paths: Sequence[Path], above: Path | None = None) -> list[Path]:
    """Paths from top to bottom: each above its own, the latest fork nearest, so that no two lines cross."""
    if above is None:
        return [(), *ordered(paths, ())]
    own = [path for path in paths if path and path[:-1] == above]
    own.sort(key=lambda path: path[-1].diffusion_steps)  # stable: siblings stay as they came
    return [row for path in own for row in (path, *ordered(paths, path))]
