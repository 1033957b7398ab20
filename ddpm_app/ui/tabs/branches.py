"""Branches: any frame of a run goes on by other noise, as a tree to walk (figure 7, over and over)."""

__all__ = ["build"]

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import torch

from ddpm_app.engine import BranchRequest, Fork, SampleRequest, visited, visits
from ddpm_app.engine.checks import MAX_SEED, MAX_STEPS, whole
from ddpm_app.errors import UserError, one_of
from ddpm_app.pictures import sheet
from ddpm_app.ui.branching import NEW, SAME, BranchView, branch_view
from ddpm_app.ui.buttons import Undone
from ddpm_app.ui.controls import Shared, explain, requested
from ddpm_app.ui.files import picture_file
from ddpm_app.ui.loading import loading, measuring
from ddpm_app.ui.openings import open_tree
from ddpm_app.ui.results import Results, Update
from ddpm_app.ui.sessions import Run, spoken
from ddpm_app.ui.trees import MAX_BRANCHES, Growth, Path, Tree, read_paths, with_parents

ABOUT = r"""Every $x_t$ is a crossroads. Grow a trunk from noise to picture, drag to any moment of it, and
fork: the same $x_t$ goes on by other noise, and what was not yet settled turns out differently.

$$x_{t-1}^{(k)} = \mu_\theta(x_t, t) + \sigma_t\, z^{(k)}, \qquad z^{(k)} \text{ from seed } k$$"""
NO_TREE = "there is no tree in this session, or it is no longer kept: grow a new trunk first"
FINISHED = "this is the finished picture, with nothing left to draw: drag up to a noisier one and fork that"
PICKED = """(path, t, ...rest) => {
  const tree = document.querySelector(".branching");
  return [tree?.dataset.path ?? path, Number(tree?.dataset.t ?? t), ...rest];
}"""


