"""Every endpoint, with values that nobody should send: an answer or a sentence, and the app goes on."""

import json
import re

import httpx
import pytest
from gradio_client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile import anything, is_a_sentence, several
from tests.ui.conftest import MODEL
from tests.ui.served import ENDPOINTS, EXPERIMENTS, answer_to

SHORT = {  # whatever else is asked for, a run is over at once
    "model": "tiny-8",
    "num_inference_steps": 2,
    "num_images": 2,
    "num_terms": 4,
    "num_draws": 1,
    "steps": [2],
    "edge": 2,
    "num_timesteps": 2,
    "langevin_steps": 0,
}
FILES = [
    {"path": "/etc/passwd"},
    {"path": "../../../etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"path": "app.py", "url": None, "meta": {"_type": "gradio.FileData"}},
    {"path": "x", "url": "file:///etc/passwd", "meta": {"_type": "gradio.FileData"}},
    {"path": "", "url": "http://127.0.0.1:1/x.png", "meta": {"_type": "gradio.FileData"}},
    {"path": "data:image/png;base64,AAAA", "meta": {"_type": "gradio.FileData"}},
    {"url": "data:image/png;base64,AAAA", "meta": {"_type": "gradio.FileData"}},
]
hostile = anything | st.sampled_from(FILES)
GRADIO_REFUSES = (
    "Could not preprocess input component",
    "1 validation error for ",
)  # another type than its own
costly = {"num_inference_steps", "num_images", "num_terms", "num_draws", "num_timesteps", "edge", "steps"}


@pytest.fixture(scope="module")
def parameters(client: Client) -> dict[str, list[str]]:
    """The names of what each endpoint takes."""
    named = client.view_api(return_format="dict")["named_endpoints"]
    return {name: [each["parameter_name"] for each in named[name]["parameters"]] for name in named}


def outcome(url: str, name: str, settings: dict) -> tuple[str, str]:
    """The last event of a call, `complete` or `error`, and what it says."""
    said = answer_to(url, name, json.dumps(settings))
    event, data = re.findall(r"event: (complete|error)\ndata: (.*)", said)[-1]
    return event, data


@pytest.mark.parametrize("name", [*ENDPOINTS, *EXPERIMENTS])
def test_any_value_of_any_parameter_gets_an_answer_or_a_sentence(url, parameters, name):
    own = parameters[name]
    usual = {key: value for key, value in SHORT.items() if key in own}

    @settings(several, max_examples=6)
    @given(st.dictionaries(st.sampled_from(own), hostile, min_size=1, max_size=2))
    def call(values):
        values = {  # a number in range would only take long
            key: value
            for key, value in values.items()
            if key not in costly or not (isinstance(value, int | float) and value < 2000)
        }
        event, data = outcome(url, name, usual | values)
        assert "root:" not in data
        if event == "error":
            said = (json.loads(data) or {}).get("error") or ""
            assert is_a_sentence(said) or said.startswith(GRADIO_REFUSES), (values, data)
            assert "bug in the app" not in said, values

    call()
    assert (
        outcome(url, "/sample", {"model": MODEL, "num_inference_steps": 1, "num_images": 1})[0] == "complete"
    )


BODIES = [
    "",
    "{",
    "null",
    "[]",
    "7",
    '"x"',
    '{"data": "x"}',
    '{"data": [[]]}',
    "[" * 50_000,
    '{"model": ' + "1" * 5000 + "}",
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:12])
def test_a_body_that_is_no_call_is_refused_and_the_app_goes_on(url, body):
    for way in ("call/v2/sample", "call/sample", "run/sample", "queue/join"):
        answer = httpx.post(
            f"{url}gradio_api/{way}", content=body, headers={"Content-Type": "application/json"}, timeout=60
        )
        assert "Traceback" not in answer.text
        assert "site-packages" not in answer.text
    assert httpx.get(url, timeout=60).status_code == 200
