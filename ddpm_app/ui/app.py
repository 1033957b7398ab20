"""Composes the page: one header, one model for all tabs, the tabs, and the ways between them."""

__all__ = ["build_app", "launch_options"]

from collections.abc import Callable
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.events import Dependency
from starlette.middleware import Middleware

from ddpm_app.engine import Engine
from ddpm_app.models import DEFAULT_MODEL
from ddpm_app.ui.controls import Shared, listing
from ddpm_app.ui.files import CACHE_SECONDS, PUBLIC_CACHE_BYTES, PUBLIC_CACHE_SECONDS, sweeping
from ddpm_app.ui.gate import Gate
from ddpm_app.ui.givens import follow_model
from ddpm_app.ui.languages import Page
from ddpm_app.ui.loading import describing
from ddpm_app.ui.public import NOTICE, guard
from ddpm_app.ui.replay import replay_box
from ddpm_app.ui.results import Results
from ddpm_app.ui.sessions import Sessions
from ddpm_app.ui.tabs import (
    branches,
    compare,
    compression,
    ddim,
    evaluate,
    figures,
    forward,
    improved,
    interpolate,
    likelihood,
    progressive,
    sample,
    score,
    stochastic,
)
from ddpm_app.ui.theme import THEME
from ddpm_app.ui.tools import ready_tools

PUBLIC_SESSIONS = 256  # remembered at a time, each with 1.4 MB and perhaps a tree
HEADER = """# The interactive DDPM paper
Every experiment of *Denoising Diffusion Probabilistic Models* (Ho, Jain, Abbeel 2020), live on this machine.
Choose a model, open a tab, press its button."""


def build_app(
    engine: Engine | None = None, model: str = DEFAULT_MODEL, *, training: bool = True
) -> gr.Blocks:
    """The whole page on this engine; `model` is the one chosen at first.

    Without `training` there is neither a tab for it nor any way to start a run. The engine's limits, where it
    has any, make it a page for strangers.
    """
    engine = engine or Engine()
    public = engine.limits.public
    training = training and not public
    kept = PUBLIC_CACHE_SECONDS if public else CACHE_SECONDS
    with Page(title="The interactive DDPM paper", analytics_enabled=False, delete_cache=kept) as demo:
        # while the page is empty, since it builds a server for what is there
        demo.queue(api_open=False, max_size=64, default_concurrency_limit=24)
        gr.Markdown(HEADER, elem_classes="header")
        if public:
            gr.Markdown(NOTICE, elem_classes="header")
        replay = replay_box()
        with gr.Row(elem_classes="model"):
            chosen = gr.Dropdown(
                list(dict.fromkeys([model, *engine.offered_models()])),
                value=model,
                label="Model",
                info=None if public else "a name, or type a folder or a Hub repository as owner/repo",
                allow_custom_value=not public,
                scale=1,
                min_width=260,
            )
            facts = gr.Markdown(elem_classes="facts")
        shared = Shared(engine, Sessions(alone=public), chosen, facts)
        with gr.Tabs() as tabs:
            with gr.Tab("Sample", id="sample"):
                samples = sample.build(shared)
            with gr.Tab("Progressive", id="progressive"):
                films = progressive.build(shared)
            with gr.Tab("Stochastic x₀", id="stochastic"):
                continuations, frozen = stochastic.build(shared)
            with gr.Tab("Interpolate", id="interpolate"):
                between, picture_a, picture_b = interpolate.build(shared)
            with gr.Tab("Branches", id="branches"):
                grown = branches.build(shared)
            with gr.Tab("Compare", id="compare"):
                compared = compare.build(shared)
            with gr.Tab("Forward", id="forward") as tab:
                noised = forward.build(shared, tab)
            with gr.Tab("Likelihood", id="likelihood"):
                measured = likelihood.build(shared)
            with gr.Tab("Compression", id="compression"):
                compressed, codes = compression.build(shared)
            with gr.Tab("Score", id="score") as tab:
                score.build(shared, tab)
            with gr.Tab("DDIM", id="ddim"):
                deterministic, encoded, experiments = ddim.build(shared)
            with gr.Tab("Improved DDPM", id="improved"):
                respaced = improved.build(shared)
            with gr.Tab("Figures", id="figures"):
                figures.build(shared)
            with gr.Tab("Evaluate", id="evaluate"):
                evaluate.build(shared, local=training and not public)
            if training:
                from ddpm_app.ui.tabs import train

                with gr.Tab("Train", id="train") as tab:
                    train.build(shared, tab)
        targets = {
            "Stochastic x₀": ("stochastic", frozen),
            "Interpolate from": ("interpolate", picture_a),
            "Interpolate to": ("interpolate", picture_b),
            "Forward": ("forward", noised),
            "Likelihood": ("likelihood", measured),
            "Compression": ("compression", compressed),
            "Reconstruct": ("ddim", encoded),
        }
        for shown in (samples, films, continuations, between, grown, compared, *deterministic, respaced):
            with shown.send_row:
                sent = send_buttons(shown, tabs, targets)
            for label, inner, tab in (
                ("Reconstruct", experiments, "reconstruct"),
                ("Compression", codes, "compression"),
            ):
                sent[label].success(
                    partial(gr.Tabs, selected=tab), outputs=inner, queue=False, api_visibility="private"
                )
        follow_model(shared)
        described = [facts, *shared.timestep_sliders]
        opened = replay.wire(shared, demo)
        for event in (chosen.change, opened.then):
            event(
                describing(shared),
                [chosen, *shared.timestep_sliders],
                described,
                show_progress="hidden",
                trigger_mode="multiple",
                api_visibility="private",
            )
        for event in (chosen.focus, demo.load):
            event(
                listing(engine.offered_models),
                chosen,
                chosen,
                show_progress="hidden",
                api_visibility="private",
            )
        demo.unload(shared.sessions.leave)
        if public:
            guard(demo, shared)
    return demo


