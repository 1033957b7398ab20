"""What one run may cost on a page for strangers: told before the click, held to on every way in."""

import inspect

import gradio as gr
import pytest

from ddpm_app.engine import Engine
from ddpm_app.ui.public import parameters, share
from ddpm_app.ui.work import WORK
from tests.ui.public.conftest import MODEL, asked, endpoints

TOO_MUCH = {  # for each endpoint; the rest costs too little ever to be refused
    "sample": {"num_images": 64, "num_inference_steps": 1000},
    "progressive": {"num_images": 8, "num_inference_steps": 1000},
    "stochastic": {"num_images": 24, "num_inference_steps": 1000},
    "interpolate": {"kind": "grid", "num_inference_steps": 1000},
    "figure": {"name": "Figure 9", "reverse_steps": 0},
    "likelihood": {"num_terms": 1000, "num_draws": 16},
    "consistency": {"steps": [400, 500, 1000]},
    "reconstruct": {"steps": [400, 500, 1000]},
    "latent_grid": {"edge": 12, "num_inference_steps": 1000},
    "variances": {"num_timesteps": 10_000},
    "respacing": {"steps": [500, 1000], "num_images": 8},
    "bounds": {"steps": [500, 1000, 999, 998]},
    "compression": {"num_terms": 10_000},
    "coding": {"num_images": 16, "num_inference_steps": 1000},
}


def refused(page: gr.Blocks, name: str, settings: dict) -> str:
    """The sentence of a request that is not let into the queue."""
    answer = asked(page, name, settings)
    assert answer.status_code == 422, answer.text
    return answer.json()["detail"][0]["message"]


def test_every_served_endpoint_tells_its_work(page: gr.Blocks):
    assert set(endpoints(page)) - {"fork"} == WORK.keys()  # a fork is bounded by the engine alone


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_is_too_much_is_refused_before_it_queues(page: gr.Blocks, name: str):
    sentence = refused(page, name, {"model": MODEL} | TOO_MUCH[name])
    assert "times the work" in sentence
    assert "on your own machine" in sentence


@pytest.mark.parametrize("name", [*WORK])
@pytest.mark.parametrize("model", ["/etc", "../../x", "google/ddpm-cifar10-32"])
def test_no_endpoint_takes_a_model_that_is_not_on_the_list(page: gr.Blocks, name: str, model: str):
    assert "not among the models" in refused(page, name, {"model": model})


SMALL = {
    "sample": {"num_images": 2, "num_inference_steps": 5, "sampler": "ddim", "langevin_steps": 2},
    "progressive": {"num_images": 2, "num_inference_steps": 5, "variance_type": "analytic"},
    "stochastic": {"num_images": 3, "num_inference_steps": 6},
    "interpolate": {"kind": "grid", "num_images": 2, "num_inference_steps": 4, "picture_a": None},
    "figure": {"name": "Figure 7", "reverse_steps": 6},
    "likelihood": {"num_terms": 10, "num_draws": 2, "picture": None},
    "consistency": {"steps": [2, "4"], "num_images": 2, "beside": "analytic"},
    "reconstruct": {"steps": [2, 5]},
    "latent_grid": {"edge": 2, "num_inference_steps": 4},
    "respacing": {"steps": [2, 5], "num_images": 2},
    "bounds": {"steps": [3, 6]},
    "compression": {"num_terms": 200, "picture": None},
    "coding": {"num_images": 3, "num_inference_steps": 4, "picture": None},
    "forward": {"picture": None},
    "schedules": {"picture": None},
}


@pytest.mark.parametrize("name", SMALL)
def test_the_work_told_is_the_work_done(
    page: gr.Blocks, engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str
):
    """Or up to a half more: a chain that is stopped at t runs its lower part only."""
    fn, done = endpoints(page)[name], []
    given = [each for each in inspect.signature(fn.fn).parameters if each != "request"]
    values = dict(zip(given, (each.value for each in fn.inputs), strict=True)) | {"model": "tiny-8"}
    values = {key: None if isinstance(value, dict) else value for key, value in values.items()} | SMALL[name]
    model = engine.model("tiny-8")
    spend = engine._spend
    monkeypatch.setattr(engine, "_spend", lambda *call: (done.append(call[0].network_calls), spend(*call)))
    told = WORK[name](**values, loaded=model)  # before: what has been measured is not measured again
    answer = fn.fn(**values, request=gr.Request(session_hash=name))
    if inspect.isgenerator(answer):
        list(answer)
    assert sum(done) <= told * 1.02 + 2
    assert told <= 1.5 * sum(done)


