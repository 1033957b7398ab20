import argparse
import errno
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict

import psutil
import pytest
from PIL import Image

from ddpm_app.commands import train
from ddpm_app.engine import Engine
from ddpm_app.models import available_models
from ddpm_app.training import TrainingConfig, records, runs
from ddpm_app.training.checkpoints import STATE
from ddpm_app.training.data import load_images
from ddpm_app.training.presets import PRESETS
from ddpm_app.training.uploads import keep_uploads
from tests.doubles import refusal

TINY = {
    "image_size": 8,
    "block_out_channels": (32,),
    "attention_resolutions": (),
    "batch_size": 2,
    "save_every": 20,
    "sample_every": 20,
    "num_train_timesteps": 20,
}
ENDLESS = 10**6


@pytest.fixture
def checkpoints(tmp_path):
    """A folder for models, whose runs are all ended with the test."""
    where = tmp_path / "checkpoints"
    where.mkdir()
    yield where
    while name := runs.active(where):
        psutil.Process(record(where / name)["pid"]).kill()
        time.sleep(0.05)


def record(out):
    return json.loads((out / records.RUN).read_text())


def begun(checkpoints, name="mine", **settings):
    """The folder of a run that was just started."""
    out = runs.free_folder(checkpoints, name)
    runs.start(
        out, TrainingConfig(**({"data": "shapes", "out": str(out), "num_steps": ENDLESS} | TINY | settings))
    )
    return out


def until(out, *wanted, seconds=150, also=lambda state: True):
    """The first state of the run that is one of those wanted."""
    end = time.monotonic() + seconds
    while (state := runs.state(out)).status not in wanted or not also(state):
        assert time.monotonic() < end, (state.status, (out / records.LOG).read_text())
        time.sleep(0.05)
    return state


@pytest.mark.slow
def test_a_run_is_paused_resumed_and_stopped_and_leaves_a_model(checkpoints):
    out = begun(checkpoints)
    assert runs.state(out).status == "loading"
    assert "mine is at work" in refusal(lambda: begun(checkpoints, "other"))
    running = until(out, "running", also=lambda state: state.progress)
    assert running.progress[-1].loss > 0
    assert psutil.Process(record(out)["pid"]).nice() > psutil.Process().nice()

    runs.pause(out)
    paused = until(out, "paused")
    assert paused.asked
    assert paused.steps_saved == paused.progress[-1].step >= running.progress[-1].step
    assert "mine" in available_models(checkpoints)
    assert paused.sheet.name == f"step-{paused.steps_saved:07d}.png"

    runs.resume(out)
    further = until(out, "running", also=lambda state: state.steps_saved > paused.steps_saved)
    assert [point.step for point in further.progress] == sorted({point.step for point in further.progress})
    assert further.progress[: len(paused.progress)] == paused.progress
    runs.stop(out)
    stopped = until(out, "finished", also=lambda state: not (out / STATE).exists())
    assert stopped.steps_saved < ENDLESS
    assert "could go on" in refusal(lambda: runs.resume(out))
    Engine("cpu", checkpoints).model("mine")


@pytest.mark.slow
def test_a_killed_run_is_interrupted_and_goes_on_from_its_last_save(checkpoints):
    out = begun(checkpoints)
    until(out, "running", also=lambda state: state.steps_saved)
    os.kill(record(out)["pid"], signal.SIGKILL)
    killed = until(out, "paused")
    assert not killed.asked
    runs.resume(out)
    until(out, "running", also=lambda state: state.steps_saved > killed.steps_saved)


@pytest.mark.slow
def test_a_run_outlives_the_program_that_started_it(checkpoints):
    out = checkpoints / "mine"
    program = (
        "from ddpm_app.training import TrainingConfig, runs; from pathlib import Path; import os, signal\n"
        f"settings = {TINY | {'data': 'shapes', 'out': str(out), 'num_steps': ENDLESS}}\n"
        "runs.start(Path(settings['out']), TrainingConfig(**settings))\n"
        "os.killpg(0, signal.SIGKILL)"
    )
    server = subprocess.run([sys.executable, "-c", program], cwd=runs.ROOT, start_new_session=True)
    assert server.returncode == -signal.SIGKILL
    assert runs.active(checkpoints) == "mine"
    until(out, "running")


@pytest.mark.slow
def test_what_was_wrong_reaches_the_state_and_the_name_stays_free(checkpoints):
    out = begun(checkpoints, data="/no/such/folder")
    failed = until(out, "failed")
    assert "/no/such/folder" in failed.error
    assert not failed.error.startswith("error")
    until(begun(checkpoints, num_steps=2), "finished")
    assert runs.state(out).steps_saved == 2


def test_another_process_with_the_runs_number_is_not_the_run(checkpoints):
    out = checkpoints / "mine"
    out.mkdir()
    asked = {"pid": os.getpid(), "started": 0, "config": {"out": str(out), "num_steps": 9}, "wanted": ""}
    (out / records.RUN).write_text(json.dumps(asked))
    assert runs.state(out).status == "paused"
    runs.pause(out)  # this very process, if it were mistaken


