"""Figures as a paper prints them: blocks of pictures under titles, a label before each row."""

__all__ = ["figure"]

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ddpm_app.pictures import to_picture

PAGE = (800, 4096)  # about the width that a page shows
MAX_SCALE = 4
FONT_SIZE = 18
INK = (128, 128, 128, 255)  # read on white and on black, as the ground is transparent
GAP, BLOCK_GAP = 2, 16


def figure(
    tiles: Sequence[Tensor | None],
    rows: Sequence[str],
    blocks: Mapping[str, int],
    size: tuple[int, int],
    *,
    fit: tuple[int, int] = PAGE,
    max_scale: int = MAX_SCALE,
    font_size: int = FONT_SIZE,
) -> Image.Image:
    """Tiles uint8 (C, H, W) in reading order, None or the lack of one an empty place.

    `blocks` gives the number of columns under each title, `size` the (H, W) of every tile; these are enlarged
    by a whole factor to come near `fit`, (width, height). Words are ASCII only, as the built-in font is.
    """
    font = ImageFont.load_default(font_size)
    columns = sum(blocks.values())
    scale = max(1, min(max_scale, fit[0] // (columns * size[1]), fit[1] // (len(rows) * size[0])))
    height, width = size[0] * scale + GAP, size[1] * scale + GAP
    left = round(max(map(font.getlength, rows))) + 14
    top = font_size + 12 if any(blocks) else 0
    starts, titles, edge = [], [], left
    for title, count in blocks.items():
        titles.append((edge, title))
        starts += [edge + k * width for k in range(count)]
        edge += max(count * width, round(font.getlength(title))) + BLOCK_GAP
    ground = Image.new("RGBA", (edge - BLOCK_GAP, top + len(rows) * height - GAP))
    pen = ImageDraw.Draw(ground)
    for start, title in titles:
        pen.text((start, 0), title, INK, font)
    for row, label in enumerate(rows):
        pen.text((left - 12, top + row * height + height // 2), label, INK, font, anchor="rm")
    for place, tile in enumerate(tiles):
        if tile is not None:
            enlarged = to_picture(tile).resize((width - GAP, height - GAP), Image.Resampling.NEAREST)
            corner = starts[place % columns], top + place // columns * height
            ground.paste(enlarged.convert("RGBA"), corner)
    return ground