def test_an_evaluation_beyond_the_budget_draws_nothing_though_its_model_had_to_come_first(
    page: gr.Blocks, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "_perform", lambda *_: pytest.fail("something was drawn"))
    evaluate = endpoints(page)["evaluate"]
    values = dict(zip(parameters(evaluate), (each.value for each in evaluate.inputs), strict=True))
    wanted = values | {"model": MODEL, "num_images": 128, "num_inference_steps": 50}
    with pytest.raises(gr.Error, match=r"this run takes 3\.2 times"):
        list(evaluate.fn(**wanted, request=gr.Request(session_hash="evaluate")))


def test_no_stranger_learns_where_the_checkpoints_lie(page: gr.Blocks, engine: Engine):
    sample = endpoints(page)["sample"]
    values = dict(zip(parameters(sample), (each.value for each in sample.inputs), strict=True))
    wanted = values | {"model": "tiny-8", "num_inference_steps": 2}
    *_, last = sample.fn(**wanted, request=gr.Request(session_hash="code"))
    assert "tiny-8" in str(last)
    assert str(engine.checkpoints) not in str(last)


def test_a_line_under_the_button_tells_the_share_before_the_click(page: gr.Blocks):
    told = {fn.outputs[0]: fn.fn for fn in page.fns.values() if fn.name == "told"}
    assert len(told) >= 10
    lines = [line for line in told if line.elem_classes == ["budget"]]
    assert len(lines) == len(told)
    assert all(line.visible for line in lines)
    sample = endpoints(page)["sample"]
    (say,) = [fn.fn for fn in page.fns.values() if fn.name == "told" and fn.inputs == sample.inputs]
    values = [each.value for each in sample.inputs]
    assert say(*values) == "Takes 16 % of what one run may take on this public page."
    assert "Too much here" in say(*[1000 if value == 20 else value for value in values])


@pytest.mark.parametrize(
    "settings",
    [
        {"num_images": 10**15, "num_inference_steps": "a"},
        {"num_images": True, "num_inference_steps": 5},
        {"num_images": [1] * 9, "num_inference_steps": 10**9},
    ],
    ids=str,
)
def test_what_is_no_number_is_not_multiplied(page: gr.Blocks, engine: Engine, settings: dict):
    fn, loaded = endpoints(page)["sample"], engine.model(MODEL)
    given = dict(zip(parameters(fn), (each.value for each in fn.inputs), strict=True)) | settings
    assert share(engine.limits, fn, loaded, given) == 0  # the widget or the request refuses it


def test_to_count_the_pictures_of_a_request_takes_no_memory(engine: Engine):
    assert WORK["coding"](10**15, 5, "a.png", loaded=engine.model(MODEL)) > 10**16


def test_an_empty_box_of_branches_asks_for_the_trunk_alone(engine: Engine):
    chosen = {"loaded": engine.model(MODEL), "sampler": "ddpm", "variance_type": "auto"}
    trunk = WORK["branches"](10, None, **chosen)
    assert trunk == WORK["branches"](10, "", **chosen)
    assert WORK["branches"](10, "600:8/250:12", **chosen) == 3 * trunk  # with the one it is forked from


def test_a_model_on_its_way_holds_up_no_line_under_a_button(page: gr.Blocks, engine: Engine, monkeypatch):
    monkeypatch.setattr(engine, "model", lambda *_: pytest.fail("waited for the model"))
    sample = endpoints(page)["sample"]
    (say,) = [fn.fn for fn in page.fns.values() if fn.name == "told" and fn.inputs == sample.inputs]
    values = [
        "tiny-of-tomorrow" if value == MODEL else value for value in (each.value for each in sample.inputs)
    ]
    assert say(*values) == ""