def test_the_copy_of_a_run_at_work_is_a_run_of_its_own(checkpoints):
    out, copy = checkpoints / "mine", checkpoints / "copy"
    program = [sys.executable, "-c", "import time; time.sleep(99)", f"--out={out}"]
    with subprocess.Popen(program) as process:
        asked = {"pid": process.pid, "started": 0, "config": {"out": str(out), "num_steps": 9}, "wanted": ""}
        for folder in (out, copy):
            folder.mkdir()
            (folder / records.RUN).write_text(json.dumps(asked))
        assert [runs.state(folder).status for folder in (out, copy)] == ["loading", "paused"]
        process.kill()


def test_a_run_that_was_moved_goes_on_where_it_lies_now(tmp_path):
    config = {"out": "/old/mine", "data": "/old/mine/data", "num_steps": 9}
    wanted = {"out": str(tmp_path), "data": str(tmp_path / "data"), "num_steps": 9}
    assert runs.moved(config, tmp_path) == wanted
    assert runs.moved(config | {"data": "/elsewhere"}, tmp_path)["data"] == "/elsewhere"


@pytest.mark.parametrize(
    ("said", "taken"),
    [("error: the loss is no longer a number", {"learning_rate": 1e-4, "batch_size": 4}), ("", {})],
)
def test_a_run_that_failed_goes_on_with_less_if_that_is_wanted(checkpoints, monkeypatch, said, taken):
    out = checkpoints / "mine"
    out.mkdir()
    config = {"out": str(out), "data": "shapes", "num_steps": 9, "learning_rate": 1e-3, "batch_size": 4}
    (out / records.RUN).write_text(json.dumps({"pid": 0, "config": config}))
    (out / records.LOG).write_text(said)
    asked = []
    monkeypatch.setattr(runs, "_spawn", lambda out, config, resume: asked.append(config))
    runs.resume(out, learning_rate=1e-4, batch_size=64)
    assert asked == [config | taken]


def test_a_run_ended_for_good_keeps_no_pictures(checkpoints):
    out = checkpoints / "mine"
    for folder in ("data", "pixels"):
        (out / folder).mkdir(parents=True)
    (out / records.RUN).write_text(json.dumps({"pid": 0, "config": {"out": str(out), "num_steps": 9}}))
    runs.stop(out)
    assert [each.name for each in out.iterdir()] == [records.RUN]


def test_a_bug_is_told_by_its_last_line(checkpoints):
    out = checkpoints / "mine"
    out.mkdir()
    (out / records.RUN).write_text(json.dumps({"pid": 0, "config": {"out": str(out), "num_steps": 9}}))
    (out / records.LOG).write_text("step 1\nTraceback (most recent call last):\n  File x\nKeyError: 'unet'\n")
    assert "KeyError: 'unet'" in runs.state(out).error


def test_a_report_that_is_half_written_is_left_for_later(checkpoints):
    out = checkpoints / "mine"
    out.mkdir()
    (out / records.PROGRESS).write_text('{"step": 50, "loss": 0.5, "new": 1}\n{"step": 100, "lo')
    assert runs.state(out).progress == (records.Point(50, 0.5),)


@pytest.mark.parametrize(
    "name", ["", "../out", "a/b", ".hidden", "a b", "ä", "x" * 65, "emoji-32", "exact-shapes"]
)
def test_a_name_that_is_none_or_bundled_is_refused(checkpoints, name):
    assert "name" in refusal(lambda: runs.free_folder(checkpoints, name))


def test_a_folder_that_is_no_run_is_never_replaced(checkpoints):
    (checkpoints / "pictures").mkdir()
    assert "another name" in refusal(lambda: runs.free_folder(checkpoints, "pictures"))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_config_and_survives_the_command_line(preset):
    config = TrainingConfig("shapes", "out", **PRESETS[preset])
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    options = parser.parse_args(runs._flags(asdict(config)))
    assert TrainingConfig(**train.settings(options)) == config


# uploads


def test_uploads_are_kept_in_their_order_and_are_read_with_what_their_archives_hold(tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "z.PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as pack:
        pack.write(tmp_path / "z.PNG", "../../other.png")
        pack.writestr("notes.txt", "no picture")
    keep_uploads([tmp_path / "z.PNG", tmp_path / "a.zip"], tmp_path / "kept")
    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == ["00000.png", "00001.zip"]
    assert load_images(tmp_path / "kept", 8, 3).pixels.shape == (2, 3, 8, 8)


@pytest.mark.parametrize("full", ["uploads", "record"])
def test_a_run_that_finds_no_room_leaves_the_name_free_and_no_process(
    checkpoints, tmp_path, monkeypatch, full
):
    def no_room(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runs, {"uploads": "keep_uploads", "record": "write"}[full], no_room)
    out = runs.free_folder(checkpoints, "mine")
    config, children = TrainingConfig(str(out / runs.UPLOADS), str(out), **TINY), psutil.Process().children()
    said = refusal(lambda: runs.start(out, config, [tmp_path / "a.png"] if full == "uploads" else ()))
    assert "mine could not be started (No space left on device)" in said
    assert runs.free_folder(checkpoints, "mine") == out
    assert not out.exists()
    assert psutil.Process().children() == children


def test_an_upload_without_pictures_is_refused_and_leaves_the_name_free(checkpoints, tmp_path):
    (tmp_path / "a.txt").write_text("words")
    out = runs.free_folder(checkpoints, "mine")
    config = TrainingConfig(str(out / runs.UPLOADS), str(out), **TINY)
    assert "upload" in refusal(lambda: runs.start(out, config, [tmp_path / "a.txt"]))
    assert runs.free_folder(checkpoints, "mine") == out
