import pytest
import torch
from PIL import Image

from ddpm_app import pictures
from ddpm_app.pictures import to_picture
from ddpm_app.training import data, sources
from ddpm_app.training.data import Bounds, load_images
from tests.doubles import refusal
from tests.training.packed import SIX, encoded
from tests.training.runs import picture


@pytest.fixture
def folder(tmp_path):
    """Six pictures of 8 x 8, one of them in a folder below."""
    where = tmp_path / "pictures"
    (where / "below").mkdir(parents=True)
    for seed in range(6):
        to_picture(picture(seed)).save((where / "below" if seed == 5 else where) / f"{seed}.png")
    return where


# folders


def test_a_folder_is_read_with_all_its_subfolders(folder):
    images = load_images(folder, 8, 3)
    assert torch.equal(images.pixels, SIX)
    assert images.unreadable == ()
    assert images.left_out == ""


def test_a_split_of_a_folder_here_is_no_data_set_of_the_hub(folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    here = f"{folder.parent.name}/{folder.name}"
    for source in (here, f"{here}:train", f"{here}:train@main"):
        assert sources.hub_dataset(source) is None
    assert sources.hub_dataset("owner/name:train@main") == "owner/name"


def test_an_empty_folder_before_a_split_is_not_the_one_at_work_in(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert "must be" in refusal(lambda: load_images(":below", 8, 3))


def test_files_that_are_no_pictures_are_named_and_others_passed_over(folder):
    (folder / "below" / "broken.png").write_bytes(b"no picture")
    (folder / "half.jpg").write_bytes(encoded(picture(0))[:60])
    (folder / "._0.png").write_bytes(b"what macOS leaves")
    (folder / "notes.txt").write_text("about these pictures")
    images = load_images(folder, 8, 3)
    assert torch.equal(images.pixels, SIX)
    assert images.unreadable == ("below/broken.png", "half.jpg")
    assert images.left_out == "left out 2 unreadable: below/broken.png, half.jpg"


def test_a_picture_beyond_the_bounds_of_one_is_left_out_where_all_are_bounded(folder, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    Image.new("RGB", (16, 16)).save(folder / "large.png")
    assert len(load_images(folder, 8, 3).pixels) == 7
    images = load_images(folder, 8, 3, bounds=Bounds(pixels=6 * 64))
    assert torch.equal(images.pixels, SIX)
    assert images.left_out == "left out 1 unreadable: large.png"
    assert "more pixels" in refusal(lambda: load_images(folder, 8, 3, bounds=Bounds(pixels=6 * 64 - 1)))


def test_a_picture_that_is_larger_than_any_that_is_read_is_left_out_with_the_reason(folder):
    Image.new("1", (8000, 6300)).save(folder / "map.png")
    images = load_images(folder, 8, 1)
    assert images.left_out == "left out 1 unreadable: map.png (more than 50 million pixels)"


def test_a_long_list_of_unreadable_files_is_cut_short():
    names = tuple(f"{k}.png" for k in range(9))
    assert data.ImageSet(SIX, names).left_out == "left out 9 unreadable: 0.png, 1.png, 2.png and 6 more"


@pytest.mark.parametrize("threads", [1, 4])
def test_pictures_keep_their_order_however_many_threads_decode(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(data, "THREADS", threads)
    for k in range(60):  # every third one takes longer
        size = 400 if k % 3 == 0 else 4
        Image.new("L", (size, size), k).save(tmp_path / f"{k:02}.png")
    (tmp_path / "07.png").write_bytes(b"")
    images = load_images(tmp_path, 4, 1)
    assert images.pixels[:, 0, 0, 0].tolist() == [k for k in range(60) if k != 7]
    assert images.unreadable == ("07.png",)


def test_pictures_are_brought_to_one_size_and_number_of_channels(tmp_path):
    Image.new("RGB", (30, 20), "white").save(tmp_path / "a.jpg")
    Image.new("LA", (5, 9)).save(tmp_path / "b.png")
    images = load_images(tmp_path, 16, 1).pixels
    assert images.shape == (2, 1, 16, 16)
    assert (images == 255).all()  # what is transparent is white


def test_the_centre_square_is_kept_and_a_photograph_stands_upright(tmp_path):
    wide = Image.new("L", (24, 8), 0)
    wide.paste(255, (8, 0, 16, 8))
    wide.save(tmp_path / "a.png")
    halves = Image.new("L", (8, 8), 0)
    halves.paste(255, (0, 0, 8, 4))
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    halves.save(tmp_path / "b.png", exif=turned)
    centre, upright = load_images(tmp_path, 8, 1).pixels
    assert (centre == 255).all()
    assert (upright[0, :4] == 0).all()
    assert (upright[0, 4:] == 255).all()


def test_the_first_pictures_alone_are_read_where_no_more_are_wanted(folder, monkeypatch):
    monkeypatch.setattr(data, "THREADS", 1)
    opened = []
    opening = sources._fetched
    monkeypatch.setattr(sources, "_fetched", lambda fetch, name: opened.append(name) or opening(fetch, name))
    (folder / "0.png").write_bytes(b"")
    images = load_images(folder, 8, 3, limit=1)
    assert torch.equal(images.pixels, SIX[1:2])
    assert images.unreadable == ("0.png",)
    assert "below/5.png" not in opened


# what is refused


def test_what_is_no_source_is_refused_with_the_list_of_sources(tmp_path):
    (tmp_path / "list.csv").write_text("a,b")
    for wrong in (tmp_path / "missing", "missing", "photos/cats.zip", "", tmp_path / "list.csv"):
        sentence = refusal(lambda wrong=wrong: load_images(wrong, 8, 3))
        for allowed in ("--data", "folder", ".zip", ".parquet", "owner/name", "shapes", str(wrong)):
            assert allowed in sentence


def test_a_source_without_a_single_picture_is_refused(tmp_path):
    assert "no picture" in refusal(lambda: load_images(tmp_path, 8, 3))
    (tmp_path / "a.png").write_bytes(b"")
    sentence = refusal(lambda: load_images(tmp_path, 8, 3))
    assert "a.png" in sentence
    assert "shapes" in sentence


# shapes


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (28, 1), (64, 3)])
def test_the_drawn_shapes_are_the_same_every_time(size, channels):
    first, again = (load_images("shapes", size, channels, limit=12).pixels for _ in range(2))
    assert first.shape == (12, channels, size, size)
    assert torch.equal(first, again)
    assert len({image.numpy().tobytes() for image in first}) == 12


def test_the_drawn_shapes_are_ink_on_white():
    assert len(list(sources.open_source("shapes", 32).entries)) == 4096
    images = load_images("shapes", 32, 3, limit=500).pixels
    edges = [images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]]
    assert all((edge == 255).all() for edge in edges)
    inked = (images.amin(1) < 128).float().mean((1, 2))
    assert 0.02 < inked.min() < inked.max() < 0.7
    soft = (images != 255).any(1) & (images.amin(1) > 200)
    assert soft.any((1, 2)).float().mean() > 0.9  # edges are smooth
