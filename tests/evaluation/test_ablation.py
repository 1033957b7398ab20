import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from ddpm_app.engine import Engine
from ddpm_app.evaluation import ablation
from ddpm_app.evaluation.ablation import How, contact_sheet, measure_cell, new_judge
from ddpm_app.training.ablation import CELLS, DIVERGED, SETTINGS, cell_config, train_cell
from tests.doubles import refusal
from tests.training.runs import TINY, picture, save_pictures

HOW = How(num_samples=6, num_pictures=3, num_terms=4, seed=0)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A trained cell over pictures of two classes, whose classifier learns in few steps."""
    monkeypatch.setattr(ablation, "trained_on", partial(ablation.trained_on, steps=3))
    for place, name in enumerate(("one", "other")):
        save_pictures(tmp_path / "data" / name, range(4 * place, 4 * place + 4))
    settings = SETTINGS | TINY | {"data": str(tmp_path / "data"), "channels": 3}
    config = cell_config(CELLS["eps-learned"], tmp_path / "grid", settings)
    list(train_cell(config))
    return config


def test_a_cell_is_measured_once_and_again_only_when_something_else_is_asked(config):
    judge, told = new_judge(config, "", HOW), []
    first = measure_cell(Engine("cpu"), config, judge, HOW, told.append)
    assert len(told) == 2
    assert first.quality.num_images == 6
    assert first.quality.num_reference == 8
    assert first.standard_error > 0
    assert measure_cell(Engine("cpu"), config, judge, HOW, told.append) == first
    assert len(told) == 2
    more = measure_cell(Engine("cpu"), config, judge, replace(HOW, num_samples=5), told.append)
    assert (len(told), more.quality.num_images) == (4, 5)


def test_a_report_that_cannot_be_written_is_told(config, tmp_path):
    (tmp_path / "grid" / "eps-learned" / "ablation" / "report.json.partial").mkdir(parents=True)
    judge = new_judge(config, "", HOW)
    said = refusal(lambda: measure_cell(Engine("cpu"), config, judge, HOW, lambda sentence: None))
    assert "give the same command again" in said


def test_every_cell_is_drawn_over_the_whole_chain_from_the_same_seeds(config, monkeypatch):
    engine, asked = Engine("cpu"), []
    draw = engine.run
    monkeypatch.setattr(engine, "run", lambda request, *rest: (asked.append(request), draw(request))[1])
    drawn = ablation.samples(engine, config, replace(HOW, seed=3))
    assert [(each.sampler, each.num_inference_steps) for each in asked] == [("ddpm", 8)]
    assert asked[0].seeds == [3, 4, 5, 6, 7, 8]
    assert drawn.shape == (6, 3, 8, 8)
    assert torch.equal(ablation.samples(engine, config, replace(HOW, seed=3)), drawn)
    assert len(asked) == 1  # they are kept


def test_nothing_is_measured_of_a_cell_that_has_diverged(config, tmp_path):
    (tmp_path / "grid" / "eps-learned" / DIVERGED).write_text('{"step": 3}')
    judge = new_judge(config, "", HOW)
    report = measure_cell(Engine("cpu"), config, judge, HOW, pytest.fail)
    assert report.run.diverged_at == 3
    assert (report.bits_per_dim, report.standard_error, report.quality) == (None, None, None)


def test_the_bound_is_that_of_pictures_held_out_where_there_are_any(config, tmp_path):
    others = save_pictures(tmp_path / "others", range(20, 24))
    assert new_judge(config, "", HOW).about == f"{tmp_path.name}/data, learned from"
    judge = new_judge(config, str(others), HOW)
    assert judge.about == f"{tmp_path.name}/others, held out"
    assert len(judge.pictures) == 3
    assert judge.real.num_images == 4  # no more are there
    assert judge.real.fid > 0


def test_the_pictures_measured_are_not_the_first_class_alone(config, tmp_path):
    copies = shutil.copytree(tmp_path / "data", tmp_path / "copies")
    first = [picture(seed) for seed in range(4)]
    for held_out in ("", str(copies)):
        measured = new_judge(config, held_out, HOW).pictures
        classes = {any(torch.equal(each, one) for one in first) for each in measured}
        assert classes == {True, False}


def test_held_out_pictures_that_are_nowhere_are_told_by_their_own_flag(config):
    assert refusal(lambda: new_judge(config, "nowhere", HOW)).startswith("--held-out must be")


def test_one_picture_held_out_is_too_few(config, tmp_path):
    one = save_pictures(tmp_path / "one", range(1))
    assert "at least 2" in refusal(lambda: new_judge(config, str(one), HOW))


def test_data_without_classes_is_refused_before_anything_is_trained(config, tmp_path):
    plain = save_pictures(tmp_path / "plain", range(3))
    assert "tells no classes" in refusal(lambda: new_judge(replace(config, data=str(plain)), "", HOW))


def test_the_sheet_has_a_row_for_each_cell_that_was_drawn(config):
    judge = new_judge(config, "", HOW)
    report = measure_cell(Engine("cpu"), config, judge, HOW, lambda sentence: None)
    diverged = replace(report, quality=None)
    one, two = contact_sheet([report, diverged]), contact_sheet([report, report])
    assert two.height == 2 * one.height
    assert len(one.getcolors(2**16)) > 50  # pictures of noise, not a blank
