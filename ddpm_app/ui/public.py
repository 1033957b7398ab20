"""A page for strangers: what a click would take, told before it and checked before the queue.

The limits are the engine's, which holds every run to them once more; here they meet the widgets. A button
without a row in WORK is told nothing, and is held at the engine's border alone.
"""

__all__ = ["NOTICE", "guard", "is_public", "limits_of", "may_train"]

import argparse
import asyncio
import inspect
import os
from collections.abc import Callable
from typing import Any

import gradio as gr
from fastapi import Request
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event

from ddpm_app.engine import UNLIMITED, Engine, Limits, visitors_limits
from ddpm_app.errors import UserError
from ddpm_app.models import HUB_MODELS, Model, available_models, resolve_devices
from ddpm_app.ui.controls import Shared
from ddpm_app.ui.sessions import ONE_AT_A_TIME
from ddpm_app.ui.work import BESIDE, WORK

Answer = tuple[bool, Any, Any]  # as Gradio's queue gives it: taken or not, what it is called or why, the kind
MOST_EVENTS = 16  # of one visitor in the queue and at work, beside runs
NOTICE = """This page is open to everybody: one run at a time for each visitor, within the budget that stands
under its button. On a machine of your own nothing is limited."""


def is_public(options: argparse.Namespace) -> bool:
    """Whether strangers may come to the page."""
    return options.public or options.share or "SPACE_ID" in os.environ


def may_train(options: argparse.Namespace) -> bool:
    """Whether the page may start training runs: never where anybody may open it."""
    own = options.host in ("127.0.0.1", "localhost", "::1")
    return not is_public(options) and (own or bool(options.auth))


def limits_of(options: argparse.Namespace) -> Limits:
    """None on one's own machine; else a budget by hardware, and a list of models that stays as it is."""
    if not is_public(options):
        return UNLIMITED
    offline = os.getenv("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    models = [options.model, *available_models(options.checkpoints), *([] if offline else HUB_MODELS)]
    return visitors_limits(resolve_devices(options.device), list(dict.fromkeys(models)))


def guard(demo: gr.Blocks, shared: Shared) -> None:
    """Within the page: every served endpoint is checked before it queues, its share told under its button."""
    for fn in list(demo.fns.values()):
        line = shared.budget_lines.get(str(fn.api_name))
        if line and fn.api_name in WORK:
            line.visible = True
            follows = [each.change for each in fn.inputs if hasattr(each, "change")]
            gr.on(
                [*follows, shared.facts.change],
                telling(shared.engine, fn),
                fn.inputs,
                line,
                queue=False,
                show_progress="hidden",
                trigger_mode="always_last",
                api_visibility="private",
            )
    push = demo._queue.push

    # in place of Gradio's validators, which answer a value that a widget refuses without its sentence
    async def admitted(body: PredictBodyInternal, request: Request, username: str | None) -> Answer:
        fn, session = demo.fns.get(body.fn_index), str(body.session_hash)  # type: ignore[arg-type]
        if fn and fn.api_visibility != "public" and len(events_of(demo, session)) >= MOST_EVENTS:
            return False, ONE_AT_A_TIME, "queue_full"
        if fn and fn.api_visibility == "public":
            try:
                await asyncio.to_thread(admit, shared, fn, body.data)
                if shared.sessions.busy(session) or any(
                    each.fn.api_visibility == "public" for each in events_of(demo, session, working=False)
                ):
                    raise UserError(ONE_AT_A_TIME)
            except UserError as error:
                said = gr.validate(False, str(error)) | {"parameter_name": parameters(fn)[0]}
                return False, [said], "validator_error"
        return await push(body=body, request=request, username=username)

    demo._queue.push = admitted  # type: ignore[method-assign]


def admit(shared: Shared, fn: BlockFunction, values: list[Any]) -> None:
    """UserError for a model that is not on the list, and for more than the budget."""
    arguments, limits = dict(zip(parameters(fn), values, strict=False)), shared.engine.limits
    name = arguments.get("model")
    if isinstance(name, str):  # or the request itself will say that it is none
        limits.admit(name)
        if loaded := shared.engine.loaded(name):  # else the engine checks it, once it is
            limits.check(share(limits, fn, loaded, arguments))


def telling(engine: Engine, fn: BlockFunction) -> Callable:
    """A handler that says what part of the budget the button would take as its widgets stand.

    Nothing of a model that is still on its way: to wait for it would hold up everybody's handlers.
    """
    names = parameters(fn)

    def told(*values: Any) -> str:
        arguments = dict(zip(names, values, strict=True))
        loaded = engine.loaded(arguments["model"])
        if loaded is None:
            return ""
        try:
            part = share(engine.limits, fn, loaded, arguments)
            engine.limits.check(part)
        except UserError as error:
            return f"**Too much here:** {error}"
        return f"Takes {max(1, round(100 * part))} % of what one run may take on this public page."

    return told


def parameters(fn: BlockFunction) -> list[str]:
    """The names of what its widgets give, in their order."""
    declared = inspect.signature(fn.fn).parameters.values() if fn.fn else ()
    return [each.name for each in declared if each.annotation is not gr.Request]


def share(limits: Limits, fn: BlockFunction, loaded: Model, arguments: dict[str, Any]) -> float:
    """The part of the budget that these arguments ask for; 0 for what is no request at all."""
    given = zip(fn.inputs, arguments.values(), strict=False)
    if not all(is_number(value) for widget, value in given if isinstance(widget, gr.Slider | gr.Number)):
        return 0.0  # to multiply a word by a number would repeat it
    try:
        name = str(fn.api_name)
        return limits.share(WORK[name](**arguments, loaded=loaded), loaded, BESIDE.get(name, 0.0))
    except (KeyError, OverflowError, TypeError):  # the request itself will say what is wrong with them
        return 0.0


def is_number(value: Any) -> bool:
    """Whether a number came where a widget gives one, and not a truth."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def events_of(demo: gr.Blocks, session: str, *, working: bool = True) -> list[Event]:
    """What of this visitor's waits in the queue, and what is `working`."""
    waiting = [each for queue in demo._queue.event_queue_per_concurrency_id.values() for each in queue.queue]
    under_way = [each for job in demo._queue.active_jobs for each in job or []] if working else []
    return [each for each in (*waiting, *under_way) if each.session_hash == session]
