import contextlib
import json
import math
from functools import partial

import pytest

from ddpm_app.commands import ablate, main
from ddpm_app.commands.report import known
from ddpm_app.core.losses import LOSSES
from ddpm_app.evaluation import ablation
from tests.training.runs import TINY, save_pictures

CELLS = ["eps-simple", "mu-fixed"]


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """A grid of two tiny cells over pictures of two classes."""
    monkeypatch.setenv("DDPM_APP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ablation, "trained_on", partial(ablation.trained_on, steps=3))
    for place, name in enumerate(("one", "other")):
        save_pictures(tmp_path / "data" / name, range(4 * place, 4 * place + 4))
    words = ["ablate", "--data", tmp_path / "data", "--out", tmp_path / "grid", "--channels", 3]
    for name, value in TINY.items():
        words += ["--" + name.replace("_", "-"), *(value if isinstance(value, tuple) else [value])]
    words += ["--num-samples", 4, "--num-pictures", 2, "--num-terms", 4, "--device", "cpu"]
    return [*map(str, words), "--cells", *CELLS]


def test_the_table_stands_beside_the_papers(capsys, arguments, tmp_path):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    place = next(k for k, line in enumerate(lines) if line.startswith("predicts, learns from"))
    simple, mu, real = lines[place + 1 : place + 4]
    assert simple.startswith("eps, L_simple")
    assert simple.split()[-2:] == ["9.46", "3.17"]
    assert mu.startswith("mu, L, fixed variance")
    assert mu.split()[-2:] == ["8.06", "13.22"]
    assert " +- " in simple
    assert real.startswith("4 real pictures")
    assert "5 timesteps each" in lines[place + 5]
    assert (tmp_path / "grid" / "ablation.png").exists()


def test_a_second_call_trains_and_draws_nothing_and_says_the_same(capsys, arguments, tmp_path):
    assert main([*arguments, "--json"]) == 0
    first = capsys.readouterr().out.splitlines()
    assert main([*arguments, "--json"]) == 0
    *told, again = capsys.readouterr().out.splitlines()
    assert again == first[-1]
    assert told == CELLS
    values = json.loads(again, parse_constant=pytest.fail)
    assert [row["cell"]["name"] for row in values["rows"]] == CELLS
    assert all(math.isfinite(row["bits_per_dim"]) for row in values["rows"])
    assert values["settings"]["num_steps"] == 4
    assert values["measured"]["pictures"].endswith("/data, learned from")


def test_a_cell_that_diverges_is_told_as_such_beside_the_others(capsys, arguments, monkeypatch):
    bound = LOSSES["vlb"]
    monkeypatch.setitem(LOSSES, "vlb", lambda *given: bound(*given) * math.nan)
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "diverged at step 1: the loss was no number" in out
    assert main([*arguments, "--json"]) == 0
    simple, mu = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert (mu["run"]["diverged_at"], mu["quality"], mu["bits_per_dim"]) == (1, None, None)
    assert simple["quality"]["num_images"] == 4


def test_a_grid_that_is_told_to_stop_goes_on_where_it_was(capsys, arguments, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(ablate, "told_to_stop", lambda: contextlib.nullcontext(lambda: True))
        assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "step 1 of 4" in out
    assert out.endswith("stopped; the same command resumes\n")
    assert not (tmp_path / "grid" / "mu-fixed").exists()
    assert main(arguments) == 0
    assert "step 4 of 4" in capsys.readouterr().out
    assert (tmp_path / "grid" / "ablation.png").exists()


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--num-samples", "1", "--num-samples must be at least 2"),
        ("--num-terms", "0", "--num-terms must be at least 2"),
        ("--data", "nowhere", "--data must be"),
        ("--image-size", "0", "image_size must be at least 1"),
    ],
)
def test_what_can_be_mended_is_one_line(capsys, arguments, flag, value, said):
    assert main([*arguments, flag, value]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_bound_without_end_is_null_for_machines():
    assert known({"rows": [(math.inf, math.nan, 1.5)]}) == {"rows": [[None, None, 1.5]]}
