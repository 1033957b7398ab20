import numpy as np
import pytest
import torch

from ddpm_app.engine import Engine, SampleRequest
from ddpm_app.evaluation import draws
from ddpm_app.evaluation.draws import begin, collect, draw, missing
from tests.doubles import edit, refusal, save_pipeline, tiny_network


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(draws, "CHUNK", 3)


@pytest.fixture
def engine(tiny_pipeline):
    return Engine("cpu", tiny_pipeline.parent)


REQUEST = SampleRequest(model="tiny-8", sampler="ddpm", num_inference_steps=3, seed=5)


def draw_all(engine, folder, count, request=REQUEST):
    begin(folder, request, engine.checkpoints)
    return list(draw(engine, request, folder, missing(folder, count)))


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.npy"))}


def test_image_k_has_the_seed_of_the_request_plus_k(engine, tmp_path):
    drawings = draw_all(engine, tmp_path, 8)
    found = collect(tmp_path, 8)
    assert found.shape == (8, 3, 8, 8)
    *_, at_once = engine.run(SampleRequest(**REQUEST.recipe() | {"num_images": 8}))
    assert (found.int() - at_once.images.int()).abs().max() <= 1  # a chunk is another batch
    assert [at.done for at in drawings][-1] == drawings[-1].num_images == 8
    assert [at.done for at in drawings] == sorted(at.done for at in drawings)


def test_what_was_killed_goes_on_where_it_was_and_ends_with_the_same_samples(engine, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    draw_all(engine, whole, 8)
    begin(killed, REQUEST, engine.checkpoints)
    run = draw(engine, REQUEST, killed, missing(killed, 8))
    for _ in range(5):  # the first chunk has 3 steps: the second is at work
        next(run)
    run.close()
    (killed / "00000003.partial").write_bytes(b"half of a chunk")
    assert [first for first, _ in missing(killed, 8)] == [3, 6]
    drawings = draw_all(engine, killed, 8)
    assert len(drawings) == 2 * 3
    assert drawings[-1].num_images == 5
    assert contents(killed) == contents(whole)
    assert draw_all(engine, killed, 8) == []


@pytest.mark.parametrize("left", [0, 50])
def test_a_damaged_chunk_is_drawn_again(engine, tmp_path, left):
    draw_all(engine, tmp_path, 6)
    before = contents(tmp_path)
    (tmp_path / "00000003.npy").write_bytes(before["00000003.npy"][:left])
    assert missing(tmp_path, 6) == [(3, 3)]
    draw_all(engine, tmp_path, 6)
    assert contents(tmp_path) == before


def test_more_samples_go_on_from_those_there_and_fewer_take_the_first(engine, tmp_path):
    draw_all(engine, tmp_path, 4)
    first = collect(tmp_path, 4)
    assert len(draw_all(engine, tmp_path, 7)) == 2 * 3  # the chunk of one is filled, and one is new
    assert (collect(tmp_path, 7)[:4].int() - first.int()).abs().max() <= 1
    assert torch.equal(collect(tmp_path, 2), first[:2])
    assert draw_all(engine, tmp_path, 2) == []


def test_samples_of_other_settings_or_weights_are_not_mixed(engine, tmp_path, tiny_copy):
    draw_all(engine, tmp_path / "out", 3)
    for name, value in (("seed", 6), ("sampler", "ddim"), ("num_inference_steps", 4)):
        other = SampleRequest(**REQUEST.recipe() | {name: value})
        assert f"another {name}" in refusal(lambda other=other: draw_all(engine, tmp_path / "out", 3, other))
    again = Engine("cpu", tiny_copy.parent)
    assert draw_all(again, tmp_path / "out", 3) == []  # a copy of the same weights
    edit(tiny_copy / "scheduler" / "scheduler_config.json", clip_sample=False)
    assert "another weights" in refusal(lambda: draw_all(again, tmp_path / "out", 3))
    save_pipeline(tiny_copy, tiny_network(seed=1))
    assert "another weights" in refusal(lambda: draw_all(again, tmp_path / "out", 3))


@pytest.mark.parametrize("taken", ["request.json.partial", "00000000.partial"])
def test_samples_that_cannot_be_written_are_told(engine, tmp_path, taken):
    (tmp_path / taken).mkdir()
    said = refusal(lambda: draw_all(engine, tmp_path, 3))
    assert "the samples could not be written" in said
    assert str(tmp_path) not in said  # a visitor of the page is told it too


def test_a_chunk_is_a_plain_numpy_file(engine, tmp_path):
    draw_all(engine, tmp_path, 3)
    array = np.load(tmp_path / "00000000.npy")
    assert (array.dtype, array.shape) == (np.uint8, (3, 3, 8, 8))
