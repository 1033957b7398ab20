"""Rows of ever more steps from the same seeds, one block of columns for each way to walk the chain."""

__all__ = ["StepGrid", "step_counts", "steps_control", "within_chain"]

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import gradio as gr
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ddpm_app.engine import SampleRequest
from ddpm_app.engine.checks import MAX_STEPS, whole
from ddpm_app.errors import UserError
from ddpm_app.models import Model
from ddpm_app.ui.controls import Shared
from ddpm_app.ui.figures import figure
from ddpm_app.ui.loading import measuring
from ddpm_app.ui.results import Results, Update
from ddpm_app.ui.sessions import Run

CHOICES = (10, 20, 25, 50, 100, 200, 400, 500, 1000)
MAX_ROWS = 8


def steps_control(
    value: Sequence[int], info: str = "choose, or type a number and press Enter"
) -> gr.Dropdown:
    """Several numbers of steps, a row of the figure each."""
    return gr.Dropdown(
        list(CHOICES),
        value=list(value),
        multiselect=True,
        allow_custom_value=True,
        label="Steps S",
        info=info,
    )


def step_counts(values: Sequence[int | str] | None) -> list[int]:
    """What a steps_control holds, as increasing numbers; UserError where one is none, or too many are."""
    numbers = [
        int(each) if isinstance(each, str) and each.strip().isdecimal() and len(each) < 10 else each
        for each in values or []
    ]
    if not 1 <= len(numbers) <= MAX_ROWS:
        raise UserError(f"choose between 1 and {MAX_ROWS} numbers of steps; got {len(numbers)}")
    return sorted({whole("each number of steps", each, 1, MAX_STEPS) for each in numbers})


def within_chain(counts: Sequence[int], model: Model) -> None:
    """UserError where the model's chain is shorter than the largest number of steps."""
    if counts[-1] > len(model.diffusion):
        raise UserError(
            f"this model's chain has {len(model.diffusion)} steps: take {counts[-1]} out of the steps S"
        )


@dataclass(frozen=True)
class StepGrid:
    """One request for each block, by the block's title, to be run at each of `steps`."""

    blocks: dict[str, SampleRequest]
    steps: list[int]

    @property
    def requests(self) -> list[SampleRequest]:
        """In the order in which they run: block by block within a row."""
        return [
            replace(block, num_inference_steps=count)
            for count in self.steps
            for block in self.blocks.values()
        ]

    @property
    def captions(self) -> list[str]:
        """One for each image, short enough to be read under it: its block, if of several, steps and seed."""
        several = len(self.blocks) > 1
        return [
            (f"{title}, " if several else "") + f"S {count}, {seed}"
            for count in self.steps
            for title, block in self.blocks.items()
            for seed in block.seeds
        ]

    def picture(self, images: Sequence[Tensor]) -> Image.Image:
        """The figure, as far as its requests have come: uint8 (B, C, H, W) of each."""
        rows = [f"S = {count}" for count in self.steps]
        columns = {title: block.num_images for title, block in self.blocks.items()}
        height, width = images[0].shape[2:]
        return figure(list(torch.cat(list(images))), rows, columns, (height, width))

    def drawn(self, shared: Shared, shown: Results, run: Run) -> Generator[Update, None, list[Tensor]]:
        """The live figure, once what its variances take is measured; returns the images of each request."""
        within_chain(self.steps, shared.engine.model(self.requests[0].model))
        yield from measuring(shared, shown.status, run, *self.requests)
        run.clock.start()
        done: list[Tensor] = []
        before, whole_way = 0, sum(each.num_inference_steps for each in self.requests)
        for each in self.requests:
            for frame in shared.engine.run(each, run.token):
                if run.clock.due(before + frame.step, whole_way):
                    yield shown.preview(run.clock.line(), self.picture([*done, frame.images]))
            before += each.num_inference_steps
            done.append(frame.images)
        return done

    def distances(self, images: Sequence[Tensor]) -> pd.DataFrame:
        """How far each row is from the last one, block by block: RMSE on the scale 0..255."""
        width = len(self.blocks)
        last = [block.float() for block in images[-width:]]
        table: dict[str, list] = {"S": self.steps}
        for place, title in enumerate(self.blocks):
            column = [block.float() - last[place] for block in images[place::width]]
            table[title] = [round(each.square().mean().sqrt().item(), 1) for each in column]
        return pd.DataFrame(table)
