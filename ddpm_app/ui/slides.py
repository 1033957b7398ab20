"""Pictures ready for a slide: a title, the figure, what made it; and the plots and tables that go there."""

__all__ = ["AREA", "INK", "plot", "side_by_side", "slide", "table"]

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SIZE = (1600, 900)
MARGIN = 60
AREA = (SIZE[0] - 2 * MARGIN, 660)  # what a figure may fill
INK, FAINT, LINE = (32, 32, 40), (110, 110, 120), (67, 56, 202)
PLOT_MARGIN = (84, 44, 30, 58)  # left, top, right, bottom: room for the words


def slide(title: str, figure: Image.Image, caption: str) -> Image.Image:
    """The figure in the middle of a white 16:9 slide, at its own size where it fits."""
    ground = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(ground)
    pen.text((MARGIN, 44), title, INK, ImageFont.load_default(44))
    pen.text((MARGIN, SIZE[1] - 62), caption, FAINT, ImageFont.load_default(22))
    fitting = min(1.0, AREA[0] / figure.width, AREA[1] / figure.height)
    if fitting < 1:
        figure = figure.resize((round(figure.width * fitting), round(figure.height * fitting)))
    middle = 120 + AREA[1] // 2
    corner = (SIZE[0] - figure.width) // 2, middle - figure.height // 2
    ground.paste(figure, corner, figure if figure.mode == "RGBA" else None)
    return ground


def side_by_side(pictures: Sequence[Image.Image], gap: int = 20) -> Image.Image:
    """Pictures of one height in a row on a transparent ground."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    ground, left = Image.new("RGBA", (width, pictures[0].height)), 0
    for picture in pictures:
        ground.paste(picture, (left, 0))
        left += picture.width + gap
    return ground


def plot(
    points: Sequence[tuple[float, float]], title: str, x_title: str, size: tuple[int, int] = (480, 560)
) -> Image.Image:
    """A curve through the points, both axes from 0; ASCII words only, as the built-in font has no others."""
    ground = Image.new("RGBA", size)
    pen, font, small = ImageDraw.Draw(ground), ImageFont.load_default(24), ImageFont.load_default(20)
    left, top, right, bottom = PLOT_MARGIN
    right, bottom = size[0] - right, size[1] - bottom
    highest_x, highest_y = (
        max((value for value in axis), default=0) or 1 for axis in zip(*points, strict=True)
    )
    pen.text((left, 4), title, INK, font)
    pen.text(((left + right) / 2, size[1] - 4), x_title, FAINT, small, anchor="mb")
    for share in (0, 0.5, 1):
        x, y = left + share * (right - left), bottom - share * (bottom - top)
        pen.line([(left, y), (right, y)], (225, 225, 230))
        pen.text((left - 10, y), _short(share * highest_y), FAINT, small, anchor="rm")
        pen.text((x, bottom + 8), _short(share * highest_x), FAINT, small, anchor="mt")
    pen.line([(left, top), (left, bottom), (right, bottom)], FAINT, 2)
    curve = [
        (left + x / highest_x * (right - left), bottom - y / highest_y * (bottom - top)) for x, y in points
    ]
    pen.line(curve, LINE, 4, joint="curve")
    return ground


def _short(number: float) -> str:
    """Three digits, without an exponent."""
    return f"{float(f'{number:.3g}'):g}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Image.Image:
    """Rows of words under their heads, aligned to the right."""
    font, height = ImageFont.load_default(26), 44
    widths = [max(font.getlength(cell) for cell in column) + 48 for column in zip(heads, *rows, strict=True)]
    ground = Image.new("RGBA", (round(sum(widths)), height * (len(rows) + 1)))
    pen = ImageDraw.Draw(ground)
    for place, cells in enumerate([heads, *rows]):
        edge = 0.0
        for cell, width in zip(cells, widths, strict=True):
            edge += width
            pen.text((edge - 8, place * height + 20), cell, FAINT if place == 0 else INK, font, anchor="rm")
    pen.line([(0, height - 2), (ground.width, height - 2)], FAINT, 2)
    return ground
