"""Our temporary files: all in one place, and gone by age."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder
from gradio_client import Client
from PIL import Image

from ddpm_app.pictures import read_recipe
from ddpm_app.ui.files import new_folder, own_cache, picture_file, shrink, sweep, sweeping
from tests.ui.conftest import MODEL

PICTURE = Image.new("L", (2, 2))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gradio's cache, with a component's initial value in it."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "0123").mkdir()
    PICTURE.save(tmp_path / "0123" / "initial.png")
    return tmp_path


def aged(file: str, seconds: float) -> Path:
    """The file and its folder, as if made so long ago."""
    for each in (Path(file), Path(file).parent):
        os.utime(each, (time.time() - seconds,) * 2)
    return Path(file)


def test_a_picture_lies_in_gradios_cache_with_its_recipe(cache: Path):
    file = Path(picture_file(PICTURE, "frame", {"seed": 3}))
    assert cache in file.parents
    assert file.name == "frame.png"
    assert read_recipe(file) == {"seed": 3}


def test_only_our_files_beyond_the_age_are_deleted(cache: Path):
    old, young = aged(picture_file(PICTURE, "a"), 7200), aged(picture_file(PICTURE, "a"), 1800)
    initial = aged(str(cache / "0123" / "initial.png"), 7200)
    fresh = new_folder()
    sweep(3600)
    assert not old.parent.exists()
    assert young.exists()
    assert initial.exists()
    assert fresh.exists()


def test_a_folder_goes_by_what_was_put_into_it_last(cache: Path):
    folder = new_folder()
    (folder / "evaluation" / "samples").mkdir(parents=True)
    file = folder / "evaluation" / "samples" / "0.npy"
    file.write_text("")
    for each in (folder, folder / "evaluation"):
        os.utime(each, (time.time() - 7200,) * 2)
    sweep(3600)
    assert file.exists()
    for each in (folder / "evaluation" / "samples", file):
        os.utime(each, (time.time() - 7200,) * 2)
    sweep(3600)
    assert not folder.exists()


def test_a_public_server_has_a_cache_of_its_own_and_deletes_that_of_one_that_died(tmp_path, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    left, at_work, other = (
        tmp_path / name for name in (f"ddpm_app-{process.pid}-a", f"ddpm_app-{os.getpid()}-a", "ddpm_app-x-a")
    )
    for folder in (left, at_work, other):
        folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "given"))
    own_cache()
    assert get_upload_folder() == str(tmp_path / "given")
    assert left.exists()
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    own_cache()
    assert tmp_path in new_folder().parents
    assert f"ddpm_app-{os.getpid()}-" in get_upload_folder()
    assert [folder.exists() for folder in (left, at_work, other)] == [False, True, True]


def test_nothing_to_delete_is_no_error(cache: Path):
    sweep(0)


def test_beyond_a_size_the_oldest_go_but_nothing_that_the_page_began_with(cache: Path):
    started = time.time() - 600
    aged(str(cache / "0123" / "initial.png"), 7200)
    older, newer = (aged(picture_file(PICTURE, "a"), age) for age in (300, 200))
    shrink(1.5 * newer.stat().st_size, started)
    assert not older.exists()
    assert newer.exists()
    assert (cache / "0123" / "initial.png").exists()


def test_the_server_sweeps_as_long_as_it_runs(cache: Path):
    async def served() -> None:
        async with sweeping(0.01, 3600)(None):
            late = aged(picture_file(PICTURE, "a"), 7200)
            while late.exists():
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(served(), 20))


@pytest.mark.slow
def test_whatever_a_run_shows_is_among_our_files(client: Client):
    def others() -> set[Path]:
        cache = Path(get_upload_folder())
        return {
            file for file in cache.rglob("*") if cache / "ddpm_app" not in file.parents and file.is_file()
        }

    before = others()
    for name in ("/sample", "/progressive", "/stochastic", "/interpolate"):
        job = client.submit(model=MODEL, num_inference_steps=3, num_images=2, api_name=name)
        job.result()
    client.predict(model=MODEL, api_name="/forward")
    assert list(Path(get_upload_folder(), "ddpm_app").rglob("preview.png"))
    assert others() == before