def send_buttons(
    shown: Results, tabs: gr.Tabs, targets: dict[str, tuple[str, gr.Image]]
) -> dict[str, Dependency]:
    """A button for each place a picked picture can go to, and what its click does."""
    gr.HTML("Send the picked picture to", elem_classes="sendlabel")
    return {
        label: gr.Button(label, size="sm", min_width=90).click(
            sending(tab),
            [shown.gallery, shown.picked],
            [image, tabs],
            show_progress="hidden",
            api_visibility="private",
        )
        for label, (tab, image) in targets.items()
    }


def sending(tab: str) -> Callable:
    """A handler that puts the picked picture into a tab and opens it."""

    def send(pictures: list[tuple[str, str]] | None, picked: int) -> tuple:
        if not pictures:
            raise gr.Error(
                "There is nothing to send yet: press this tab's button first.", print_exception=False
            )
        return pictures[min(picked, len(pictures) - 1)][0], gr.Tabs(selected=tab)

    return send


def launch_options(*, public: bool = False, tools: bool = False) -> dict:
    """What launch() needs to know about this page, or one for strangers, or one that serves tools."""
    if tools:
        ready_tools()
    kept = (*PUBLIC_CACHE_SECONDS, PUBLIC_CACHE_BYTES) if public else CACHE_SECONDS
    scripts = [Path(__file__).with_name(name).read_text() for name in ("accessible.js", "crisp.js")]
    return {
        "mcp_server": tools,
        "theme": THEME,
        "css_paths": [Path(__file__).with_name("style.css")],
        "js": "() => {" + "".join(f"(\n{script}\n)();" for script in scripts) + "}",
        "footer_links": ["api", "settings"],
        "max_file_size": "5mb" if public else "20mb",
        "show_error": not public,  # what Gradio itself refuses is then said in words; and so are bugs
        "run_history": False,
        "state_session_capacity": PUBLIC_SESSIONS if public else 10_000,
        "enable_monitoring": False,
        "_frontend": False,  # Gradio does not look itself whether its page comes within 3 s, and end if not
        "app_kwargs": {"lifespan": sweeping(*kept), "middleware": [Middleware(Gate)] if public else []},
    }
