"""Between files, PIL pictures and uint8 tensors (C, H, W): reading what a person gives, laying out sheets."""

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "as_source",
    "carries_recipe",
    "columns_for",
    "counted",
    "data_uri",
    "decode_source",
    "fit",
    "heat_map",
    "is_too_large",
    "read_picture",
    "read_recipe",
    "read_source",
    "save_animation",
    "save_png",
    "sheet",
    "to_picture",
]

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from ddpm_app.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 8_000_000
MAX_JPEG_PIXELS = 25_000_000  # a photograph, which is decoded at a fraction of its size
Image.MAX_IMAGE_PIXELS = MAX_JPEG_PIXELS  # Pillow itself refuses twice as many, before it decodes anything
UNREADABLE = (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning)
SOURCE = "data:image/png;base64,"
# what may be white in pictures of more than 8 bits: the first that reaches their brightest pixel, whose own
# value would make each file as bright as the next
WHITES = {"I;16": (65535,), "I": (255, 65535, 2**31), "F": (1, 255, 65535)}
HEAT = ((13, 8, 40), (120, 28, 109), (237, 105, 37), (252, 255, 164))


def read_picture(file: str | Path, image_shape: tuple[int, int, int]) -> Tensor:
    """The picture in `file` as uint8 (C, H, W) of that shape; UserError when it is none, or too large."""
    channels, height, width = image_shape
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if is_too_large(picture):
                raise Image.DecompressionBombError
            return fit(picture, (height, width), channels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            "the picture is too large: at most 8 million pixels, 25 million in a JPEG; make it smaller"
        ) from error
    except FileNotFoundError as error:
        raise UserError("there is no such picture, or it is no longer kept; give it again") from error
    except Exception as error:  # a damaged file raises anything, from struct.error to TypeError
        raise UserError(
            "the file cannot be read as a picture; give a whole PNG, JPEG, WebP, GIF, BMP or TIFF file"
        ) from error


def is_too_large(picture: Image.Image) -> bool:
    """Whether a picture that is not decoded yet has more pixels than one that a visitor may give."""
    return picture.width * picture.height > (MAX_JPEG_PIXELS if picture.format == "JPEG" else MAX_PIXELS)


