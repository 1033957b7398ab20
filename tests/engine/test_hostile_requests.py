"""Every request, with values that nobody should send: it is made, and whole, or refused in a sentence."""

import dataclasses
import importlib
import inspect
import json
import pkgutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ddpm_app.engine
from tests.hostile import anything, is_a_sentence, made_or_refused, several

PICTURE = torch.zeros(3, 8, 8, dtype=torch.uint8)
pictures = st.sampled_from(
    [PICTURE, PICTURE.float(), PICTURE[0], PICTURE[:, :0], torch.tensor(0), [PICTURE], ()]
)


def every_request() -> list[type]:
    """Each class of the engine that a user fills in."""
    modules = [
        importlib.import_module(f"ddpm_app.engine.{each.name}")
        for each in pkgutil.iter_modules(ddpm_app.engine.__path__)
    ]
    found = {
        kind
        for module in modules
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if name.endswith("Request")
    }
    return sorted(found, key=lambda kind: kind.__name__)


def test_they_are_all_found():
    assert len(every_request()) >= 11


@pytest.mark.parametrize("kind", every_request(), ids=lambda kind: kind.__name__)
def test_any_value_of_any_field_is_kept_whole_or_refused_in_a_sentence(kind):
    named = {field.name: field for field in dataclasses.fields(kind)}
    needed = {
        name: (PICTURE,) if name == "pictures" else PICTURE
        for name, field in named.items()
        if field.default is dataclasses.MISSING
    }

    @several
    @given(st.dictionaries(st.sampled_from(sorted(named)), anything | pictures, min_size=1, max_size=3))
    def fill_in(values):
        request, said = made_or_refused(lambda: kind(**(needed | values)))
        if request is None:
            assert is_a_sentence(said)
            return
        for name, value in dataclasses.asdict(request).items():
            assert not isinstance(value, float) or value == value, name
        if hasattr(request, "recipe"):
            recipe = json.loads(json.dumps(request.recipe(), allow_nan=False))
            pixels = {name: getattr(request, name) for name in named if name not in recipe}
            assert kind(**recipe, **pixels) == request

    fill_in()
