import re
from itertools import pairwise

import gradio as gr
import pytest
from PIL import Image

from ddpm_app.engine import Engine
from ddpm_app.training import runs
from ddpm_app.training.presets import PRESETS
from ddpm_app.training.records import Point
from ddpm_app.training.runs import RunState
from ddpm_app.ui import build_app
from ddpm_app.ui.runs import MAX_POINTS, curve, headline, shown, span
from ddpm_app.ui.tabs.train import CHOSEN, changed, data_of, filled
from tests.doubles import refusal

QUICK = next(iter(PRESETS))


def state(tmp_path, **facts):
    plain = {
        "status": "running",
        "num_steps": 1000,
        "steps_saved": 200,
        "progress": (Point(250, 0.5, 12.3, 75),),
    }
    return RunState(out=tmp_path, **({"sheet": None, "asked": False, "error": ""} | plain | facts))


def words(html):
    return re.sub("<[^>]+>", "", html)


# the page


@pytest.fixture(scope="module")
def handlers(tiny_pipeline):
    """The functions of the page with and without training, with their visibility."""

    def functions(training):
        demo = build_app(Engine("cpu", tiny_pipeline.parent), "tiny-8", training=training)
        return [(fn.fn.__module__, fn.api_visibility) for fn in demo.fns.values() if fn.fn]

    return {training: functions(training) for training in (True, False)}


def test_training_is_no_part_of_the_public_api(handlers):
    own = [visibility for module, visibility in handlers[True] if module == "ddpm_app.ui.tabs.train"]
    assert len(own) >= 8
    assert set(own) == {"private"}


def test_a_page_without_training_has_no_handler_of_it(handlers):
    assert not any("train" in module for module, _ in handlers[False])


def test_a_stop_that_is_taken_back_leaves_the_page_at_its_run(tiny_pipeline):
    demo = build_app(Engine("cpu", tiny_pipeline.parent), "tiny-8")
    (stop,) = [fn for fn in demo.fns.values() if isinstance(fn.js, str) and "for good" in fn.js]
    assert stop.fn("") == [gr.skip()] * len(stop.outputs)


@pytest.mark.parametrize(
    ("flags", "space", "may"),
    [
        ({}, False, True),
        ({"share": True}, False, False),
        ({"public": True, "auth": "a:b"}, False, False),
        ({"share": True, "auth": "a:b"}, False, False),
        ({}, True, False),
        ({"host": "0.0.0.0"}, False, False),
        ({"host": "0.0.0.0", "auth": "a:b"}, False, True),
    ],
)
def test_training_is_hidden_where_the_page_is_public(monkeypatch, flags, space, may):
    from argparse import Namespace

    from ddpm_app.ui.public import may_train

    monkeypatch.delenv("SPACE_ID", raising=False)
    if space:
        monkeypatch.setenv("SPACE_ID", "owner/space")
    options = Namespace(**({"share": False, "public": False, "auth": None, "host": "127.0.0.1"} | flags))
    assert may_train(options) is may


# what a run is started from


def test_a_presets_settings_stand_on_the_page_and_come_back_changed():
    values = filled(QUICK)
    assert changed(QUICK, values) == PRESETS[QUICK] | {"flip": False}
    larger = changed(
        QUICK, [64 if name == "image_size" else v for name, v in zip(CHOSEN, values, strict=True)]
    )
    assert larger["attention_resolutions"] == (16,)
    assert "num_steps is empty" in refusal(lambda: changed(QUICK, [None, *values[1:]]))


def test_each_source_of_pictures_becomes_the_data_of_a_run(tmp_path):
    assert data_of("shapes", tmp_path, None, "", "") == "shapes"
    assert data_of("upload", tmp_path, ["a.png"], "", "") == str(tmp_path / runs.UPLOADS)
    assert data_of("path", tmp_path, None, f" {tmp_path}/x/.. ", "") == str(tmp_path)
    assert data_of("hub", tmp_path, None, "", "owner/name ") == "owner/name"
    for source in ("upload", "path", "hub"):
        assert "nothing to learn from" in refusal(
            lambda source=source: data_of(source, tmp_path, None, "", " ")
        )


# what is shown of it


@pytest.mark.parametrize(
    ("facts", "said", "can"),
    [
        ({"status": "loading", "progress": ()}, "Loading", ["Pause", "Stop"]),
        ({}, "step 250 of 1,000 · loss 0.5000 · 12.3 images/s · about 1 min 15 s left", ["Pause", "Stop"]),
        ({"status": "pausing", "asked": True}, "saving", []),
        ({"status": "paused", "asked": True, "steps_saved": 250}, "Paused at step 250", ["Resume", "Stop"]),
        (
            {"status": "paused"},
            "Interrupted at step 250 of 1,000: Resume goes on from step 200",
            ["Resume", "Stop"],
        ),
        ({"status": "finished", "steps_saved": 1000}, "Ended at step 1,000", []),
        ({"status": "failed", "error": "no <b> here"}, "no &lt;b&gt; here", ["Resume", "Stop"]),
    ],
)
def test_each_status_has_its_words_and_its_buttons(tmp_path, facts, said, can):
    line, _, _, *buttons, use = shown(state(tmp_path, **facts))
    assert said in words(line)
    assert [n for n, b in zip(("Pause", "Resume", "Stop"), buttons, strict=True) if b.interactive] == can
    assert use.interactive


def test_a_model_that_was_never_saved_cannot_be_used(tmp_path):
    assert not shown(state(tmp_path, steps_saved=0))[-1].interactive
    assert "the beginning" in headline(state(tmp_path, status="paused", steps_saved=0))


def test_the_newest_sheet_is_shown_once_it_is_whole(tmp_path):
    file = tmp_path / "step-0000001.png"
    Image.effect_noise((40, 40), 50).save(file)
    assert shown(state(tmp_path, sheet=file))[1].size == (40, 40)
    file.write_bytes(file.read_bytes()[:300])
    assert shown(state(tmp_path, sheet=file))[1] is None


def test_a_long_curve_is_thinned_and_its_average_is_smoother():
    rough = [Point(step, 1 + (step % 2) * 0.5) for step in range(1, 5001)]
    frame = curve(rough)
    assert 100 < len(frame) <= MAX_POINTS + 2
    parts = {name: list(part["loss"]) for name, part in frame.groupby("curve")}
    late = parts["smoothed"][20:]
    assert max(late) - min(late) < 0.1
    assert all(a < b for a, b in pairwise(frame[frame["curve"] == "smoothed"]["step"]))
    assert curve(rough[:1]) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (3600, "1 h"), (18720, "5 h 12 min"), (2e5, "2 d 7 h")],
)
def test_a_time_is_told_in_its_two_largest_units(seconds, said):
    assert span(seconds) == said