def fit(picture: Image.Image, size: tuple[int, int], channels: int) -> Tensor:
    """A picture of any size and mode as uint8 (C, H, W): centre-cropped, resized, transparency on white."""
    picture.draft(None, (2 * size[1], 2 * size[0]))  # a large JPEG is decoded at a half to an eighth
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):  # 16 bits a pixel, or more, brought to 8
        values = np.nan_to_num(np.asarray(picture, dtype=np.float32))
        whites = WHITES[picture.mode[:4]]
        white = next((each for each in whites if values.max() <= each), whites[-1])
        picture = Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != size[::-1]:
        picture = ImageOps.fit(picture, size[::-1], Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def to_picture(image: Tensor) -> Image.Image:
    """A uint8 image (C, H, W) as a PIL picture."""
    pixels = image.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def counted(count: int, noun: str = "picture") -> str:
    """So many of them in words: "1 picture", "16 pictures"."""
    return f"{count} {noun}" + "s" * (count != 1)


def columns_for(count: int) -> int:
    """The number of columns that makes `count` tiles as square as possible."""
    return math.ceil(math.sqrt(count))


def sheet(images: Tensor, columns: int | None = None, gap: int = 1) -> Image.Image:
    """Images uint8 (B, C, H, W) row by row at their own size, on a transparent ground."""
    count, _, height, width = images.shape
    columns = columns or columns_for(count)
    rows = math.ceil(count / columns)
    ground = Image.new("RGBA", (columns * (width + gap) - gap, rows * (height + gap) - gap))
    for place, image in enumerate(images):
        corner = (place % columns) * (width + gap), place // columns * (height + gap)
        ground.paste(to_picture(image).convert("RGBA"), corner)
    return ground


def heat_map(values: Tensor) -> Tensor:
    """Values (H, W) in [0, 1] as colours, uint8 (3, H, W): dark for 0, through red, to pale yellow for 1."""
    stops = torch.tensor(HEAT, dtype=torch.float32)
    place = values.clamp(0, 1) * (len(stops) - 1)
    low = place.floor().long().clamp(max=len(stops) - 2)
    colours = torch.lerp(stops[low], stops[low + 1], (place - low)[..., None])
    return colours.round().to(torch.uint8).permute(2, 0, 1)


def save_png(
    picture: Image.Image, file: Path, recipe: Mapping[str, Any] | None = None, *, compress: bool = True
) -> Path:
    """`file`, written as PNG with its recipe, where it has one, as JSON in the text chunk `recipe`.

    Without `compress` it is written three times as fast, and noise is hardly larger.
    """
    text = PngImagePlugin.PngInfo()
    if recipe is not None:
        text.add_text("recipe", json.dumps(recipe))
    picture.save(file, "PNG", pnginfo=text, compress_level=6 if compress else 0)
    return file


def read_recipe(file: str | Path) -> dict[str, Any]:
    """The recipe that save_png or save_animation wrote; UserError when the picture carries none."""
    try:
        with Image.open(file, formats=("PNG", "GIF")) as picture:
            return dict(json.loads(picture.info["comment" if picture.format == "GIF" else "recipe"]))
    except (KeyError, TypeError, ValueError, OSError, SyntaxError, RecursionError, *UNREADABLE) as error:
        raise UserError("the picture carries no recipe; give a PNG or GIF that this app made") from error


def carries_recipe(file: Path) -> bool:
    """Whether this app made the picture."""
    try:
        return bool(read_recipe(file))
    except UserError:
        return False


def as_source(image: Tensor) -> str:
    """A uint8 image (C, H, W) as words for a recipe, under `run`: what a run began from, to the last bit."""
    return data_uri(to_picture(image))


def data_uri(picture: Image.Image) -> str:
    """The picture as the address of itself, a PNG in base64."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return SOURCE + base64.b64encode(buffer.getvalue()).decode()


def read_source(file: str | Path, name: str) -> Tensor:
    """The picture `name`, uint8 (C, H, W), that the run behind `file` began from; UserError without one."""
    run = read_recipe(file).get("run")
    return decode_source(run.get(name) if isinstance(run, dict) else None)


def decode_source(words: object) -> Tensor:
    """The picture that as_source put into words; UserError when these say none."""
    try:
        if not isinstance(words, str) or not words.startswith(SOURCE):
            raise ValueError
        buffer = io.BytesIO(base64.b64decode(words.removeprefix(SOURCE), validate=True))
        with Image.open(buffer, formats=("PNG",)) as picture:
            if picture.width * picture.height > MAX_PIXELS or picture.mode not in ("L", "RGB"):
                raise ValueError
            pixels = torch.from_numpy(np.array(picture))
    except Exception as error:  # a damaged file raises anything, from struct.error to TypeError
        raise UserError("the recipe has no picture to begin from; give a PNG that this app made") from error
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def save_animation(
    pictures: Sequence[Image.Image],
    file: Path,
    milliseconds: int = 80,
    edge: int = 512,
    *,
    recipe: Mapping[str, Any] | None = None,
) -> Path:
    """`file`, a GIF of the pictures enlarged by a whole factor to about `edge` pixels, the last one held.

    The recipe, where there is one, is its comment.
    """
    scale = max(1, edge // max(pictures[0].size))
    ground = Image.new("RGBA", pictures[0].size, "white")
    frames = []
    for picture in pictures:
        solid = Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")
        enlarged = solid.resize((solid.width * scale, solid.height * scale), Image.Resampling.NEAREST)
        frames.append(enlarged.quantize(256, dither=Image.Dither.NONE))
    comment = {} if recipe is None else {"comment": json.dumps(recipe)}
    durations = [milliseconds] * (len(frames) - 1) + [1500]
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, **comment
    )
    return file
