"""How the Branches tab looks: a tree to walk, what continues it, and its pictures once a run has ended."""

__all__ = ["NEW", "SAME", "BranchView", "branch_view"]

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import torch
from gradio.components import Component

from ddpm_app.core.samplers import SAMPLERS
from ddpm_app.ui.buttons import RunButtons, run_buttons
from ddpm_app.ui.controls import SEEDS_ALIKE, ChainControls, Shared, chain_controls
from ddpm_app.ui.files import picture_file
from ddpm_app.ui.forms import Form
from ddpm_app.ui.results import Results, Update, results, status_line
from ddpm_app.ui.sessions import bar
from ddpm_app.ui.trees import Tree, ordered

NEW, SAME = "new", "same"
NOISES = [("new noise", NEW), ("the same noise", SAME)]
UI = Path(__file__).parent


@dataclass(frozen=True)
class BranchView:
    """The tab's components."""

    new_trunk: RunButtons
    chain: ChainControls
    again: gr.Textbox  # the paths of branches to grow with a new trunk
    drawn: gr.HTML
    path: gr.Textbox  # of the frame picked in `drawn`, hidden, as is its t
    diffusion_steps: gr.Number
    num_branches: gr.Slider
    noise: gr.Radio
    next_seed: gr.Number
    fork_here: RunButtons
    own: gr.Textbox  # the paths of the tree's branches
    shown: Results
    kept: gr.State  # the tree, for an hour

    @property
    def outputs(self) -> list[Component]:
        """What both handlers fill, the status line first."""
        return [self.shown.status, self.drawn, self.own, self.kept, *self.shown.outputs[1:]]

    def finished(self, line: str, tree: Tree, form: Form) -> Update:
        """The end of a run: the tree to walk, as one figure, and a picture for each branch."""
        rows = [tree.branch(path) for path in ordered([branch.path for branch in tree.branches])]
        figure, told = tree.picture(), form.told(tree.recipe())
        file = picture_file(figure, "tree", tree.recipe() | told.recipe)
        update = self.shown.finished(
            line,
            figure,
            torch.stack([branch.image for branch in rows]),
            [f"seed {tree.seed(branch.path)}" for branch in rows],
            [tree.alone(branch.path) for branch in rows],
            told=told,
            procedure="branch",
            others=[file],
        )
        files = {
            self.shown.sheet: file,
            self.shown.sheet_file: gr.DownloadButton(value=file, interactive=True),
        }
        return update | files | {self.drawn: tree.drawable(), self.kept: tree, self.own: tree.paths}


def branch_view(shared: Shared, earlier: Tree | None) -> BranchView:
    """The components in their place, with a tree made earlier where there is one."""
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            new_trunk = run_buttons("New trunk", "secondary")
            chain = chain_controls(shared, "ddpm", 100, eta=1.0, first_seed=39, offered=list(SAMPLERS))
            with gr.Accordion("The whole tree again", open=False):
                again = gr.Textbox(
                    "",
                    label="Branches to grow with a new trunk",
                    info="a path each, as t:seed/t:seed; below a tree stand its own, to keep",
                    lines=3,
                )
        with gr.Column(scale=2, min_width=300):
            drawn = gr.HTML(
                earlier and earlier.drawable(),
                html_template=(UI / "branching.html").read_text(),
                css_template=(UI / "branching.css").read_text(),
                js_on_load=(UI / "branching.js").read_text(),
            )
            path = gr.Textbox("", visible=False)
            diffusion_steps = gr.Number(600, visible=False)
            with gr.Row(elem_classes="forking"):
                num_branches = gr.Slider(1, 8, value=4, step=1, label="Branches", min_width=130)
                noise = gr.Radio(NOISES, value=NEW, label="Continued by", min_width=130)
                next_seed = gr.Number(
                    200, label="First seed of the noise", info=SEEDS_ALIKE, minimum=0, min_width=110
                )
            fork_here = run_buttons("Fork here")
            status = status_line(
                bar("Press New trunk: a picture appears whose every moment can be forked", 0)
            )
            with gr.Accordion("The tree as one figure, its pictures to keep and to send on", open=False):
                own = gr.Textbox(
                    earlier.paths if earlier else "",
                    label="Its branches, which grow it again with its seed and settings",
                    interactive=False,
                    buttons=["copy"],
                )
                shown = results("A row for each branch: x̂₀ over t, the picture last", status=status)
            kept = gr.State(None, time_to_live=3600)
    controls = (num_branches, noise, next_seed)
    return BranchView(
        new_trunk, chain, again, drawn, path, diffusion_steps, *controls, fork_here, own, shown, kept
    )
