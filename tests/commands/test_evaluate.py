"""`evaluate` on a handful of pictures: its numbers, its lines, its refusals."""

import pytest

from ddpm_app.commands import main
from ddpm_app.engine.checks import MAX_SEED
from tests.commands.running import NORMAL, answer, complaint
from tests.doubles import save_pipeline, tiny_network


def test_evaluate_measures_the_first_pictures(capsys, pictures):
    wanted = ["evaluate", *NORMAL, "--data", pictures, "--num-terms", 60, "--variance", "fixed_large"]
    two = answer(capsys, *wanted, "--num-images", 2)
    assert two["num_images"] == 2
    assert two["bits_per_dim"] == pytest.approx(two["prior_bpd"] + two["vb_bpd"] + two["decoder_bpd"])
    assert two["bits_per_dim"] == pytest.approx(7.2, abs=0.7)  # the entropy of this data is 7.04
    assert answer(capsys, *wanted)["num_images"] == 3  # all there are


def test_of_one_picture_the_standard_error_is_not_known(capsys, pictures):
    values = answer(capsys, "evaluate", *NORMAL, "--data", pictures, "--num-images", 1, "--num-terms", 4)
    assert values["standard_error"] is None
    assert (values["metric"], values["variance"], values["seed"]) == ("nll", "auto", 0)


@pytest.mark.parametrize("metric", ["nll", "steps"])
def test_a_seed_is_checked_once_and_the_last_one_is_followed_by_the_first(capsys, pictures, metric):
    wanted = ["evaluate", *NORMAL, "--data", pictures, "--metric", metric, "--num-terms", 4]
    for seed in (-5, 10**20):
        assert f"got {seed}" in complaint(capsys, *wanted, "--seed", seed)
    assert answer(capsys, *wanted, "--num-images", 2, "--seed", MAX_SEED)["num_images"] == 2


def test_evaluate_prints_and_tells_the_rows_of_table_4(capsys, pictures):
    wanted = ["evaluate", *NORMAL, "--data", pictures, "--metric", "rate-distortion", "--num-images", 1]
    values = answer(capsys, *wanted)
    assert [row["reverse_steps"] for row in values["rows"]] == list(range(1000, 0, -100))
    assert all(row["rate_standard_error"] is None for row in values["rows"])  # of one picture
    assert main([*map(str, wanted)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 12
    for line, row in zip(printed[1:-1], values["rows"], strict=True):
        assert line.split()[:2] == [str(row["reverse_steps"]), f"{row['rate_bpd']:.5f}"]
    assert printed[1].split()[-2:] == ["1.77581", "0.95136"]  # the paper's


def test_evaluate_says_what_is_wrong(capsys, tmp_path, pictures):
    assert "--data" in complaint(capsys, "evaluate", *NORMAL)
    assert "--data" in complaint(capsys, "evaluate", *NORMAL, "--data", tmp_path / "missing")
    assert "--num-images" in complaint(capsys, "evaluate", *NORMAL, "--data", pictures, "--num-images", 0)
    assert "num_terms" in complaint(capsys, "evaluate", *NORMAL, "--data", pictures, "--num-terms", 1)
    wanted = ["evaluate", *NORMAL, "--data", pictures, "--metric", "coding", "--steps", 50]
    assert "--steps is for --metric fid alone" in complaint(capsys, *wanted)


def test_evaluate_encodes_and_draws_again_in_each_number_of_steps(capsys, pictures):
    wanted = ["evaluate", *NORMAL, "--data", pictures, "--metric", "reconstruction"]
    values = answer(capsys, *wanted, "--num-terms", 50)
    assert values["num_images"] == 3
    assert [row["num_inference_steps"] for row in values["rows"]] == [10, 20, 50]
    assert values["rows"][0]["mse"] > 5 * values["rows"][2]["mse"] > 0
    (one,) = answer(capsys, *wanted, "--num-images", 1, "--num-terms", 5)["rows"]
    assert (one["num_inference_steps"], one["standard_error"]) == (5, None)
    rows = answer(capsys, *wanted, "--num-images", 1, "--num-terms", 15)["rows"]
    assert [row["num_inference_steps"] for row in rows] == [10, 15]
    assert main([*map(str, wanted), "--num-images", "1", "--num-terms", "5"]) == 0
    assert "+-" not in capsys.readouterr().out  # of one picture no error is known
    assert "--variance" in complaint(capsys, *wanted, "--variance", "fixed_small")


def test_evaluate_compares_variances_and_chosen_steps(capsys, pictures):
    wanted = ["evaluate", *NORMAL, "--metric", "steps", "--data", pictures, "--num-terms", 30]
    values = answer(capsys, *wanted)
    assert (values["num_images"], values["num_candidates"]) == (3, 30)
    rows = {(row["variance_type"], row["num_inference_steps"]): row for row in values["rows"]}
    kinds = ("fixed_small", "fixed_large", "analytic")
    assert rows.keys() == {(kind, steps) for kind in kinds for steps in (10, 25, 30)}
    for (_, steps), row in rows.items():
        assert len(row["timesteps"]) == steps
        # chosen on one other picture, whose noise decides where most steps are taken anyway
        assert steps > 10 or 0 < row["best_bits_per_dim"] < row["even_bits_per_dim"]
    assert rows["analytic", 10]["best_bits_per_dim"] < rows["fixed_large", 10]["best_bits_per_dim"]
    assert main([*map(str, wanted)]) == 0
    assert "2 pictures chose, 1 measure" in capsys.readouterr().out
    assert "at least 2" in complaint(capsys, *wanted, "--num-images", 1)
    assert "--variance" in complaint(capsys, *wanted, "--variance", "fixed_small")


def test_evaluate_packs_pictures_and_unpacks_them(capsys, pictures):
    wanted = ["evaluate", *NORMAL, "--metric", "coding", "--data", pictures, "--num-terms", 5]
    values = answer(capsys, *wanted, "--num-images", 2)
    assert (values["num_images"], values["num_exact"], values["num_inference_steps"]) == (2, 2, 5)
    assert values["net_bpd"] == pytest.approx(values["bound_bpd"], rel=0.1)
    assert values["first_num_bytes"] < values["num_bytes"]
    assert values["png_bpd"] > 0
    assert "analytic" in complaint(capsys, *wanted, "--variance", "analytic")


@pytest.mark.parametrize("metric", ["nll", "fid"])
def test_evaluate_wants_a_model_of_square_pictures(capsys, tmp_path, pictures, metric):
    wide = save_pipeline(tmp_path / "wide", tiny_network(sample_size=[8, 16]))
    asked = ["evaluate", "--model", wide, "--data", pictures, "--metric", metric]
    more = ["--out", tmp_path / "out", "--num-images", 300] if metric == "fid" else []
    assert "16 x 8" in complaint(capsys, *asked, *more)
