"""`bench`: its figures beside diffusers, and what it cannot compare."""

from pathlib import Path

import pytest

from ddpm_app.evaluation.solvers import CONTENDERS
from tests.commands.running import NORMAL, answer, complaint
from tests.doubles import edit, save_pipeline, tiny_network

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_bench_agrees_with_diffusers_and_gives_the_ratio(capsys, tiny_pipeline, sampler):
    values = answer(
        capsys,
        "bench",
        *["--model", "tiny-8", "--checkpoints", tiny_pipeline.parent, "--device", "cpu"],
        *["--sampler", sampler, "--steps", 4, "--num-images", 1, 3, "--rounds", 1],
    )
    assert [row["num_images"] for row in values["rows"]] == [1, 3]
    for row in values["rows"]:
        assert row["largest_difference"] <= 1
        assert row["ratio"] == pytest.approx(row["diffusers_seconds"] / row["seconds"])
        assert row["seconds"] > 0


@pytest.mark.slow
def test_bench_says_what_cannot_be_compared(capsys, tiny_pipeline):
    tiny = ["bench", "--model", "tiny-8", "--checkpoints", tiny_pipeline.parent, "--device", "cpu"]
    assert "divide 1000" in complaint(capsys, *tiny, "--steps", 30)
    assert "--rounds" in complaint(capsys, *tiny, "--rounds", 0)
    assert "no weights" in complaint(capsys, "bench", *NORMAL)
    for what in ("visitors", "load"):
        assert "--visitors" in complaint(capsys, "bench", what, *NORMAL, "--visitors", 0)
    assert "1..256" in complaint(capsys, "bench", "visitors", *NORMAL, "--num-images", 300)
    assert "no model" in complaint(capsys, "bench", "visitors", "--model", "no-such")


@pytest.mark.parametrize(
    ("settings", "sampler", "said"),
    [
        ({"variance_type": "learned_range"}, "ddim", "--sampler ddpm"),
        ({"variance_type": "learned"}, "ddpm", "logarithm"),
        ({"prediction_type": "posterior_mean"}, "ddpm", "mu-tilde"),
    ],
)
def test_bench_refuses_what_diffusers_would_do_otherwise(capsys, tmp_path, settings, sampler, said):
    outputs = 6 if "variance_type" in settings else 3
    save_pipeline(tmp_path / "own", tiny_network(out_channels=outputs))
    edit(tmp_path / "own" / "scheduler" / "scheduler_config.json", **settings)
    wanted = ["bench", "--model", tmp_path / "own", "--device", "cpu", "--sampler", sampler]
    assert said in complaint(capsys, *wanted)


def test_bench_holds_the_samplers_against_a_long_run_and_the_data(capsys, pictures):
    wanted = ["bench", "solvers", *NORMAL, "--steps", 3, "--data", pictures]
    rows = answer(capsys, *wanted)["rows"]
    assert [row["sampler"] for row in rows] == [*CONTENDERS]
    assert {row["num_inference_steps"] for row in rows} == {3}
    assert all(row["nearest_distance"] > 0 for row in rows)
    assert "at least 8" in complaint(capsys, *wanted, "--num-images", 7)
    for picture in sorted(pictures.iterdir())[1:]:
        picture.unlink()
    assert "at least 2" in complaint(capsys, *wanted)


@pytest.mark.slow
def test_bench_times_training_steps_beside_diffusers_example(capsys):
    values = answer(capsys, "bench", "training", "--num-images", 1, 2, "--steps", 1, "--rounds", 1)
    assert [row["batch_size"] for row in values["rows"]] == [1, 2]
    for row in values["rows"]:
        assert row["ratio"] == pytest.approx(row["images_per_second"] / row["diffusers_images_per_second"])
        assert row["ratio"] > 0
    assert "--steps" in complaint(capsys, "bench", "training", "--steps", 0)
    assert "--num-images" in complaint(capsys, "bench", "training", "--num-images", 0)
