"""What several tabs share: how to walk the chain, the seed, a tab's explanation."""

__all__ = [
    "SAMPLING_VARIANCES",
    "SEEDS_ALIKE",
    "ChainControls",
    "Shared",
    "Shelf",
    "chain_controls",
    "explain",
    "listing",
    "requested",
    "seed_control",
    "spans_chain",
]

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from ddpm_app.core.analytic import ANALYTIC
from ddpm_app.core.diffusion import Spacing
from ddpm_app.engine import EVERY_SAMPLER, CodingRequest, CompressionRequest, Engine, SampleRequest
from ddpm_app.ui.forms import Form
from ddpm_app.ui.sessions import Sessions

SAMPLER_LABELS = {
    "ddpm": "DDPM, ancestral",
    "ddim": "DDIM",
    "langevin": "Annealed Langevin",
    "dpmsolver++": "DPM-Solver++",
    "unipc": "UniPC",
    "sde-dpmsolver++": "SDE-DPM-Solver++",
}
VARIANCES = [
    ("as the model says", "auto"),
    ("small: posterior variance", "fixed_small"),
    ("large: beta", "fixed_large"),
    ("learned range", "learned_range"),
]
SAMPLING_VARIANCES = [*VARIANCES, ("analytic: measured first", ANALYTIC)]
SEEDS_ALIKE = "seeds 2³² apart are alike"  # to torch's CPU generator, which reads the low 32 bits
GUIDE = Path(__file__).with_name("guide")
Request = TypeVar("Request", bound=SampleRequest | CompressionRequest | CodingRequest)


@dataclass(frozen=True)
class Shelf:
    """Examples for one picture input, which begins with the one at place `first` or stays empty."""

    offered: gr.Dataset
    image: gr.Image
    first: int


@dataclass(frozen=True)
class Shared:
    """What every tab is built with."""

    engine: Engine
    sessions: Sessions
    model: gr.Dropdown
    facts: gr.Markdown  # what the chosen model is, said once it is loaded
    # filled while the tabs are built
    timestep_sliders: list[gr.Slider] = field(default_factory=list)
    budget_lines: dict[str, gr.Markdown] = field(default_factory=dict)  # by the tab's name
    forms: dict[str, Form] = field(default_factory=dict)  # by the tab's name too
    shelves: list[Shelf] = field(default_factory=list)  # of examples
    choices: list[Dependency] = field(default_factory=list)  # clicks that choose the model, outside its box


@dataclass(frozen=True)
class ChainControls:
    """The fields of a SampleRequest that are alike in every tab."""

    sampler: gr.Dropdown
    num_inference_steps: gr.Slider
    eta: gr.Slider
    variance_type: gr.Dropdown
    seed: gr.Number
    timestep_spacing: gr.Dropdown
    precision: gr.Radio
    rederive_eps: gr.Checkbox  # not among the inputs, since handlers take it last

    @property
    def inputs(self) -> list[Component]:
        """In the order of the handlers' parameters."""
        return [
            self.sampler,
            self.num_inference_steps,
            self.eta,
            self.variance_type,
            self.seed,
            self.timestep_spacing,
            self.precision,
        ]


def chain_controls(
    shared: Shared,
    sampler: str,
    num_inference_steps: int,
    *,
    eta: float = 0.0,
    offered: Sequence[str] = EVERY_SAMPLER,
    first_seed: int = 7,
    seed: gr.Number | None = None,
) -> ChainControls:
    """Sampler, steps, eta or variance, seed with a dice, and finer settings folded away.

    Given the `seed` of other controls, these have none of their own.
    """
    choices = [(SAMPLER_LABELS.get(name, name), name) for name in offered]
    chosen = gr.Dropdown(choices, value=sampler, label="Sampler")
    reverse_steps = gr.Slider(1, 1000, value=num_inference_steps, step=1, label="Reverse steps")
    steps = spans_chain(shared, reverse_steps)
    noisiness = gr.Slider(
        0,
        1,
        value=eta,
        step=0.05,
        label="eta",
        info="0 is deterministic, 1 as noisy as DDPM",
        visible=sampler == "ddim",
    )
    variance = gr.Dropdown(
        SAMPLING_VARIANCES, value="auto", label="Reverse variance", visible=sampler == "ddpm"
    )
    number = seed or seed_control(first_seed)
    with gr.Accordion("Finer settings", open=False):
        spacing = gr.Dropdown(
            [("as the model says", "auto"), *((name, name) for name in get_args(Spacing))],
            value="auto",
            label="Which timesteps are visited",
        )
        precision = gr.Radio(
            ["exact", "fast"], value="exact", label="Arithmetic", info="fast: bfloat16 where it pays"
        )
        rederive_eps = gr.Checkbox(
            True,
            label="ε follows the clipped x̂₀",
            info="off only to compare: x̂₀ is clipped, ε stays the network's own",
            visible=sampler == "ddim",
        )
    chosen.change(
        lambda name: [gr.update(visible=name == kind) for kind in ("ddim", "ddim", "ddpm")],
        chosen,
        [noisiness, rederive_eps, variance],
        queue=False,
        api_visibility="private",
    )
    return ChainControls(chosen, steps, noisiness, variance, number, spacing, precision, rederive_eps)


def seed_control(first: int = 7) -> gr.Number:
    """The seed, with a dice beside it."""
    with gr.Row(elem_classes="seed"):
        number = gr.Number(first, label="Seed", info=SEEDS_ALIKE, minimum=0, scale=4, min_width=90)
        dice = gr.Button("\N{DIE FACE-5}", scale=0, min_width=48, elem_classes="dice")
    dice.click(lambda: random.randrange(2**32), outputs=number, queue=False, api_visibility="private")
    return number


def requested(kind: type[Request], arguments: dict[str, Any], **others: Any) -> Request:
    """A request of that kind from those of a handler's arguments that are its fields, and from `others`."""
    own = {each.name: arguments[each.name] for each in fields(kind) if each.name in arguments}
    return kind(**own | others)


def listing(offered: Callable[[], Sequence[str]]) -> Callable[[str], gr.Dropdown]:
    """A handler that reads the model names anew, so that a folder added meanwhile appears."""

    def names(chosen: str) -> gr.Dropdown:
        return gr.Dropdown(list(dict.fromkeys([chosen, *offered()])))

    return names


def spans_chain(shared: Shared, slider: gr.Slider) -> gr.Slider:
    """The slider over timesteps, which will follow the length of the chosen model's chain."""
    shared.timestep_sliders.append(slider)
    return slider


def explain(about: str, tab: str) -> None:
    """What a tab shows, in two sentences and its equation, and folded away what its guide says."""
    delimiters: list[dict] = [
        {"left": "$$", "right": "$$", "display": True},
        {"left": "$", "right": "$", "display": False},
    ]
    gr.Markdown(about, latex_delimiters=delimiters, elem_classes="about")
    with gr.Accordion("What am I seeing?", open=False, elem_classes="guide"):
        gr.Markdown((GUIDE / f"{tab}.md").read_text(), latex_delimiters=delimiters)
