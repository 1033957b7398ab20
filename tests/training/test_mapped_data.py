"""A set of pictures that outgrows memory lies in a file beside the run, decoded once."""

import os
import subprocess
import sys

import pytest
import torch

from ddpm_app.pictures import to_picture
from ddpm_app.training import data, store
from ddpm_app.training.data import load_images
from tests.doubles import refusal
from tests.training.runs import picture

SIX = torch.stack([picture(seed) for seed in range(6)])


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(store, "MEMORY", 3 * 3 * 8 * 8)


def test_a_set_that_outgrows_memory_is_mapped_from_a_file(pictures, tmp_path, small_memory):
    (pictures / "broken.png").write_bytes(b"")
    images = load_images(pictures, 8, 3, cache=tmp_path / "run")
    assert torch.equal(images.pixels, SIX)
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["pixels.json", "pixels.uint8"]
    assert torch.equal(images.pixels[torch.tensor([4, 0])], SIX[[4, 0]])
    assert torch.equal(load_images(pictures, 8, 3).pixels, SIX)  # no folder given: in memory all the same


def test_a_set_that_fits_leaves_no_file(pictures, tmp_path):
    load_images(pictures, 8, 3, cache=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mapped_set_is_decoded_once_and_again_once_changed(pictures, tmp_path, small_memory, monkeypatch):
    (pictures / "broken.png").write_bytes(b"")
    first = load_images(pictures, 8, 3, cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(data, "fit", None)  # nothing can be decoded
        again = load_images(pictures, 8, 3, cache=tmp_path)
        assert torch.equal(again.pixels, SIX)
        assert again.unreadable == ("broken.png",)
        assert "no picture" in refusal(lambda: load_images(pictures, 8, 3, cache=tmp_path, limit=5))
    assert load_images(pictures, 16, 3, cache=tmp_path).pixels.shape == (6, 3, 16, 16)
    to_picture(picture(7)).save(pictures / "00.png")
    assert torch.equal(load_images(pictures, 8, 3, cache=tmp_path).pixels[0], picture(7))
    assert torch.equal(first.pixels, SIX)  # what is mapped already stays as it was


@pytest.mark.parametrize("damage", ["pixels.uint8", "pixels.json"])
def test_a_damaged_cache_is_made_again(pictures, tmp_path, small_memory, damage):
    load_images(pictures, 8, 3, cache=tmp_path)
    (tmp_path / damage).write_bytes(b"{")
    assert torch.equal(load_images(pictures, 8, 3, cache=tmp_path).pixels, SIX)


def test_an_interrupted_decoding_leaves_nothing_behind(pictures, tmp_path, small_memory, monkeypatch):
    fit, count = data.fit, iter(range(6))

    def interrupted(*args):
        if next(count) == 5:
            raise KeyboardInterrupt
        return fit(*args)

    monkeypatch.setattr(data, "THREADS", 1)
    monkeypatch.setattr(data, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_images(pictures, 8, 3, cache=tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_what_a_killed_process_had_begun_to_decode_is_removed_but_not_what_another_writes(
    pictures, tmp_path, small_memory
):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [tmp_path / f"pixels.uint8.{pid}" for pid in (dead.pid, os.getppid())]
    for file in left:
        file.write_bytes(b"half of the pictures")
    load_images(pictures, 8, 3, cache=tmp_path)
    assert [file.exists() for file in left] == [False, True]


def test_a_cache_that_cannot_be_written_is_told(pictures, small_memory):
    sentence = refusal(lambda: load_images(pictures, 8, 3, cache=pictures / "00.png"))
    assert "00.png" in sentence
    assert "make room" in sentence
