from dataclasses import replace

import pytest
import torch

from ddpm_app.core.images import to_uint8
from ddpm_app.engine import Cancelled, CancelToken, Engine, SampleRequest
from ddpm_app.evaluation import draws, extractors, quality
from ddpm_app.evaluation.classifier import learn, load_classifier
from ddpm_app.evaluation.draws import Processes
from ddpm_app.evaluation.quality import Features
from ddpm_app.evaluation.samples import Evaluation, Stage, _own, evaluate_samples
from ddpm_app.evaluation.scorecard import Scorecard, as_markdown
from ddpm_app.models.exact import shape_pictures
from ddpm_app.pictures import to_picture
from tests.doubles import refusal

REQUEST = SampleRequest(model="exact-shapes", sampler="ddim", num_inference_steps=5)


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(extractors, "learn", lambda labelled: learn(labelled, steps=6))


@pytest.fixture
def data(tmp_path):
    """The sixteen pictures that exact-shapes draws, each twice, in a folder for each of their four forms."""
    for k, image in enumerate(to_uint8(shape_pictures()).repeat(2, 1, 1, 1)):
        folder = tmp_path / "data" / f"form {k % 16 // 4}"
        folder.mkdir(parents=True, exist_ok=True)
        to_picture(image).save(folder / f"{k:02d}.png")
    return str(tmp_path / "data")


def evaluated(tmp_path, data, **settings):
    asked = {"request": REQUEST, "num_images": 16, "data": data, "out": tmp_path / "out"} | settings
    *stages, card = evaluate_samples(Engine("cpu"), Evaluation(**asked))
    assert all(isinstance(stage, Stage) for stage in stages)
    assert isinstance(card, Scorecard)
    return stages, card


def test_stages_lead_to_a_scorecard_with_its_conditions(tmp_path, data):
    stages, card = evaluated(tmp_path, data, nll_images=2, num_terms=5)
    told = list(dict.fromkeys(stage.what for stage in stages))
    assert told == [
        "reading the data",
        "training a classifier for its features",
        "drawing samples",
        "features of the samples",
        "features of the data",
        "measuring bits/dim",
    ]
    drawing = [stage for stage in stages if stage.what == "drawing samples"]
    assert drawing[-1].done == drawing[-1].total == 16
    assert drawing[-1].images.shape == (16, 3, 32, 32)
    assert (card.samples.num_images, card.samples.num_reference) == (16, 32)
    assert card.own.num_reference == 16
    assert (card.nll.num_images, card.nll.terms_measured) == (2, 5)
    assert "4 classes" in card.extractor
    assert card.averaging == "no weights"
    assert not card.published_features
    assert load_classifier(tmp_path / "out" / "features.safetensors").about.num_classes == 4


def test_the_bound_beside_is_of_the_variance_that_samples_have(tmp_path, data):
    small, large = (
        evaluated(
            tmp_path / variance,
            data,
            request=replace(REQUEST, sampler="ddpm", variance_type=variance),
            nll_images=1,
            num_terms=5,
        )[1]
        for variance in ("fixed_small", "fixed_large")
    )
    assert small.nll.bits_per_dim != large.nll.bits_per_dim
    assert "variance fixed_small" in as_markdown(small).split("**NLL**")[1]
    assert "±" not in as_markdown(small).split("**NLL**")[1].splitlines()[0]  # of one picture


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_terms": 1}, "num_terms must be a whole number in 2.."),
        ({"request": replace(REQUEST, variance_type="learned_range")}, "variance must be one of auto, fixed"),
    ],
    ids=["terms", "variance"],
)
def test_a_bound_that_cannot_be_measured_is_refused_before_anything_is_drawn(tmp_path, data, settings, said):
    assert said in refusal(lambda: evaluated(tmp_path, data, nll_images=1, **settings))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("most_pixels", [40 * 32 * 32, 31 * 32 * 32])
