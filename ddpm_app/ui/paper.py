"""The figures and table 4 of the DDPM paper, each drawn anew by any model with the paper's own settings."""

__all__ = ["FIGURES", "PaperFigure", "Setting"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from ddpm_app.core.compression import paper_row, tenths
from ddpm_app.engine import (
    CancelToken,
    CompressionReport,
    CompressionRequest,
    Engine,
    Frame,
    InterpolateRequest,
    SampleRequest,
    StochasticRequest,
)
from ddpm_app.models import Model
from ddpm_app.ui.figures import figure
from ddpm_app.ui.levels import paper_t
from ddpm_app.ui.slides import AREA, plot, side_by_side, table

SAMPLES, SAMPLE_COLUMNS = 16, 8
PROGRESSIVE_ROWS, PROGRESSIVE_COLUMNS = 4, 11
FROZEN = (1000, 750, 500, 250)  # of 1000
MIXED = 500
MIXING_ROWS = (1000, 875, 750, 625, 500, 375, 250, 125, 0)
LAMBDAS = 11  # 0 and 1 are the reconstructions
SIDES = {"source": 1, "rec.": 1, "lambda = 0.1 to 0.9": 9, "rec.'": 1, "source'": 1}


@dataclass(frozen=True)
class Setting:
    """Who draws, in how many reverse steps, from which seed and from which `pictures`, uint8 (C, H, W)."""

    engine: Engine
    model: Model
    name: str  # of the model, as it was asked for
    num_inference_steps: int
    seed: int
    token: CancelToken
    pictures: Sequence[Tensor] = ()

    def asking(self, kind: type[SampleRequest], **own) -> SampleRequest:
        """The request of that kind in this setting, ancestral as in the paper."""
        return kind(
            model=self.name,
            sampler="ddpm",
            num_inference_steps=self.num_inference_steps,
            seed=self.seed,
            **own,
        )

    def at(self, diffusion_steps: int) -> int:
        """The paper's t of 1000 in this model's chain."""
        return paper_t(diffusion_steps, len(self.model.diffusion))

    def frames(self, requests: Sequence[SampleRequest]) -> Iterator[tuple[float, list[Frame]]]:
        """After each step: the share of all that is done, and the latest frame of each request begun."""
        done: list[Frame] = []
        for place, request in enumerate(requests):
            for frame in self.engine.run(request, self.token):
                yield (place + frame.step / frame.num_steps) / len(requests), [*done, frame]
            done.append(frame)


Drawing = Iterator[tuple[float, Callable[[], Image.Image]]]  # share done, and what makes the picture so far


@dataclass(frozen=True)
class PaperFigure:
    """One of the paper's figures: what it shows, who draws it, and how many pictures it starts from.

    So many images, `num_chains`, go down the chain in it; none where one picture is sent.
    """

    title: str
    draw: Callable[[Setting], Drawing]
    num_pictures: int = 0
    num_chains: int = 0


def samples(setting: Setting) -> Drawing:
    """Figures 1, 3 and 4: images from noise."""
    for share, (frame,) in setting.frames([setting.asking(SampleRequest, num_images=SAMPLES)]):
        rows = [""] * (SAMPLES // SAMPLE_COLUMNS)
        yield share, partial(_figure, list(frame.images), rows, {"": SAMPLE_COLUMNS})


def progressive(setting: Setting) -> Drawing:
    """Figure 6: x0-hat over reverse time."""
    request = setting.asking(SampleRequest, num_images=PROGRESSIVE_ROWS)
    wanted = _spread(setting.num_inference_steps)
    columns: dict[str, Tensor] = {}
    for share, (frame,) in setting.frames([request]):
        if frame.step in wanted:
            columns[str(frame.step)] = frame.pred_x0_images
        yield share, partial(_over_time, dict(columns), [str(step) for step in wanted])


def _spread(steps: int) -> list[int]:
    """At most so many reverse steps as there are columns, the first and the last among them."""
    places = torch.linspace(1, steps, min(PROGRESSIVE_COLUMNS, steps)).round().long()
    return places.unique().tolist()


def _over_time(columns: dict[str, Tensor], titles: list[str]) -> Image.Image:
    tiles = [
        columns[title][row] if title in columns else None
        for row in range(PROGRESSIVE_ROWS)
        for title in titles
    ]
    return _figure(tiles, [""] * PROGRESSIVE_ROWS, dict.fromkeys(titles, 1))


def stochastic(setting: Setting) -> Drawing:
    """Figure 7: eight continuations of one x_t, which stands in the last place, for four t."""
    requests = [
        setting.asking(StochasticRequest, num_images=8, diffusion_steps=setting.at(t)) for t in FROZEN
    ]
    for share, frames in setting.frames(requests):
        yield share, partial(_quadrants, frames, {f"t = {setting.at(t)}": 3 for t in FROZEN})


def _quadrants(frames: list[Frame], blocks: dict[str, int]) -> Image.Image:
    squares: list[list[Tensor | None]] = [
        [None] * 9 if frame.shared is None else [*frame.images, *frame.shared_images] for frame in frames
    ]
    squares += [[None] * 9] * (len(blocks) - len(frames))
    tiles = [tile for row in range(3) for square in squares for tile in square[3 * row : 3 * row + 3]]
    return _figure(tiles, [""] * 3, blocks)


def interpolations(setting: Setting) -> Drawing:
    """Figure 8: pairs of pictures mixed after 500 diffusion steps."""
    pairs = list(zip(setting.pictures[::2], setting.pictures[1::2], strict=True))
    return _mixed(setting, [(a, b, MIXED) for a, b in pairs], [""] * len(pairs))


def coarse_to_fine(setting: Setting) -> Drawing:
    """Figure 9: one pair mixed after ever fewer diffusion steps."""
    a, b = setting.pictures
    return _mixed(setting, [(a, b, t) for t in MIXING_ROWS], [str(setting.at(t)) for t in MIXING_ROWS])


def _mixed(setting: Setting, rows: list[tuple[Tensor, Tensor, int]], names: list[str]) -> Drawing:
    requests = [
        setting.asking(
            InterpolateRequest,
            num_images=LAMBDAS,
            diffusion_steps=setting.at(t),
            picture_a=a,
            picture_b=b,
        )
        for a, b, t in rows
    ]
    for share, frames in setting.frames(requests):
        tiles = [
            tile for (a, b, _), frame in zip(rows, frames, strict=False) for tile in (a, *frame.images, b)
        ]
        yield share, partial(_figure, tiles, names, SIDES)


def rate_distortion(setting: Setting) -> Drawing:
    """Figure 5: distortion and rate over reverse time, and against each other."""
    for share, report in _sent(setting):
        yield share, partial(_curves, report)


def _curves(report: CompressionReport) -> Image.Image:
    steps = [report.reverse_steps(each) for each in report.received]
    rate, rmse = ([each.rate_bpd for each in report.received], [each.rmse for each in report.received])
    time = "reverse steps"
    return side_by_side(
        [
            plot(list(zip(steps, rmse, strict=True)), "Distortion, RMSE of 0 to 255", time),
            plot(list(zip(steps, rate, strict=True)), "Rate, bits/dim", time),
            plot(list(zip(rate, rmse, strict=True)), "Distortion over rate", "rate, bits/dim"),
        ]
    )


def rates(setting: Setting) -> Drawing:
    """Table 4: rate and distortion after each tenth of the reverse steps, beside the paper's own."""
    for share, report in _sent(setting):
        yield share, partial(_rows, report)


def _rows(report: CompressionReport) -> Image.Image:
    heads = ["reverse steps", "rate, bits/dim", "RMSE, 0 to 255", "paper, CIFAR-10: rate", "RMSE"]
    listed = [each for each in report.received if each.t in tenths(report.num_train_timesteps)]
    lines = []
    for each in reversed(listed):
        steps = report.reverse_steps(each)
        paper = [f"{value:.5f}" for value in paper_row(steps, report.num_train_timesteps)] or ["-", "-"]
        lines.append([str(steps), f"{each.rate_bpd:.5f}", f"{each.rmse:.5f}", *paper])
    return table(heads, lines)


def _sent(setting: Setting) -> Iterator[tuple[float, CompressionReport]]:
    request = CompressionRequest(
        model=setting.name,
        picture=setting.pictures[0],
        num_terms=max(2, setting.num_inference_steps),
        seed=setting.seed,
    )
    for report in setting.engine.compress(request, setting.token):
        yield report.step / report.num_steps, report


def _figure(tiles: Sequence[Tensor | None], rows: Sequence[str], blocks: dict[str, int]) -> Image.Image:
    size = next((tuple(tile.shape[1:]) for tile in tiles if tile is not None), (32, 32))
    return figure(tiles, rows, blocks, size, fit=AREA, max_scale=8, font_size=26)  # type: ignore[arg-type]


FIGURES = {
    "Figure 1": PaperFigure("Samples (also figures 3 and 4)", samples, num_chains=SAMPLES),
    "Figure 5": PaperFigure("Rate and distortion", rate_distortion, num_pictures=1),
    "Figure 6": PaperFigure("Progressive generation", progressive, num_chains=PROGRESSIVE_ROWS),
    "Figure 7": PaperFigure("One frozen x_t, many x_0", stochastic, num_chains=len(FROZEN) * 9),
    "Figure 8": PaperFigure("Interpolations", interpolations, 6, 3 * LAMBDAS),
    "Figure 9": PaperFigure("Coarse-to-fine interpolations", coarse_to_fine, 2, len(MIXING_ROWS) * LAMBDAS),
    "Table 4": PaperFigure("Rate and distortion in numbers", rates, num_pictures=1),
}
