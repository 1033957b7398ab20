"""Figures: those of the paper, drawn by the chosen model as pictures ready for a slide."""

__all__ = ["build"]

from collections.abc import Iterator

import gradio as gr

from ddpm_app.engine.likelihood import least_terms
from ddpm_app.errors import one_of
from ddpm_app.pictures import save_png
from ddpm_app.ui.buttons import run_buttons
from ddpm_app.ui.code import code_block, measured
from ddpm_app.ui.controls import SEEDS_ALIKE, Shared, explain
from ddpm_app.ui.files import new_folder
from ddpm_app.ui.givens import examples, own_or_given
from ddpm_app.ui.links import copies_link, link_button
from ddpm_app.ui.loading import loading
from ddpm_app.ui.paper import FIGURES, Setting
from ddpm_app.ui.results import Update, crisp, status_line
from ddpm_app.ui.sessions import bar, spoken
from ddpm_app.ui.slides import slide

ABOUT = """The paper, drawn anew by the chosen model with the paper's settings, to keep as a slide.

Figure 2 is a drawing. Figure 10 and tables 1 to 3 judge thousands of samples, which is the work of the
commands `evaluate` and `ablate`."""
FIRST_LOOK = 100
STEPS = [("all, as in the paper", 0), (f"{FIRST_LOOK}, for a first look", FIRST_LOOK)]


def build(shared: Shared) -> None:
    """Lays the tab out and wires it."""

    @spoken
    def figure(model: str, name: str, reverse_steps: int, seed: int, request: gr.Request) -> Iterator[Update]:
        """Draws a figure of the paper as a slide; 0 reverse steps are all."""
        one_of("name", name, FIGURES)
        wanted = FIGURES[name]
        with shared.sessions.run(request, "figure") as run:
            loaded = yield from loading(shared, status, run, model)
            run.clock.start()
            steps = min(reverse_steps or len(loaded.diffusion), len(loaded.diffusion))
            files = begun_from(shared, model, wanted.num_pictures)
            pictures = own_or_given(shared, model, files, seed, run.token)
            setting = Setting(shared.engine, loaded, model, steps, seed, run.token, pictures)
            length = len(loaded.diffusion)
            caption = f"{model}, {steps} of {length} reverse steps, seed {seed}"
            if not wanted.num_chains:  # a picture is sent, and no chain walked
                terms = min(length, max(steps, least_terms(length)))
                caption = f"{model}, {terms} of {length} timesteps measured, seed {seed}"
            for share, picture in wanted.draw(setting):
                if run.clock.due(100 * share, 100):
                    drawing = slide(f"{name}: {wanted.title}", picture(), caption)
                    file = save_png(drawing.reduce(2), new_folder() / "preview.png")
                    yield {status: run.clock.line(f"{share:.0%} of {name.lower()}"), shown: str(file)}
        told = shared.forms["figure"].told(locals())
        recipe = {"procedure": "figure", "name": name, "model": model, "reverse_steps": steps, "seed": seed}
        file = save_png(drawing, new_folder() / "slide.png", recipe | told.recipe)
        yield {
            status: run.clock.finished(name, f"{caption}, computed by {loaded.backend}"),
            shown: str(file),
            download: gr.DownloadButton(value=str(file), interactive=True),
            code: measured(told),
        }

    explain(ABOUT, "figures")
    with gr.Row(elem_classes="tab"):
        with gr.Column(scale=1, min_width=280):
            buttons = run_buttons("Draw")
            name = gr.Radio(
                [(f"{name}: {each.title}", name) for name, each in FIGURES.items()],
                value="Figure 6",
                label="From the paper",
                elem_classes="list",
            )
            steps = gr.Radio(STEPS, value=0, label="Reverse steps")
            seed = gr.Number(7, label="Seed", info=SEEDS_ALIKE, minimum=0)
        with gr.Column(scale=2, min_width=300):
            status = status_line(bar("Press Draw: with all steps a figure takes one to several minutes", 0))
            shown = crisp("Slide", enlarged=True)
            with gr.Row(elem_classes="late"):
                download = gr.DownloadButton("Slide as PNG", size="sm", interactive=False, min_width=90)
                link = link_button()
            code = code_block()
    inputs, outputs = [shared.model, name, steps, seed], [status, shown, download, code]
    copies_link(link, buttons.wire(shared, "figure", figure, inputs, outputs))


def begun_from(shared: Shared, model: str, count: int) -> list[str | None]:
    """So many pictures that a bundled model drew for its folder; None for those that it has yet to draw."""
    return [*examples(shared, model), *[None] * count][:count]