def test_what_a_stranger_gives_is_called_as_told_and_bounded(tmp_path, data, most_pixels):
    settings = {"features": "shapes", "called": "the uploaded pictures", "most_pixels": most_pixels}
    if most_pixels < 32 * 32 * 32:
        assert "more pixels than this page reads" in refusal(lambda: evaluated(tmp_path, data, **settings))
        return
    _, card = evaluated(tmp_path, data, **settings)
    assert card.data == "the uploaded pictures"
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "a.png").write_bytes(b"no picture")
    said = refusal(lambda: evaluated(tmp_path / "again", str(tmp_path / "few"), **settings))
    assert str(tmp_path) not in said
    assert "no picture could be read from the uploaded pictures (not a.png, for one); give whole PNG" in said
    to_picture(torch.zeros(3, 8, 8, dtype=torch.uint8)).save(tmp_path / "few" / "b.png")
    said = refusal(lambda: evaluated(tmp_path / "again", str(tmp_path / "few"), **settings))
    assert said.startswith("the uploaded pictures: 1 picture, too few")


def test_a_run_that_is_stopped_reads_no_further(tmp_path, data):
    token = CancelToken()
    asked = Evaluation(request=REQUEST, num_images=16, data=data, out=tmp_path / "out")
    stages = evaluate_samples(Engine("cpu"), asked, token)
    assert next(stages).what == "reading the data"
    token.cancel()
    with pytest.raises(Cancelled):
        next(stages)


def test_pictures_of_the_data_that_cannot_be_read_are_told_beside_it(tmp_path, data):
    (tmp_path / "data" / "form 0" / "damaged.png").write_bytes(b"no picture")
    _, card = evaluated(tmp_path, data, features="shapes")
    assert card.samples.num_reference == 32
    assert "1 unreadable" in card.data
    assert "damaged.png" in card.data


def test_what_draws_the_data_itself_is_precise_and_more_samples_than_half_of_it_leave_no_own_row(
    tmp_path, data
):
    _, card = evaluated(tmp_path, data, num_images=32)
    assert card.samples.precision > 0.9
    assert card.samples.recall > 0.8
    assert card.own is None


def test_the_own_score_of_data_sorted_by_class_is_that_of_all_its_classes(monkeypatch):
    monkeypatch.setattr(quality, "SPLIT_SIZE", 20)
    classes = torch.eye(4).repeat_interleave(100, 0)  # 100 pictures of the first one, then of the second
    own = _own(Features(classes, 100 * classes), 200)
    assert own.inception_score > 3.5
    assert own.inception_score_deviation is not None  # of ten splits, which were one class each
    assert (own.num_images, own.num_reference) == (200, 200)


def test_the_second_time_nothing_is_drawn_and_the_scorecard_is_the_same(tmp_path, data):
    _, first = evaluated(tmp_path, data)
    stages, second = evaluated(tmp_path, data)
    assert "drawing samples" not in {stage.what for stage in stages}
    assert first == second
    own = str(tmp_path / "out" / "features.safetensors")
    assert evaluated(tmp_path, data, features=own)[1] == second


def test_processes_that_draw_together_end_with_the_scorecard_of_one(tmp_path, data, monkeypatch):
    monkeypatch.setattr(draws, "CHUNK", 4)
    _, alone = evaluated(tmp_path, data)
    asked = Evaluation(request=REQUEST, num_images=16, data=data, out=tmp_path / "together")
    runs = [
        evaluate_samples(Engine("cpu"), asked, processes=Processes(rank, 2, lambda: None)) for rank in (0, 1)
    ]
    first = next(runs[0])  # the folder is there, and which chunks are missing is known
    assert first.what == "reading the data"
    others = list(runs[1])
    assert {stage.what for stage in others} == {"drawing samples"}
    assert others[-1].total == 8
    *_, card = runs[0]
    assert card == alone


def test_what_cannot_be_evaluated_is_said_before_anything_is_drawn(tmp_path, data):
    def said(**settings):
        return refusal(lambda: evaluated(tmp_path, **{"data": data} | settings))

    assert "num_images" in said(num_images=2)
    assert "nll_images" in said(nll_images=-1)
    (tmp_path / "few").mkdir()
    to_picture(torch.zeros(3, 8, 8, dtype=torch.uint8)).save(tmp_path / "few" / "0.png")
    assert "at least 8" in said(data=str(tmp_path / "few"))
    assert "no classifier" in said(features=str(tmp_path / "missing.safetensors"))
    assert "--features must be" in said(features=str(tmp_path / "missing"))
    assert list(tmp_path.rglob("*.npy")) == []
