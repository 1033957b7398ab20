import io

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from ddpm_app.pictures import to_picture
from ddpm_app.training.data import epoch_order, load_images
from tests.doubles import refusal


def picture(seed, channels=3, size=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (channels, size, size), generator=generator, dtype=torch.uint8)


@pytest.fixture
def folder(tmp_path):
    """Six pictures of 8 x 8, one of them in a folder below."""
    where = tmp_path / "pictures"
    (where / "below").mkdir(parents=True)
    for seed in range(6):
        to_picture(picture(seed)).save((where / "below" if seed == 5 else where) / f"{seed}.png")
    return where


def encoded(image):
    buffer = io.BytesIO()
    to_picture(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_folder_is_read_with_all_its_subfolders(folder):
    images, unreadable = load_images(folder, 8, 3)
    assert torch.equal(images, torch.stack([picture(seed) for seed in range(6)]))
    assert unreadable == 0


def test_files_that_are_no_pictures_are_counted_and_others_passed_over(folder):
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "half.jpg").write_bytes(encoded(picture(0))[:60])
    (folder / "notes.txt").write_text("about these pictures")
    images, unreadable = load_images(folder, 8, 3)
    assert (len(images), unreadable) == (6, 2)


@pytest.mark.parametrize("as_struct", [True, False])
def test_a_parquet_file_holds_the_same_pictures_as_a_folder(tmp_path, folder, as_struct):
    cells = [encoded(picture(seed)) for seed in range(6)] + [b"no picture", None]
    rows = [{"bytes": cell, "path": None} for cell in cells] if as_struct else cells
    file = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"image": rows, "label": list(range(8))}), file)
    images, unreadable = load_images(file, 8, 3)
    assert torch.equal(images, load_images(folder, 8, 3)[0])
    assert unreadable == 2


def test_pictures_are_brought_to_one_size_and_number_of_channels(tmp_path):
    Image.new("RGB", (30, 20), "white").save(tmp_path / "a.jpg")
    Image.new("LA", (5, 9)).save(tmp_path / "b.png")
    images, _ = load_images(tmp_path, 16, 1)
    assert images.shape == (2, 1, 16, 16)
    assert (images == 255).all()  # what is transparent is white


def test_what_holds_no_picture_is_refused_in_one_sentence(tmp_path):
    assert "--data" in refusal(lambda: load_images(tmp_path / "missing", 8, 3))
    assert "no picture" in refusal(lambda: load_images(tmp_path, 8, 3))
    (tmp_path / "list.csv").write_text("a,b")
    assert "--data" in refusal(lambda: load_images(tmp_path / "list.csv", 8, 3))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing more")
    assert "whole parquet file" in refusal(lambda: load_images(tmp_path / "broken.parquet", 8, 3))


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"picture": [b""]}, "picture"), ({"image": [3]}, "no picture"), ({"image": ["a"]}, "no")],
)
def test_a_parquet_file_without_pictures_is_refused_in_one_sentence(tmp_path, columns, said):
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "odd.parquet")
    assert said in refusal(lambda: load_images(tmp_path / "odd.parquet", 8, 3))


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own():
    orders = [epoch_order(20, seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert all(sorted(order.tolist()) == list(range(20)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 6
