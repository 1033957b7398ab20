from dataclasses import replace

import pytest

from ddpm_app.engine import SampleRequest
from ddpm_app.evaluation.nll import NllReport
from ddpm_app.evaluation.published import PUBLISHED
from ddpm_app.evaluation.quality import Quality
from ddpm_app.evaluation.scorecard import Scorecard, as_markdown

SAMPLES = Quality(500, 4000, 500, 1.2345, 7.891, None, 0.75, 0.5)
CARD = Scorecard(
    request=SampleRequest(model="tiny-8", sampler="ddim", num_inference_steps=20, eta=0.5, seed=3),
    averaging="averaged, decay 0.999",
    notes=("made for PNDMScheduler",),
    visits="t = 951, …, 1 (20 of 1000, leading)",
    data="mnist/train.parquet",
    extractor="a classifier of 10 classes",
    published_features=False,
    samples=SAMPLES,
    own=replace(SAMPLES, fid=0.0321),
    nll=None,
)


def test_every_figure_stands_with_all_its_conditions():
    text = as_markdown(CARD)
    for told in (
        *("1.234", "7.89", "0.750", "0.500", "0.0321"),
        *("500, seeds 3 and on", "mnist/train.parquet, 4,000 pictures", "a classifier of 10 classes"),
        *(
            "averaged, decay 0.999",
            "made for PNDMScheduler",
            "ddim, eta 0.5",
            "20 of 1000, leading",
            "3 neighbours",
            "exact",
        ),
    ):
        assert told in text


def test_a_bar_in_a_note_ends_no_cell():
    (line,) = [
        line
        for line in as_markdown(replace(CARD, notes=("the exact E[x_0 | x_t]",))).splitlines()
        if "E[" in line
    ]
    assert line == r"| noted of the model | the exact E[x_0 \| x_t] |"


def test_a_distance_on_other_features_is_never_in_a_table_with_published_ones():
    text = as_markdown(CARD)
    assert "not comparable with any published FID" in text
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert all(("1.234" in table) + ("3.17" in table) <= 1 for table in tables)
    before, after = text.split("## Published")
    assert "| 3.17 |" not in before
    assert "tiny-8" not in after
    assert after.strip().splitlines()[0].endswith("Inception v3")
    assert "none of these can be held against" in after


def test_with_inceptions_features_the_measured_row_stands_over_the_papers():
    text = as_markdown(replace(CARD, published_features=True, extractor="Inception v3"))
    assert "not comparable" not in text
    table = text.split("## Beside the published figures")[1].strip().splitlines()
    assert table[2].startswith("| **tiny-8** | **mnist/train.parquet** |")
    assert "**500**" in table[2]
    assert len(table) == 3 + len(PUBLISHED)
    assert "N = 500" in text  # fewer than the papers' own


def test_the_published_rows_are_the_papers():
    rows = {(each.source, each.process): each for each in PUBLISHED if each.data == "CIFAR-10"}
    best = rows["DDPM, L_simple", "DDPM, 1000 steps, fixed_large"]
    assert (best.fid, best.inception_score, best.bits_per_dim) == (3.17, "9.46 ± 0.11", "≤ 3.75")
    assert rows["DDIM, table 1", "DDIM, eta 0, 20 steps"].fid == 6.84
    assert rows["DDIM, table 1", "DDPM, sigma-hat (fixed_large), 10 steps"].fid == 367.43


def test_many_samples_have_the_spread_of_their_splits_and_nothing_to_excuse():
    many = replace(SAMPLES, num_images=50_000, inception_score_deviation=0.11)
    text = as_markdown(replace(CARD, samples=many, own=None, published_features=True))
    assert "7.89 ± 0.11" in text
    assert "N = 50,000:" not in text
    assert "one split" not in text
    assert "own pictures" not in text


def test_the_bound_stands_beside_when_it_was_asked_for():
    nll = NllReport(16, 40, 2.433, 0.0, 1.4, 1.0, 0.057, {})
    assert "≤ 2.433 ± 0.057 bits/dim, the first 16 of the data, 40 timesteps each" in as_markdown(
        replace(CARD, nll=nll)
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sampler": "ddpm", "variance_type": "fixed_small"}, "ddpm, variance fixed_small"),
        ({"sampler": "ddim", "langevin_steps": 2}, "2 Langevin steps"),
        ({"sampler": "ddim", "rederive_eps": False}, "ddim, eta 0, ε as the network gives it"),
        ({"sampler": "unipc"}, "| sampler | unipc |"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_the_sampler_is_told_with_what_it_heeds(settings, told):
    assert told in as_markdown(replace(CARD, request=SampleRequest(**settings)))
