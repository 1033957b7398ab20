"""Zips and parquet files of pictures."""

import json
import zipfile

import pyarrow
import pyarrow.parquet
import pytest
import torch

from ddpm_app.training import sources
from ddpm_app.training.data import load_images
from tests.doubles import refusal
from tests.training.packed import SIX, encoded, parquet, zipped
from tests.training.runs import picture

# zips


def test_a_zip_holds_the_same_pictures_as_a_folder(tmp_path):
    members = {("deep/er/5.png" if k == 5 else f"{k}.png"): encoded(picture(k)) for k in reversed(range(6))}
    junk = {"__MACOSX/._0.png": b"x", "deep/.hidden.png": b"x", "read me.txt": b"x", "other.zip": b"x"}
    images = load_images(zipped(tmp_path / "photos.ZIP", members | junk | {"folder.png/": b""}), 8, 3)
    assert torch.equal(images.pixels, SIX)
    assert images.unreadable == ()


def test_a_folder_of_zips_is_read_as_one_set(tmp_path):
    for k in range(6):
        zipped(tmp_path / f"{k}.zip", {"picture.png": encoded(picture(k))})
    assert torch.equal(load_images(tmp_path, 8, 3).pixels, SIX)


def test_a_member_that_is_damaged_or_swells_beyond_measure_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_MEMBER", 10_000)
    members = {"../../0.png": encoded(picture(0)), "bomb.png": bytes(10_001), "sub/cat.png": b"no picture"}
    file = zipped(tmp_path / "photos.zip", members | {"torn.png": encoded(picture(1))})
    content = bytearray(file.read_bytes())
    content[content.rindex(b"IDAT") + 40] ^= 255  # within the last member, whose checksum is now wrong
    file.write_bytes(content)
    images = load_images(file, 8, 3)
    assert torch.equal(images.pixels, SIX[:1])
    assert images.unreadable == tuple(
        f"{name} in photos.zip" for name in ("bomb.png", "sub/cat.png", "torn.png")
    )
    assert sorted(tmp_path.iterdir()) == [file]  # nothing is unpacked


def test_no_more_of_a_member_is_read_than_it_says_it_has(tmp_path):
    file = zipped(tmp_path / "bomb.zip", {"bomb.png": bytes(5_000_000)})
    content = file.read_bytes().replace((5_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    file.write_bytes(content)
    with zipfile.ZipFile(file) as archive:
        assert len(sources._unzipped(archive, archive.infolist()[0])) <= 100


# parquet


@pytest.mark.parametrize("as_struct", [True, False])
def test_a_parquet_file_holds_the_same_pictures_as_a_folder(tmp_path, as_struct):
    cells = [encoded(image) for image in SIX] + [b"no picture", None]
    rows = [{"bytes": cell, "path": None} for cell in cells] if as_struct else cells
    images = load_images(parquet(tmp_path / "train.parquet", image=rows, label=list(range(8))), 8, 3)
    assert torch.equal(images.pixels, SIX)
    assert images.unreadable == ("row 6 of train.parquet", "row 7 of train.parquet")


def test_the_column_declared_to_hold_pictures_is_read(tmp_path):
    features = {"id": {"dtype": "binary", "_type": "Value"}, "scan": {"_type": "Image"}, "tags": [{}]}
    columns = {"id": [b"a"], "image": [b"a thumbnail"], "scan": [{"bytes": encoded(SIX[0]), "path": "a.png"}]}
    described = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table(columns).replace_schema_metadata(described)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert torch.equal(load_images(tmp_path / "a.parquet", 8, 3).pixels, SIX[:1])


@pytest.mark.parametrize("column", ["image", "img", "jpg"])
def test_without_a_declaration_the_likeliest_column_is_read(tmp_path, column):
    columns = {"id": [1], column: [encoded(SIX[0])], "text": ["a"], "mask": [b"no picture"]}
    assert torch.equal(load_images(parquet(tmp_path / "a.parquet", **columns), 8, 3).pixels, SIX[:1])


def test_a_folder_of_parquet_files_is_its_training_split(tmp_path):
    for k in range(2):
        rows = [encoded(image) for image in SIX[3 * k : 3 * k + 3]]
        parquet(tmp_path / "data" / f"train-0000{k}-of-00002.parquet", image=rows)
    parquet(tmp_path / "data" / "test-00000-of-00001.parquet", image=[encoded(picture(9)), b""])
    (tmp_path / "preview.png").write_bytes(encoded(picture(8)))
    assert torch.equal(load_images(tmp_path, 8, 3).pixels, SIX)
    test = load_images(f"{tmp_path}:test", 8, 3)
    assert torch.equal(test.pixels, picture(9)[None])
    assert test.unreadable == ("row 1 of data/test-00000-of-00001.parquet",)


# what is refused


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing more", b"PK\x03\x04 and nothing more"])
@pytest.mark.parametrize("suffix", ["parquet", "zip"])
def test_a_file_that_is_not_whole_is_refused(tmp_path, suffix, content):
    (tmp_path / f"broken.{suffix}").write_bytes(content)
    sentence = refusal(lambda: load_images(tmp_path / f"broken.{suffix}", 8, 3))
    assert f"broken.{suffix} is not a whole {suffix} file" in sentence


def test_a_parquet_file_without_pictures_is_refused(tmp_path):
    file = parquet(tmp_path / "odd.parquet", text=["a"], label=[3])
    assert "its columns are text, label" in refusal(lambda: load_images(file, 8, 3))
