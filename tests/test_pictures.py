"""Pictures read: every mode and format, and what is none."""

import io
import struct
import zlib

import pytest
import torch
from PIL import Image, ImageFile

from ddpm_app.pictures import (
    MAX_PIXELS,
    read_picture,
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


@pytest.mark.parametrize("name", [".", "x" * 300, "nul\0byte"])
def test_what_is_no_file_is_refused_in_one_sentence(tmp_path, name):
    assert "cannot be read as a picture" in refusal(lambda: read_picture(tmp_path / name, RGB))


def test_a_picture_that_is_not_there_is_told_so(tmp_path):
    assert "no such picture" in refusal(lambda: read_picture(tmp_path / "missing.png", RGB))
