"""Tokens, the status line and what a visitor is told."""

from contextlib import ExitStack

import gradio as gr
import pytest

from ddpm_app.engine import Cancelled
from ddpm_app.errors import UserError
from ddpm_app.ui.buttons import refusals_kept
from ddpm_app.ui.sessions import Clock, Sessions, spoken


def visitor(name: str) -> gr.Request:
    return gr.Request(session_hash=name)


def test_stop_ends_only_this_visitors_run_in_this_tab():
    sessions = Sessions()
    with (
        sessions.run(visitor("a"), "sample") as mine,
        sessions.run(visitor("a"), "progressive") as other_tab,
        sessions.run(visitor("b"), "sample") as other_visitor,
    ):
        sessions.stop(visitor("a"), "sample")
        assert [run.token.cancelled for run in (mine, other_tab, other_visitor)] == [True, False, False]


def test_a_run_is_known_to_go_on_in_its_own_tab_of_its_own_visitor_alone():
    sessions = Sessions()
    with sessions.run(visitor("a"), "sample"):
        asked = [("a", "sample"), ("a", "forward"), ("b", "sample")]
        assert [sessions.running(visitor(name), tab) for name, tab in asked] == [True, False, False]
    assert not sessions.running(visitor("a"), "sample")


def test_a_name_that_somebody_typed_is_no_markup_in_what_is_said_of_it():
    @spoken
    def handler():
        raise UserError("there is no model '<img src=x>'")

    with pytest.raises(gr.Error) as caught:
        handler()
    assert caught.value.message == "there is no model '&lt;img src=x>'"


def test_leaving_the_page_ends_every_run_of_the_visitor():
    sessions = Sessions()
    with (
        sessions.run(visitor("a"), "sample") as one,
        sessions.run(visitor("a"), "forward") as two,
        sessions.run(visitor("b"), "sample") as other,
    ):
        sessions.leave(visitor("a"))
        assert [run.token.cancelled for run in (one, two, other)] == [True, True, False]


def test_several_runs_of_one_visitor_in_one_tab_go_on_side_by_side_and_stop_together():
    sessions = Sessions()
    with sessions.run(visitor("a"), "sample") as first, sessions.run(visitor("a"), "sample") as second:
        assert not first.token.cancelled
        sessions.stop(visitor("a"), "sample")
        assert first.token.cancelled
        assert second.token.cancelled


def test_a_stopped_handler_ends_without_an_error():
    @spoken
    def stopped():
        yield 1
        raise Cancelled

    assert list(stopped()) == [1]


def test_a_finished_run_leaves_nothing_to_stop():
    sessions = Sessions()
    with pytest.raises(KeyError), sessions.run(visitor("a"), "sample") as run:
        raise KeyError
    assert "Nothing runs" in sessions.stop(visitor("a"), "sample")
    assert not run.token.cancelled


def test_stop_says_how_far_the_run_had_come():
    sessions = Sessions()
    with sessions.run(visitor("a"), "sample") as run:
        run.clock.due(3, 10)
        assert "Stopped after step 3 of 10" in sessions.stop(visitor("a"), "sample")


@pytest.mark.parametrize("stop_first", [True, False])
def test_stop_tells_once_of_a_run_from_which_the_page_turns_away(stop_first):
    sessions = Sessions()

    def handler():
        with sessions.run(visitor("a"), "sample") as run:
            run.clock.due(3, 10)
            yield

    going = handler()
    next(going)
    if not stop_first:
        going.close()
    assert "Stopped after step 3 of 10" in sessions.stop(visitor("a"), "sample")
    going.close()
    assert "Nothing runs" in sessions.stop(visitor("a"), "sample")


def test_stop_says_how_far_in_the_words_of_the_run():
    clock = Clock()
    clock.due(0.4, 9)
    clock.line("row 1 of 9, step 20 of 50")
    assert "<span>Stopped</span> · <span>row 1 of 9, step 20 of 50</span>" in clock.stopped()
    assert "unfinished" in clock.stopped()
    assert "unfinished" not in Clock().stopped()  # which has shown nothing
    clock.line()
    assert "<span>Stopped after step 0.4 of 9</span>" in clock.stopped()


@pytest.mark.parametrize(("update", "unfinished"), [(["status"], False), (["status", "sheet"], True)])
def test_an_error_leaves_what_stood_before_it_as_it_is_unless_more_was_shown(update, unfinished):
    with gr.Blocks():
        blocks = {"status": gr.HTML(), "sheet": gr.Image()}

    def handler():
        yield {blocks[name]: None for name in update}
        raise gr.Error("no more")

    kept = refusals_kept(handler, blocks["status"])()
    next(kept)
    line = next(kept)[blocks["status"]]
    assert "no more" in line
    assert ("unfinished" in line) == unfinished
    with pytest.raises(gr.Error):
        next(kept)


def test_stop_ends_runs_of_several_names_and_of_no_others():
    sessions = Sessions()
    with sessions.run(visitor("a"), "fork") as run, sessions.run(visitor("a"), "sample") as other:
        run.clock.due(3, 10)
        assert "Stopped after step 3 of 10" in sessions.stop(visitor("a"), "fork", "branches")
        assert run.token.cancelled
        assert not other.token.cancelled


def test_a_user_error_is_spoken_and_a_bug_goes_to_the_log(caplog: pytest.LogCaptureFixture):
    @spoken
    def mendable():
        raise UserError("steps must be less")

    @spoken
    def broken():
        yield 1
        raise KeyError("secret")

    with pytest.raises(gr.Error, match="steps must be less"):
        mendable()
    with pytest.raises(gr.Error, match="bug in the app") as told:
        list(broken())
    assert "secret" not in str(told.value)
    assert "KeyError" in caplog.text


def test_previews_are_due_by_time_and_always_at_the_end():
    clock = Clock()
    shown = [step for step in range(1, 1001) if clock.due(step, 1000)]
    assert shown[0] == 1
    assert shown[-1] == 1000
    assert len(shown) < 20
    assert "step 1000 of 1000" in clock.line()


@pytest.mark.parametrize("runs", [1, 8])
def test_all_runs_together_show_as_many_previews_as_one_alone(monkeypatch, runs):
    now = 0.0
    monkeypatch.setattr("ddpm_app.ui.sessions.time.perf_counter", lambda: now)
    sessions, shown = Sessions(), []
    with ExitStack() as under_way:
        clocks = [under_way.enter_context(sessions.run(visitor(str(k)), "sample")).clock for k in range(runs)]
        for step in range(1, 1001):
            now = step / 100
            shown += [step for clock in clocks if clock.due(step, 1001)]
    assert shown[:runs] == [1] * runs  # everybody sees a first one at once
    assert 30 < len(shown) <= 40  # four a second
