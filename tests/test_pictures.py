import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, PngImagePlugin

from ddpm_app.engine import SampleRequest
from ddpm_app.pictures import (
    HEAT,
    MAX_PIXELS,
    columns_for,
    fit,
    heat_map,
    read_picture,
    read_recipe,
    save_animation,
    save_png,
    sheet,
    to_picture,
)
from tests.doubles import refusal

RGB, GRAY = (3, 4, 6), (1, 4, 6)
RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def pixels(channels=3, height=4, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (channels, height, width), generator=generator, dtype=torch.uint8)


def saved(picture, folder, suffix="png", **options):
    file = folder / f"picture.{suffix}"
    picture.save(file, **options)
    return file


def colour(image):
    """The one colour of a plain image (3, H, W)."""
    (value,) = image.flatten(1).unique(dim=1).T.tolist()
    return tuple(value)


def bare_png(width, height, rows):
    """A PNG of one bit a pixel, all black, its rows never held in memory at once."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, row = zlib.compressobj(), bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


# reading


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "webp"])
def test_a_picture_of_the_right_size_is_read_unchanged(tmp_path, suffix):
    image = pixels(1).expand(3, -1, -1)  # gray, which a GIF's palette holds without loss
    options = {"lossless": True} if suffix == "webp" else {}
    assert torch.equal(read_picture(saved(to_picture(image), tmp_path, suffix, **options), RGB), image)


def test_colours_keep_their_channels(tmp_path):
    image = pixels()
    read = read_picture(saved(to_picture(image), tmp_path), RGB)
    assert torch.equal(read, image)
    assert read.dtype == torch.uint8
    assert read.is_contiguous()


def test_gray_becomes_three_equal_channels_and_colour_becomes_gray(tmp_path):
    gray = pixels(1)
    assert torch.equal(read_picture(saved(to_picture(gray), tmp_path), RGB), gray.expand(3, -1, -1))
    assert torch.equal(read_picture(saved(to_picture(gray), tmp_path), GRAY), gray)
    red = read_picture(saved(Image.new("RGB", (6, 4), RED), tmp_path), GRAY)
    assert red.shape == GRAY
    assert red.unique().item() == 76  # 0.299 * 255


@pytest.mark.parametrize(
    ("mode", "fill", "seen"),
    [
        ("CMYK", (0, 255, 255, 0), RED),
        ("1", 1, WHITE),
        ("1", 0, BLACK),
        ("L", 77, (77, 77, 77)),
        ("I;16", 65535, WHITE),
        ("I;16", 32896, (128, 128, 128)),
        ("I;16", 0, BLACK),
        ("I", 255, WHITE),
        ("F", 51.0, (51, 51, 51)),
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), WHITE),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (0, 0), WHITE),
        ("LA", (9, 255), (9, 9, 9)),
    ],
)
@pytest.mark.parametrize("size", [(6, 4), (40, 30)])
def test_every_mode_becomes_its_colour_with_what_is_transparent_on_white(tmp_path, mode, fill, seen, size):
    suffix = "tiff" if mode in ("CMYK", "F", "I") else "png"
    assert colour(read_picture(saved(Image.new(mode, size, fill), tmp_path, suffix), RGB)) == seen


@pytest.mark.parametrize(
    ("mode", "white", "darker"),
    [("F", 1, 0.5), ("F", 255, 128.0), ("F", 65535, 32768.0), ("I", 65535, 32768), ("I", 2**31 - 1, 2**30)],
)
def test_levels_of_more_than_8_bits_are_those_of_their_format_not_of_their_brightest_pixel(
    tmp_path, mode, white, darker
):
    for brightest, seen in ((white, 255), (darker, 128)):
        file = saved(Image.new(mode, (8, 8), brightest), tmp_path, "tiff")
        assert colour(read_picture(file, RGB)) == (seen, seen, seen)


def test_a_palette_with_transparency_lies_on_white(tmp_path):
    picture = Image.new("P", (6, 4), 0)
    picture.putpalette([*RED, 0, 255, 0])
    picture.paste(1, (3, 0, 6, 4))
    assert colour(read_picture(saved(picture, tmp_path, transparency=0), RGB)[..., :3]) == WHITE
    assert colour(read_picture(saved(picture, tmp_path, transparency=0), RGB)[..., 3:]) == (0, 255, 0)
    assert colour(read_picture(saved(picture, tmp_path), RGB)[..., :3]) == RED


def test_a_transparent_colour_key_lies_on_white(tmp_path):
    picture = Image.new("RGB", (6, 4), RED)
    assert colour(read_picture(saved(picture, tmp_path, transparency=RED), RGB)) == WHITE


@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_a_photo_is_turned_as_its_exif_says(tmp_path, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = pixels(3, 5, 5)
    read = read_picture(saved(to_picture(image), tmp_path, exif=exif), (3, 5, 5))
    assert torch.equal(read, image.rot90(turned, (1, 2)))


def test_a_wide_picture_is_cropped_to_its_centre(tmp_path):
    picture = Image.new("RGB", (30, 10), RED)
    picture.paste(WHITE, (10, 0, 20, 10))
    assert colour(read_picture(saved(picture, tmp_path), (3, 10, 10))) == WHITE
    tall = picture.rotate(90, expand=True)
    assert colour(read_picture(saved(tall, tmp_path), (3, 10, 10))) == WHITE


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_the_smallest_pictures_are_enlarged(tmp_path, size):
    assert colour(read_picture(saved(Image.new("RGB", size, RED), tmp_path), RGB)) == RED


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (6, 4), fill) for fill in (RED, WHITE, BLACK)]
    file = saved(frames[0], tmp_path, "gif", save_all=True, append_images=frames[1:])
    assert colour(read_picture(file, RGB)) == RED


# refusing


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as outside the tests
@pytest.mark.parametrize("size", [(13000, 13000), (4000, 3000), (1, 8_000_001)], ids=str)
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch, size):
    file = tmp_path / "bomb.png"
    file.write_bytes(bare_png(*size, rows=min(size[1], 13000)))
    assert file.stat().st_size < 100_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("the picture was decoded"))
    assert "8 million pixels" in refusal(lambda: read_picture(file, RGB))


def test_a_picture_of_just_so_many_pixels_is_read(tmp_path):
    file = tmp_path / "large.png"
    file.write_bytes(bare_png(4000, 2000, rows=2000))
    assert MAX_PIXELS == 4000 * 2000
    assert colour(read_picture(file, RGB)) == BLACK


def picture_bytes(suffix):
    buffer = io.BytesIO()
    to_picture(pixels(3, 64, 64)).save(buffer, suffix)
    return buffer.getvalue()


NO_PICTURES = {
    "a text": b"hello, I am no picture\n",
    "nothing": b"",
    "half a PNG": picture_bytes("PNG")[:6000],
    "the start of a PNG": picture_bytes("PNG")[:20],
    "half a JPEG": picture_bytes("JPEG")[:1500],
    "a PNG with a broken chunk": picture_bytes("PNG").replace(b"IDAT", b"XDAT", 1),
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
}


@pytest.mark.parametrize("content", NO_PICTURES.values(), ids=NO_PICTURES.keys())
def test_what_is_no_whole_picture_is_refused_in_one_sentence(tmp_path, content):
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    assert "cannot be read as a picture" in refusal(lambda: read_picture(file, RGB))


@pytest.mark.parametrize("name", [".", "missing.png", "x" * 300, "nul\0byte"])
def test_a_folder_or_a_missing_file_is_refused_in_one_sentence(tmp_path, name):
    assert "cannot be read as a picture" in refusal(lambda: read_picture(tmp_path / name, RGB))


# writing


@pytest.mark.parametrize("channels", [1, 3])
def test_fit_undoes_to_picture(channels):
    image = pixels(channels)
    assert torch.equal(fit(to_picture(image), (4, 6), channels), image)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (16, 4), (17, 5)])
def test_a_sheet_is_as_square_as_its_tiles_allow(count, columns):
    assert columns_for(count) == columns


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("count", "columns", "gap"), [(1, None, 1), (4, None, 1), (5, 3, 2), (3, 1, 0)])
def test_a_sheet_shows_every_image_at_its_own_size_row_by_row(channels, count, columns, gap):
    images = torch.stack([pixels(channels, seed=seed) for seed in range(count)])
    drawn = sheet(images, columns, gap)
    across = columns or columns_for(count)
    down = -(-count // across)
    assert drawn.mode == "RGBA"
    assert drawn.size == (across * 6 + (across - 1) * gap, down * 4 + (down - 1) * gap)
    shown = torch.from_numpy(np.array(drawn)).permute(2, 0, 1)
    covered = 0
    for k, image in enumerate(images):
        y, x = k // across * (4 + gap), k % across * (6 + gap)
        tile = shown[:, y : y + 4, x : x + 6]
        assert torch.equal(tile[:3], image.expand(3, -1, -1))
        assert (tile[3] == 255).all()
        covered += 24
    assert (shown[3] == 255).sum() == covered  # all else is transparent


def test_a_recipe_survives_the_png_and_makes_an_equal_request(tmp_path):
    request = SampleRequest(model="größte/model", seed=2**63 - 1, eta=0.1)
    image = pixels()
    file = save_png(to_picture(image), tmp_path / "sample.png", request.recipe())
    assert SampleRequest(**read_recipe(file)) == request
    assert torch.equal(read_picture(file, RGB), image)


def png_that_says(recipe):
    text, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    text.add_text("recipe", recipe)
    Image.new("L", (2, 2)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *NO_PICTURES.values(),
        picture_bytes("PNG"),
        png_that_says("{"),
        png_that_says("7"),
        png_that_says("[1]"),
    ],
)
def test_a_picture_without_a_recipe_says_so(tmp_path, content):
    file = tmp_path / "picture.png"
    file.write_bytes(content)
    assert "carries no recipe" in refusal(lambda: read_recipe(file))


def test_an_animation_has_a_frame_for_each_picture_and_holds_the_last(tmp_path):
    pictures = [sheet(pixels(seed=seed)[None]) for seed in range(5)]
    file = save_animation(pictures, tmp_path / "run.gif", milliseconds=70, edge=50)
    with Image.open(file) as animation:
        assert animation.n_frames == 5
        assert animation.size == (48, 32)  # 8 times, the whole factor that stays within 50
        assert animation.info["loop"] == 0
        durations = []
        for k in range(5):
            animation.seek(k)
            durations.append(animation.info["duration"])
            small = animation.convert("RGB").resize((6, 4), Image.Resampling.NEAREST)
            assert np.array_equal(np.array(small), np.array(pictures[k].convert("RGB")))
    assert durations == [70] * 4 + [1500]


@pytest.mark.parametrize("count", [1, 3])
def test_an_animation_carries_its_recipe(tmp_path, count):
    recipe = {"model": "größte/model", "t": [*range(500)]}  # longer than one block of a GIF's comment
    pictures = [sheet(pixels(seed=seed)[None]) for seed in range(count)]
    assert read_recipe(save_animation(pictures, tmp_path / "run.gif", recipe=recipe)) == recipe
    assert "carries no recipe" in refusal(lambda: read_recipe(save_animation(pictures, tmp_path / "no.gif")))


def test_an_animation_of_one_picture_is_a_picture(tmp_path):
    with Image.open(save_animation([sheet(pixels()[None])], tmp_path / "run.gif", edge=1)) as animation:
        assert (animation.n_frames, animation.size) == (1, (6, 4))


def test_a_heat_map_runs_from_dark_to_pale_and_clips():
    values = torch.tensor([[0.0, 1 / 3, 2 / 3, 1.0], [-5.0, 7.0, 0.5, 0.5]])
    colours = heat_map(values)
    assert colours.dtype == torch.uint8
    assert [tuple(colours[:, 0, k].tolist()) for k in range(4)] == list(HEAT)
    assert torch.equal(colours[:, 1, 0], colours[:, 0, 0])
    assert torch.equal(colours[:, 1, 1], colours[:, 0, 3])
    brightness = heat_map(torch.linspace(0, 1, 50)[None]).double().mean(0)
    assert (brightness.diff() >= 0).all()


def test_the_recipe_is_plain_json_in_the_text_chunk(tmp_path):
    file = save_png(to_picture(pixels()), tmp_path / "sample.png", {"seed": 3})
    with Image.open(file) as picture:
        assert json.loads(picture.text["recipe"]) == {"seed": 3}
