"""Several processes, each with its share of a batch, against one; and signals to a program of its own."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from ddpm_app.training import train
from ddpm_app.training.checkpoints import STATE
from tests.training.runs import assert_same_weights, flags, logged, start, state_of
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(config):
    """A run that tells the loss of every step."""
    return replace(config, batch_size=8, sample_every=1, learning_rate=1e-4)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def start_ranks(config, said, other=None):
    """Two processes of one run, as a launcher starts them; the second with a configuration of its own."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    configs = enumerate((config, other or config))
    return [start(each, said, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank, each in configs]


def assert_nearly_the_same(a, b):
    """The runs in both folders told the same losses and stand at nearly the same weights."""
    one, other = logged(a), logged(b)
    assert [line["step"] for line in one] == [line["step"] for line in other]
    assert [line["loss"] for line in one] == pytest.approx([line["loss"] for line in other], rel=1e-5)
    one, other = state_of(a), state_of(b)
    torch.testing.assert_close(one["timestep_history"], other["timestep_history"], rtol=1e-4, atol=0)
    for weight in one["network"]:
        # sums in another order; Adam makes up to the learning rate, 1e-4, of those that are nearly zero
        torch.testing.assert_close(one["network"][weight], other["network"][weight], rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_accumulation_steps": 2},
        {"timestep_sampling": "importance", "num_train_timesteps": 3, "batch_size": 24},
    ],
    ids=["parts", "importance"],
)
def test_two_processes_learn_what_one_does(config, tmp_path, changes):
    alone = replace(config, out=str(tmp_path / "alone"), **changes)
    list(train(alone))
    together = replace(config, **changes)
    ranks = start_ranks(together, tmp_path / "said")
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0], (tmp_path / "said").read_text()
    assert_nearly_the_same(alone.out, together.out)
    assert (tmp_path / "said").read_text().count("the model is in") == 1


def test_a_batch_that_the_processes_cannot_share_is_refused(config, tmp_path):
    ranks = start_ranks(replace(config, batch_size=6, gradient_accumulation_steps=2), tmp_path / "said")
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [2, 2]
    errors = [line for line in (tmp_path / "said").read_text().splitlines() if line.startswith("error")]
    assert set(errors) == {
        "error: batch_size must be a multiple of 4, the processes times gradient_accumulation_steps; got 6"
    }
    assert "Traceback" not in (tmp_path / "said").read_text()


def test_processes_that_do_not_share_a_disk_are_told_so_instead_of_waiting_for_one_another(config, tmp_path):
    list(train(replace(config, num_steps=2)))
    ranks = start_ranks(config, tmp_path / "said", replace(config, out=str(tmp_path / "other disk")))
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [2, 2]
    assert "--out at the steps 2, 0; give all of them the same --out" in (tmp_path / "said").read_text()
    assert state_of(config.out)["step"] == 2


@pytest.mark.slow
def test_a_run_that_accelerate_launched_ends_saved_by_a_signal_to_any_of_its_processes(config, tmp_path):
    together = replace(config, num_steps=5000)
    launcher = subprocess.Popen(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
            *("--mixed_precision", "no", "--main_process_port", free_port(), "-m", "ddpm_app"),
            *flags(together),
        ],
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},  # --cpu would launch one process alone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with launcher:
        try:
            wait_until(lambda: len(logged(together.out)) >= 2 or launcher.poll() is not None, 200)
            for process in psutil.Process(launcher.pid).children():
                if process.environ().get("RANK") == "1":
                    process.send_signal(signal.SIGTERM)
            said, _ = launcher.communicate()
        finally:
            launcher.kill()
    assert launcher.returncode == 0, said
    stopped = state_of(together.out)["step"]
    assert f"stopped after step {stopped}, the same command resumes" in said
    alone = replace(together, out=str(tmp_path / "alone"))
    list(train(alone, stopping=lambda: len(logged(alone.out)) == stopped - 1))
    assert_nearly_the_same(alone.out, together.out)


@pytest.mark.slow
def test_the_program_ends_saved_by_a_signal_and_the_same_command_resumes(config, tmp_path):
    config = replace(config, num_steps=12, save_every=1, sample_every=500)
    program = subprocess.Popen(
        [sys.executable, "-m", "ddpm_app", *flags(config)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: Path(config.out, STATE).exists() or program.poll() is not None, 120)
    program.terminate()
    said, _ = program.communicate()
    assert program.returncode == 0
    stopped = state_of(config.out)["step"]
    assert 0 < stopped < 12
    assert said.splitlines()[-1].startswith(f"stopped after step {stopped}, the same command resumes")
    list(train(config))
    whole = replace(config, out=str(tmp_path / "whole"))
    list(train(whole))
    assert_same_weights(config.out, whole.out)
