"""A data set that needs nothing: flat coloured shapes on white, drawn by the program, the same everywhere."""

__all__ = ["NUM_PICTURES", "draw", "kind"]

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

NUM_PICTURES = 4096
GROUND = "white"
MARGIN = 0.05
INKS = ("#e6303c", "#f77f1e", "#f2b90c", "#2fb457", "#12a5b0", "#2f6fe0", "#8a4fd3", "#ec4f9b")

Point = tuple[float, float]
Shape = Callable[[ImageDraw.ImageDraw, Point, float, float, str], None]


def draw(place: int, size: int) -> Image.Image:
    """Picture `place` of the set, RGB, size x size: one shape, or two that do not touch."""
    chance = random.Random(place)
    scale = 8 if size <= 32 else 4  # drawn that much larger, then averaged: soft edges
    picture = Image.new("RGB", (size * scale, size * scale), GROUND)
    pen, side = ImageDraw.Draw(picture), size * scale
    inks = chance.sample(INKS, 2)
    for (x, y, radius), ink in zip(_layout(chance), inks, strict=False):
        shape, turn = chance.choice(SHAPES), chance.uniform(-math.pi / 8, math.pi / 8)
        shape(pen, (x * side, y * side), radius * side, turn, ink)
    return picture.reduce(scale)


def kind(place: int) -> str:
    """What the first shape of picture `place` is, and in which ink: one of 56 classes."""
    chance = random.Random(place)
    ink, _ = chance.sample(INKS, 2)
    _layout(chance)
    return f"{chance.choice(SHAPES).__name__.strip('_')} {ink}"


def _layout(chance: random.Random) -> list[tuple[float, float, float]]:
    """(x, y, radius) of each shape, in units of the picture's side."""
    if chance.random() < 0.5:
        radius = chance.uniform(0.28, 0.42)
        low, high = radius + MARGIN, 1 - radius - MARGIN
        return [(chance.uniform(low, high), chance.uniform(low, high), radius)]
    left, right = chance.uniform(0.17, 0.22), chance.uniform(0.17, 0.22)  # side by side, at any slope
    height = chance.uniform(max(left, right) + MARGIN, 1 - max(left, right) - MARGIN)
    return [(left + MARGIN, height, left), (1 - right - MARGIN, 1 - height, right)]


def _outline(centre: Point, radii: list[float], turn: float) -> list[Point]:
    """The corners at equal angles around `centre`, the first one above it before it is turned."""
    x, y = centre
    angles = [2 * math.pi * k / len(radii) + turn for k in range(len(radii))]
    return [(x + r * math.sin(a), y - r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]


def _disc(pen: ImageDraw.ImageDraw, centre: Point, radius: float, turn: float, ink: str) -> None:
    pen.circle(centre, radius, fill=ink)


def _ring(pen: ImageDraw.ImageDraw, centre: Point, radius: float, turn: float, ink: str) -> None:
    pen.circle(centre, radius, fill=ink)
    pen.circle(centre, radius * 0.55, fill=GROUND)


def _square(pen: ImageDraw.ImageDraw, centre: Point, radius: float, turn: float, ink: str) -> None:
    pen.polygon(_outline(centre, [radius] * 4, turn + math.pi / 4), fill=ink)


def _triangle(pen: ImageDraw.ImageDraw, centre: Point, radius: float, turn: float, ink: str) -> None:
    pen.polygon(_outline(centre, [radius] * 3, turn), fill=ink)


def _star(pen: ImageDraw.ImageDraw, centre: Point, radius: float, turn: float, ink: str) -> None:
    pen.polygon(_outline(centre, [radius, radius * 0.45] * 5, turn), fill=ink)


def _heart(pen: ImageDraw.ImageDraw, centre: Point, radius: float, turn: float, ink: str) -> None:
    x, y = centre
    angles = [2 * math.pi * k / 96 for k in range(96)]
    curve = [
        (
            16 * math.sin(a) ** 3,
            13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a) + 2.5,
        )
        for a in angles
    ]
    pen.polygon([(x + radius * u / 17, y - radius * v / 17) for u, v in curve], fill=ink)


def _smiley(pen: ImageDraw.ImageDraw, centre: Point, radius: float, turn: float, ink: str) -> None:
    x, y = centre
    pen.circle(centre, radius, fill=ink)
    for side in (-1, 1):
        pen.circle((x + side * radius * 0.36, y - radius * 0.28), radius * 0.15, fill=GROUND)
    mouth = radius * 0.6
    pen.chord((x - mouth, y - mouth, x + mouth, y + mouth), 15, 165, fill=GROUND)


SHAPES: tuple[Shape, ...] = (_disc, _heart, _ring, _smiley, _square, _star, _triangle)
