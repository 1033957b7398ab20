"""Train a model on your pictures; an interrupted run resumes by itself."""

import argparse
import contextlib
import json
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ddpm_app.commands.report import result, writable_folder
from ddpm_app.errors import UserError
from ddpm_app.training import Progress, TrainingConfig, train
from ddpm_app.training.checkpoints import SETTINGS
from ddpm_app.training.config import ALLOWED, PLACES
from ddpm_app.training.data import SOURCES
from ddpm_app.training.machine import is_first_process
from ddpm_app.training.records import read

HELP = {
    "data": SOURCES,
    "out": "the folder of the model and of the run's state",
    "held_out": "pictures never learned from; L_simple of the first 512 is measured, of the averaged weights",
    "block_out_channels": "the widths of the network, from the picture's size down",
    "attention_resolutions": "edges of the maps that attend to themselves",
    "attention_head_dim": "channels of a head; 0 for one head",
    "init_from": "a model whose weights to begin with",
    "guide": "a weaker model, to lead that of --init-from away from: learns to sample more clearly",
    "guidance_scale": "how far to lead away; 1 is not at all",
    "guidance_from": "the share of the timesteps below which the pictures themselves are learned",
    "min_snr_gamma": "weigh timesteps by min(SNR, this); 0 for all alike",
    "batch_size": "pictures a step, over all processes",
    "gradient_accumulation_steps": "parts in which a process takes its pictures, to save memory",
    "final_learning_rate": "share of the learning rate at the last step",
    "log_with": "tensorboard or trackio, beside the run's own progress.jsonl",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every field of a TrainingConfig, `--num-steps` for num_steps; what is not given comes from --config."""
    parser.add_argument("--config", help="the training.json of another run, whose settings to take over")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go on with the run in --out if there is one",
    )
    for field in fields(TrainingConfig):
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            default=argparse.SUPPRESS,
            help=described(field),
            **kind(field),
        )


def described(field: Field) -> str:
    """What the field is for, and its default."""
    default = "" if field.default in (MISSING, "") else f"default: {field.default}"
    text = HELP.get(field.name) or ", ".join(ALLOWED.get(field.name, ()))
    return f"{text} ({default})" if text and default else text or default


def kind(field: Field) -> dict[str, Any]:
    """How argparse reads the field."""
    if isinstance(field.default, bool):
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(field.default, tuple):
        return {"type": int, "nargs": "*"}
    return {"type": str if field.default is MISSING else type(field.default)}


def run(options: argparse.Namespace) -> None:
    """Trains under a progress bar; SIGTERM and Ctrl-C end it saved, after the step at hand."""
    config = TrainingConfig(**settings(options))
    writable_folder(config.out)
    with told_to_stop() as stopping:
        reports = deque(shown(train(config, resume=options.resume, stopping=stopping)), maxlen=1)
    if not is_first_process():
        return
    steps, loss = read(Path(config.out) / SETTINGS).get("steps_done", config.num_steps), None
    told = f"all {steps} steps were done before; "
    if reports:
        steps, loss = reports[0].step, reports[0].loss
        again = "the same command resumes" + ("" if options.resume else " without --no-resume")
        told = f"stopped after step {steps}, {again}; " if steps < config.num_steps else ""
    values = {"out": config.out, "steps": steps, "loss": loss}
    result(options, f"{told}the model is in {config.out}", values)


@contextlib.contextmanager
def told_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM or Ctrl-C came; from the first time this is asked they do no more within the block.

    Before, while pictures are loading and no step is at hand, they end the process at once.
    """
    stop = threading.Event()
    before: dict[int, Any] = {}

    def stopping() -> bool:
        if not before:
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, lambda *_: stop.set())
        return stop.is_set()

    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The fields given, over those of the --config file; UserError where one that is needed is missing."""
    named = [field.name for field in fields(TrainingConfig)]
    values: dict[str, Any] = {}
    if options.config:
        try:
            read = json.loads(Path(options.config).read_text())
            values = tuples({name: read[name] for name in named if name in read})
            TrainingConfig(**values)  # a file edited by hand may hold anything
        except (OSError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"--config {options.config} is not the training.json of a run ({reason})"
            ) from error
    given = tuples({name: value for name, value in vars(options).items() if name in named})
    values = {name: value for name, value in values.items() if name not in PLACES}  # of the other machine
    for name in ("data", "out"):
        if name not in given:
            raise UserError(f"--{name} is missing: {HELP[name]}")
    return values | given


def tuples(values: dict[str, Any]) -> dict[str, Any]:
    """The same with tuples for lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def shown(reports: Iterable[Progress]) -> Iterator[Progress]:
    """The same reports, each told on the way: in a bar on a terminal, else in a line."""
    bar = None
    for at in reports:
        text = f"loss {at.loss:.4f}  {at.images_per_second:.1f} images/s"
        text += f"  held-out L_simple {at.held_out_loss:.4f}" if at.held_out_loss is not None else ""
        if sys.stderr.isatty():
            bar = bar or tqdm(total=at.num_steps, initial=at.step, unit="step", dynamic_ncols=True)
            bar.update(at.step - bar.n)
            bar.set_postfix_str(text)
        else:
            with contextlib.suppress(OSError):  # nobody reads any more, or the log's disk is full: train on
                print(f"step {at.step} of {at.num_steps}  {text}  {at.seconds_left:.0f} s left", flush=True)
        yield at
    if bar:
        bar.close()