def build(shared: Shared) -> Results:
    """Lays the tab out and wires it."""

    @spoken
    def branches(
        model: str,
        sampler: str,
        num_inference_steps: int,
        eta: float,
        variance_type: str,
        seed: int,
        timestep_spacing: str,
        precision: str,
        rederive_eps: bool,
        branches: str,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Grows a trunk from noise, and every branch whose path is given."""
        plain, paths = requested(SampleRequest, locals(), num_images=1), read_paths(branches or "")
        with shared.sessions.run(request, "branches") as run:
            loaded = yield from loading(shared, status, run, model, precision)
            top = visited(plain, loaded)[0]
            trunk = BranchRequest(**plain.recipe(), diffusion_steps=top, branch_seed=plain.seed)
            yield from measuring(shared, status, run, trunk)
            run.clock.start()
            steps, wanted = visited(plain, loaded), with_parents(paths)
            parts = [sum(t <= path[-1].diffusion_steps for t in steps) for path in wanted]
            bare, after = Tree(trunk, len(loaded.diffusion)), sum(parts)
            growing = Growing(shared, view, run)
            tree = yield from growing.grow(bare, trunk, [()], (0, after))
            grown: dict[Path, Path] = {(): ()}  # a fork begins where an x_t is kept, near the t of its path
            before = len(steps)
            for path, part in zip(wanted, parts, strict=True):
                after -= part
                owner, t, _ = tree.fork_of(grown[path[:-1]], path[-1].diffusion_steps)
                grown[path] = (*owner, Fork(t, path[-1].seed))
                tree = yield from growing.fork(tree, owner, t, [path[-1].seed], (before, after))
                before += part
        done = run.clock.finished(
            f"{len(tree.branches)} branches" if paths else "A trunk to fork",
            f"visited {visits(plain, loaded)}, computed by {loaded.backend}",
        )
        yield view.finished(done, tree, form)

    @spoken
    def fork(
        path: str,
        diffusion_steps: int,
        num_branches: int,
        noise: str,
        branch_seed: int,
        tree: Tree | None,
        request: gr.Request,
    ) -> Iterator[Update]:
        """Continues a frame of this session's tree, by new noise or by the same."""
        one_of("noise", noise, [NEW, SAME])
        if tree is None:
            raise UserError(NO_TREE)
        wanted = whole("diffusion_steps", diffusion_steps, 0, MAX_STEPS)
        if not wanted:
            raise UserError(FINISHED)
        count = whole("num_branches", num_branches, 1, 8)
        first = whole("branch_seed", branch_seed, 0, MAX_SEED)
        owner, t, _ = tree.fork_of((read_paths(path or "") or [()])[0], wanted)
        seeds = [(first + k) % (MAX_SEED + 1) for k in range(count)]
        seeds = [tree.seed(owner)] if noise == SAME else seeds
        with shared.sessions.run(request, "fork") as run:
            yield from loading(shared, status, run, tree.trunk.model, tree.trunk.precision)
            run.clock.start()
            tree = yield from Growing(shared, view, run).fork(tree, owner, t, seeds)
        yield view.finished(run.clock.finished(*told(tree, owner, t, seeds)), tree, form) | {
            view.next_seed: first + (count if noise == NEW else 0)
        }

    def standing(tree: Tree | None) -> Any:
        return tree.drawable() if tree else gr.skip()

    explain(ABOUT, "branches")
    earlier = open_tree()
    view = branch_view(shared, earlier)
    status, chain, kept = view.shown.status, view.chain, view.kept
    # not as its value, or the state would be that again once it is no longer kept
    gr.on(None, lambda: earlier, None, kept, queue=False, api_visibility="private")
    undone = Undone(standing, kept, view.drawn)
    form = view.new_trunk.wire(
        shared,
        "branches",
        branches,
        [shared.model, *chain.inputs, chain.rederive_eps, view.again],
        view.outputs,
        undone=undone,
        beside="fork",
        branches=read_paths,
    )
    view.shown.share(form, branches=view.own)  # the tree that is shown, as its pictures' recipes
    view.fork_here.run(
        shared,
        "fork",
        fork,
        [view.path, view.diffusion_steps, view.num_branches, view.noise, view.next_seed, kept],
        [*view.outputs, view.next_seed],
        js=PICKED,
        undone=undone,
        beside="branches",
    )
    return view.shown


@dataclass(frozen=True)
class Growing:
    """A run that grows a tree, which is shown while it does."""

    shared: Shared
    view: BranchView
    run: Run

    def grow(
        self, tree: Tree, request: BranchRequest, paths: list[Path], others: tuple[int, int] = (0, 0)
    ) -> Generator[Update, None, Tree]:
        """The tree with the request's branches; `others` are the run's steps before and after."""
        before, after = others
        loaded = self.shared.engine.model(request.model, request.precision)
        growth = Growth(paths, len(visited(request, loaded)))
        for frame in self.shared.engine.run(request, self.run.token):
            growth.take(frame)
            if not self.run.clock.due(before + frame.step, before + frame.num_steps + after):
                continue
            growing: Update = {self.view.shown.status: self.run.clock.line()}
            if frame.shared is not None:  # else on the way to where they begin
                tiles = sheet(torch.cat([frame.images, frame.pred_x0_images]), columns=len(paths), gap=0)
                growing[self.view.drawn] = tree.drawable(growth, picture_file(tiles, "growing"))
            yield growing
        return tree.grown(growth.branches())

    def fork(
        self, tree: Tree, path: Path, t: int, seeds: list[int], others: tuple[int, int] = (0, 0)
    ) -> Generator[Update, None, Tree]:
        """The tree with a branch for each of the consecutive seeds, from the x_t kept nearest to t."""
        owner, t, x_t = tree.fork_of(path, t)
        request = replace(
            tree.trunk,
            forks=owner,
            diffusion_steps=t,
            branch_seed=seeds[0],
            num_images=len(seeds),
            x_t=x_t,
        )
        paths = [(*owner, Fork(t, seed)) for seed in request.branch_seeds]
        if len({*paths, *(branch.path for branch in tree.branches)}) > MAX_BRANCHES:
            raise UserError(
                f"a tree holds at most {MAX_BRANCHES} branches, and this one has {len(tree.branches)}; "
                "take fewer, or grow a new trunk"
            )
        return (yield from self.grow(tree, request, paths, others))


def told(tree: Tree, owner: Path, t: int, seeds: list[int]) -> tuple[str, str]:
    """What was forked, by which noise, and how far it led from the parent's picture."""
    apart = [tree.branch((*owner, Fork(t, seed))).distance for seed in seeds]
    parent = f"branch {tree.seed(owner)}" if owner else "the trunk"
    count = f"{len(seeds)} branches" if len(seeds) > 1 else "1 branch"
    by = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    if seeds == [tree.seed(owner)]:
        same = "the same picture" if apart[0] == 0 else f"RMSE {apart[0]:.2f}, the rounding of the device"
        return f"{count} from t = {t} of {parent}", f"by its own noise, {by}: {same}"
    return (
        f"{count} from t = {t} of {parent}",
        f"by the noise of {by}; RMSE to its picture {min(apart):.1f} to {max(apart):.1f} of 255",
    )
