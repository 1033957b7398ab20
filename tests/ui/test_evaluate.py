import argparse
import json
import re
import shlex
from dataclasses import replace

import pytest
from gradio_client import Client, handle_file

from ddpm_app.commands import evaluate as evaluating
from ddpm_app.engine import SampleRequest
from ddpm_app.pictures import read_recipe, to_picture
from ddpm_app.ui import build_app
from ddpm_app.ui.forms import UNTOLD
from ddpm_app.ui.tabs.evaluate import MOST_CALLS, command, data_of, refuse_excess, refuse_parquet
from tests.doubles import refusal
from tests.training.runs import picture
from tests.ui.served import opened, path


@pytest.fixture(scope="module", autouse=True)
def short_training(tmp_path_factory):
    from ddpm_app.evaluation import extractors
    from ddpm_app.evaluation.classifier import learn

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_APP_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(extractors, "learn", lambda labelled: learn(labelled, steps=2))
        yield


@pytest.mark.slow
def test_the_scorecard_comes_after_live_samples_and_says_what_it_is_not(client: Client, tmp_path):
    for seed in range(40):
        to_picture(picture(seed)).save(tmp_path / f"{seed}.png")
    job = client.submit(
        model="tiny-8",
        source="upload",
        uploads=[handle_file(tmp_path / f"{seed}.png") for seed in range(40)],
        num_images=32,
        num_inference_steps=4,
        api_name="/evaluate",
    )
    status, sheet, scorecard, report = job.result(timeout=120)
    assert "32 samples measured" in status
    assert "not comparable with any published FID" in scorecard
    assert "| data | the uploaded pictures, 40 pictures |" in scorecard
    with open(report["value"] if isinstance(report, dict) else report) as file:
        values = json.load(file)
    assert f"{values['samples']['fid']:.4g}" in scorecard
    assert (values["samples"]["num_images"], values["samples"]["num_reference"]) == (32, 40)
    lines = [re.sub("<.*?>", "", output[0]) for output in job.outputs()]
    assert any(line.startswith("Drawing samples: ") for line in lines)
    assert read_recipe(path(sheet))["num_images"] == 32


def test_nothing_to_compare_with_is_said_in_words(tmp_path):
    assert "upload pictures" in refusal(lambda: data_of("upload", tmp_path, None, ""))
    assert "upload pictures" in refusal(lambda: data_of("path", tmp_path, None, " "))
    assert data_of("shapes", tmp_path, None, "") == "shapes"
    assert data_of("path", tmp_path, None, " owner/name ") == "owner/name"


def test_a_public_page_bounds_the_work_and_every_page_the_samples():
    refuse_excess(1024, 1000, local=True)
    refuse_excess(128, MOST_CALLS // 128, local=False)
    assert "public page" in refusal(lambda: refuse_excess(128, MOST_CALLS // 128 + 1, local=False))
    assert "at most 1024" in refusal(lambda: refuse_excess(1025, 1, local=True))


def test_a_public_page_reads_no_parquet_file_whose_few_bytes_may_stand_for_gigabytes():
    refuse_parquet(["a.parquet"], local=True)
    refuse_parquet(["a.png", "b.zip"], local=False)
    refuse_parquet(None, local=False)
    assert "no parquet files" in refusal(lambda: refuse_parquet(["a.png", "b.PARQUET"], local=False))


@pytest.mark.slow
def test_whether_eps_follows_the_clipped_guess_is_asked_here_too(client: Client):
    def drawn(**settings):
        answer = client.predict(
            "tiny-8", num_images=32, sampler="ddim", num_inference_steps=3, **settings, api_name="/evaluate"
        )
        return opened(path(answer[1])).tobytes()

    assert drawn() != drawn(rederive_eps=False)


@pytest.mark.slow
def test_the_sheet_of_an_evaluation_replays_it(client: Client):
    answer = client.predict("tiny-8", num_images=32, num_inference_steps=2, api_name="/evaluate")
    run = read_recipe(path(answer[1]))["run"]
    assert (run["tab"], run["source"], run["num_images"]) == ("evaluate", "shapes", 32)


def test_a_public_page_offers_no_folder_of_the_machine(engine):
    def sources(training):
        return [
            [value for _, value in block.choices]
            for block in build_app(engine, "exact-shapes", training=training).blocks.values()
            if getattr(block, "label", "") == "Data to compare with"
        ]

    assert sources(training=True) == [["shapes", "upload", "path"]]
    assert sources(training=False) == [["shapes", "upload"]]


def test_the_command_beneath_a_scorecard_asks_for_the_same_samples():
    asked = SampleRequest(model="exact-shapes", sampler="ddim", eta=0.5, num_images=1, seed=7)
    parser = argparse.ArgumentParser()
    evaluating.add_arguments(parser)
    words = shlex.split(command(asked, 512, UNTOLD))
    assert words[:4] == ["python", "-m", "ddpm_app", "evaluate"]
    options = parser.parse_args(words[4:])
    assert (options.metric, options.data, options.num_images) == ("fid", "shapes", 512)
    assert (options.model, options.sampler, options.steps, options.eta) == ("exact-shapes", "ddim", 50, 0.5)
    assert options.seed == 7
    assert "rederive_eps" not in vars(options)
    words = shlex.split(command(replace(asked, rederive_eps=False), 512, UNTOLD))
    assert not parser.parse_args(words[4:]).rederive_eps
