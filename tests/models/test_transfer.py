"""Weights on a bad way: connections that break, wrong bytes, full disks, files that the disk spoils."""

import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from ddpm_app.models import load_model, transfer
from tests.doubles import edit, noisy_batch, refusal

REPOSITORY = "owner/repo"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE", 0.0)


@pytest.fixture
def repository(hub, tiny_copy):
    """The Hub with a model whose weights alone come a bad way."""
    hub.add(REPOSITORY, tiny_copy)
    hub.faulty = WEIGHTS
    return hub


def load(name: str = REPOSITORY, **report):
    return load_model(name, "cpu", checkpoints=Path("no-such-folder"), **report)


def cache(hub) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE, "models--owner--repo")


def cached(hub, file: str = WEIGHTS) -> Path:
    return cache(hub) / "snapshots" / hub.commit(REPOSITORY, "main") / file


def parts(hub) -> list[Path]:
    return list((cache(hub) / "blobs").glob("*.incomplete"))


def assert_loads(tiny_copy):
    expected = load_model(tiny_copy, "cpu").denoiser(*noisy_batch())
    torch.testing.assert_close(load().denoiser(*noisy_batch()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("resets", [False, True])
def test_a_broken_connection_goes_on_where_it_broke(repository, tiny_copy, resets):
    repository.resets = resets
    repository.breaks = [20_000, 0, 10_000]
    assert_loads(tiny_copy)
    starts = [int(asked[6:-1]) for asked in repository.ranges if asked]
    assert len(starts) == 3
    assert starts == sorted(starts)
    assert resets or starts == [20_000, 20_000, 30_000]  # of a reset the last bytes may be lost
    assert not parts(repository)


def test_a_download_that_was_given_up_is_gone_on_with_the_next_time(repository, tiny_copy):
    repository.breaks = [20_000] + [0] * transfer.PATIENCE
    assert "check the network" in refusal(load)
    assert [part.stat().st_size for part in parts(repository)] == [20_000]
    repository.ranges.clear()
    assert_loads(tiny_copy)
    assert repository.ranges == ["bytes=20000-"]


def test_a_server_that_knows_no_ranges_sends_all_anew(repository, tiny_copy, monkeypatch):
    monkeypatch.setattr(repository, "ranged", lambda asked, body: (200, {}, body))
    repository.breaks = [20_000]
    assert_loads(tiny_copy)


def test_a_server_that_fails_for_a_moment_is_asked_again(repository, tiny_copy, monkeypatch):
    answer, failures = repository.answer, [503, 429]

    def at_first_busy(path):
        status, headers, body = answer(path)
        if WEIGHTS in path and repository.log[-1].startswith("GET") and failures:
            return failures.pop(), {}, b""
        return status, headers, body

    monkeypatch.setattr(repository, "answer", at_first_busy)
    assert_loads(tiny_copy)
    assert not failures


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


@pytest.mark.parametrize("change", [flipped, lambda body: body + b"more"])
def test_wrong_bytes_are_fetched_again(repository, tiny_copy, change):
    repository.changes = [change]
    assert_loads(tiny_copy)
    assert repository.ranges == ["", ""]


def test_bytes_that_are_wrong_twice_are_told_and_not_kept(repository, tiny_copy):
    repository.changes = [flipped, flipped]
    assert "twice" in refusal(load)
    assert not parts(repository)
    assert not cached(repository).exists()
    assert_loads(tiny_copy)


def test_a_wrong_configuration_is_fetched_again_and_told_when_wrong_twice(hub, tiny_copy):
    hub.add(REPOSITORY, tiny_copy)
    hub.changes = [bytes.swapcase] * 6  # three files
    assert "twice" in refusal(load)
    hub.changes = [bytes.swapcase] * 3
    assert_loads(tiny_copy)
    assert not hub.changes


@pytest.mark.parametrize("spoil", [lambda whole: whole[:-1000], lambda whole: b"\0" * len(whole)])
@pytest.mark.parametrize("file", [WEIGHTS, "unet/config.json"])
def test_a_file_that_the_disk_spoilt_is_fetched_again(hub, tiny_copy, file, spoil):
    hub.add(REPOSITORY, tiny_copy)
    load()
    cached(hub, file).resolve().write_bytes(spoil((tiny_copy / file).read_bytes()))
    hub.log.clear()
    assert_loads(tiny_copy)
    assert hub.downloads() == [file.rpartition("/")[2]]


def test_a_file_that_the_hub_itself_has_damaged_is_told_and_fetched_once(hub, tiny_copy):
    (tiny_copy / WEIGHTS).write_bytes(b"not tensors")
    hub.add(REPOSITORY, tiny_copy)
    assert "damaged" in refusal(load)
    assert "damaged" in refusal(load)
    assert hub.downloads().count("diffusion_pytorch_model.safetensors") == 1


def test_a_disk_without_room_is_told_before_anything_is_fetched(repository, tiny_copy, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 10_000))
        sentence = refusal(load)
    assert "HF_HOME" in sentence
    assert "0 MB free" in sentence
    assert not repository.ranges
    assert_loads(tiny_copy)


def test_a_disk_that_fills_up_on_the_way_is_told_and_given_back(repository, tiny_copy, monkeypatch):
    def full(here, size):
        if here > 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    sentence = refusal(lambda: load(report=full))
    assert "make room" in sentence
    assert not parts(repository)
    assert_loads(tiny_copy)


def test_the_report_tells_how_many_bytes_of_all_files_are_here(hub, tiny_copy):
    from tests.doubles import tiny_network

    (tiny_copy / WEIGHTS).unlink()
    tiny_network().half().save_pretrained(tiny_copy / "unet", max_shard_size="10KB")
    hub.add(REPOSITORY, tiny_copy)
    seen = []
    load(report=lambda here, size: seen.append((here, size)))
    total = sum(file.stat().st_size for file in tiny_copy.rglob("*.safetensors"))
    assert {size for _, size in seen} == {total}
    assert seen[0][0] == 0
    assert seen[-1][0] == total
    assert seen == sorted(seen)
    seen.clear()
    load(report=lambda here, size: seen.append((here, size)))
    assert not seen


def test_two_who_want_the_same_file_fetch_it_once(repository, tiny_copy, monkeypatch):
    """The second is told how far the first is."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    monkeypatch.setattr(transfer, "LOCK_SECONDS", 0.01)
    repository.held.clear()
    told = Event(), Event()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(load, report=lambda here, size, k=k: here and told[k].set()) for k in (0, 1)]
        assert all(event.wait(60) for event in told)
        repository.held.set()
        for each in both:
            each.result(60)
    assert repository.ranges == [""]


# offline


def test_a_pinned_commit_that_is_cached_asks_nothing(hub, tiny_copy):
    hub.add(REPOSITORY, tiny_copy)
    pinned = f"{REPOSITORY}@{hub.commit(REPOSITORY, 'main')}"
    load(pinned)
    hub.log.clear()
    load(pinned)
    assert not hub.log


@pytest.mark.parametrize("listed", [True, False])  # as a newer and as an older client leave the cache
@pytest.mark.parametrize("pinned", [True, False])
def test_what_is_cached_loads_in_offline_mode_without_a_request(hub, tiny_copy, monkeypatch, listed, pinned):
    from huggingface_hub import constants

    hub.add(REPOSITORY, tiny_copy)
    load()
    if not listed:
        shutil.rmtree(cache(hub) / "trees")
        monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    hub.log.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load(f"{REPOSITORY}@{hub.commit(REPOSITORY, 'main')}" if pinned else REPOSITORY).num_parameters
    assert not hub.log


def test_weights_that_are_not_cached_are_told_in_offline_mode(repository, monkeypatch):
    from huggingface_hub import constants

    repository.breaks = [0] * transfer.PATIENCE
    refusal(load)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "not cached" in refusal(load)


def test_a_new_commit_of_a_branch_is_taken_at_the_next_load(hub, tiny_copy, monkeypatch):
    hub.add(REPOSITORY, tiny_copy)
    assert load().diffusion.clip_denoised
    edit(tiny_copy / "scheduler" / "scheduler_config.json", clip_sample=False)
    monkeypatch.setattr(hub, "commit", lambda repository, revision: "c" * 40)
    assert not load().diffusion.clip_denoised
