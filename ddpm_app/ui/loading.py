"""What a visitor sees while a model comes: how much of its download is here."""

__all__ = ["describing", "fetched", "loading", "measuring"]

from collections.abc import Callable, Generator, Iterator

import gradio as gr

from ddpm_app.engine import SampleRequest
from ddpm_app.errors import UserError
from ddpm_app.models import Model
from ddpm_app.ui.controls import Shared
from ddpm_app.ui.results import LOADING, Update
from ddpm_app.ui.sessions import Run, as_text, bar, spoken


def loading(
    shared: Shared, status: gr.HTML, run: Run, model: str, precision: str = "exact"
) -> Generator[Update, None, Model]:
    """The loaded model, after updates of the status line; a Stop ends the waiting, the download goes on."""
    yield {status: LOADING}
    for here, size in shared.engine.loading(model, precision):
        run.token.check()
        if size:
            yield {status: bar(fetched(here, size), here / size, unfinished=True)}
    return shared.engine.model(model, precision)


def measuring(
    shared: Shared, status: gr.HTML, run: Run, *requests: SampleRequest
) -> Generator[Update, None, None]:
    """Updates of the status line while the analytic variance is measured, for those that have it."""
    for each in requests:
        run.clock.start()
        for step, num_steps in shared.engine.measuring(each, run.token):
            if run.clock.due(step, num_steps):
                yield {status: run.clock.line(f"Measuring the variance: {step} of {num_steps}")}


def fetched(here: int, size: int) -> str:
    """How much of a download is here, in words."""
    return f"Fetching the model from the Hub: {here / 1e6:,.1f} of {size / 1e6:,.1f} MB"


def describing(shared: Shared) -> Callable:
    """A handler that loads the chosen model, says what it is and fits the sliders, `placed`, to its chain.

    It falls silent where its visitor has chosen anew.
    """
    newest: dict[str | None, object] = {}

    @spoken
    def describe(name: str, request: gr.Request, *placed: int) -> Iterator[list]:
        rest, visitor, mine = [gr.skip()] * len(shared.timestep_sliders), request.session_hash, object()
        newest[visitor] = mine
        try:
            for here, size in shared.engine.loading(name):
                if newest.get(visitor) is not mine:
                    yield [gr.skip(), *rest]  # the page is shown the last update once more at the end
                    return
                if size:
                    yield [bar(fetched(here, size), here / size), *rest]
            model = shared.engine.model(name)
            length = len(model.diffusion)
            sliders = [
                gr.update(maximum=length, value=length) if t and t > length else gr.update(maximum=length)
                for t in placed
            ]
            yield [facts(model), *sliders] if newest.get(visitor) is mine else [gr.skip(), *rest]
        except UserError as error:
            yield [f"**This model cannot be used:** {as_text(str(error))}", *rest]
        finally:
            if newest.get(visitor) is mine:
                del newest[visitor]

    return describe


def facts(model: Model) -> str:
    """What the model is, and the notes on how its configuration was understood, in Markdown."""
    channels, height, width = model.image_shape
    parts = [
        f"{height} × {width} {'gray' if channels == 1 else 'RGB'}",
        f"{model.num_parameters / 1e6:.1f}M parameters" if model.num_parameters else "no parameters",
        f"T = {len(model.diffusion)}",
        f"predicts {model.diffusion.prediction_type}",
        f"variance {model.diffusion.variance_type}",
        model.backend,
    ]
    return "\n\n".join([" · ".join(parts), *(f"*{note}*" for note in model.notes)])
