import math
from dataclasses import asdict, replace

import pytest

from ddpm_app.core.losses import LOSSES
from ddpm_app.models import load_model
from ddpm_app.training.ablation import CELLS, SETTINGS, cell_config, cell_run, train_cell
from tests.doubles import refusal
from tests.training.runs import TINY, assert_same_weights, state_of

OWN = ("out", "prediction_type", "objective", "variance_type")


@pytest.fixture
def configs(pictures, tmp_path):
    """Every cell as a tiny run over the six pictures."""
    settings = SETTINGS | TINY | {"data": str(pictures), "channels": 3}
    return {name: cell_config(cell, tmp_path / "grid", settings) for name, cell in CELLS.items()}


def steps_of(config, **options):
    return [at.step for at in train_cell(config, **options)]


def test_the_papers_figures_are_those_of_its_table_2():
    paper = {(cell.inception_score, cell.fid) for cell in CELLS.values() if cell.fid}
    assert paper == {(7.28, 23.69), (8.06, 13.22), (7.67, 13.51), (9.46, 3.17)}
    assert [name for name, cell in CELLS.items() if cell.fid is None] == ["mu-mse", "eps-learned"]


def test_the_cells_differ_in_what_the_table_says_and_in_nothing_else(configs):
    alike = [
        {key: value for key, value in asdict(each).items() if key not in OWN} for each in configs.values()
    ]
    assert all(each == alike[0] for each in alike)
    own = {tuple(getattr(each, key) for key in OWN) for each in configs.values()}
    assert len(own) == len(CELLS) == 6


def test_the_grid_is_two_predictions_times_two_variances_of_the_bound_and_a_plain_error():
    for prediction in ("posterior_mean", "epsilon"):
        rows = [cell for cell in CELLS.values() if cell.prediction_type == prediction]
        kinds = {(cell.objective, cell.variance_type) for cell in rows}
        assert kinds == {("vlb", "learned"), ("vlb", "fixed_large"), ("simple", "fixed_large")}


@pytest.mark.parametrize("name", CELLS)
def test_a_trained_cell_is_a_model_of_its_kind_and_is_not_trained_again(configs, tmp_path, name):
    config = configs[name]
    assert steps_of(config) == [4]
    model = load_model(config.out, "cpu", checkpoints=tmp_path)
    assert model.diffusion.prediction_type == CELLS[name].prediction_type
    assert model.diffusion.variance_type == CELLS[name].variance_type
    before = state_of(config.out)["seconds"]
    assert steps_of(config) == []
    assert state_of(config.out)["seconds"] == before
    run = cell_run(config)
    assert (run.steps, run.diverged_at) == (4, None)
    assert run.loss > 0
    assert run.peak >= 1


def test_an_interrupted_cell_goes_on_to_the_weights_of_one_that_was_not(configs, tmp_path):
    config = configs["mu-fixed"]
    assert steps_of(config, stopping=lambda: True) == [1]
    assert steps_of(config) == [4]
    whole = replace(config, out=str(tmp_path / "whole"))
    assert steps_of(whole) == [4]
    assert_same_weights(config.out, whole.out)


def test_a_cell_whose_loss_is_no_number_says_at_which_step_and_is_left_alone(configs, monkeypatch):
    calls, bound = [], LOSSES["vlb"]

    def spoiled(*given):
        calls.append(1)
        return bound(*given) * (math.nan if len(calls) > 2 else 1)

    monkeypatch.setitem(LOSSES, "vlb", spoiled)
    config = configs["eps-learned"]
    assert steps_of(config) == []
    run = cell_run(config)
    assert (run.steps, run.diverged_at) == (2, 3)
    asked = len(calls)
    assert steps_of(config) == []
    assert len(calls) == asked


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"learning_rate": 1e-5}, "learning_rate 0.001, not 1e-05"), ({"seed": 3}, "seed 0")],
)
def test_a_grid_is_not_mixed_from_runs_of_different_settings(configs, changed, said):
    config = configs["eps-simple"]
    list(train_cell(config))
    sentence = refusal(lambda: list(train_cell(replace(config, **changed))))
    assert said in sentence
    assert sentence.endswith("give another --out")


def test_a_grid_is_not_mixed_from_different_data(configs, tmp_path):
    config = configs["eps-simple"]
    list(train_cell(config))
    sentence = refusal(lambda: list(train_cell(replace(config, data="shapes"))))
    assert "data pictures, not shapes" in sentence
