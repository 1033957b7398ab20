"""Train a model on your pictures; an interrupted run resumes by itself."""

import argparse
from dataclasses import MISSING, fields
from typing import Any

from ddpm_app.commands.report import result, writable_folder
from ddpm_app.training import TrainingConfig, train
from ddpm_app.training.data import SOURCES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every field of a TrainingConfig; `--num-steps` for num_steps, and so on."""
    for field in fields(TrainingConfig):
        flag = "--" + field.name.replace("_", "-")
        if field.default is MISSING:
            parser.add_argument(flag, required=True, help="a folder" if field.name == "out" else SOURCES)
        elif isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=" ")
        elif isinstance(field.default, tuple):
            parser.add_argument(flag, type=int, nargs="+", default=field.default, help=" ")
        else:
            parser.add_argument(flag, type=type(field.default), default=field.default, help=" ")


def run(options: argparse.Namespace) -> None:
    """One line for each report of the loop."""
    values = {field.name: getattr(options, field.name) for field in fields(TrainingConfig)}
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    config = TrainingConfig(**settings)
    writable_folder(config.out)
    loss = float("nan")
    for at in train(config):
        loss = at.loss
        print(
            f"step {at.step} of {at.num_steps}  loss {loss:.4f}  {at.images_per_second:.1f} images/s",
            flush=True,
        )
    result(
        options, f"the model is in {config.out}", {"out": config.out, "steps": config.num_steps, "loss": loss}
    )
