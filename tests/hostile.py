"""Values that nobody should send, for the tests that send them."""

import math
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ddpm_app.errors import UserError

Made = TypeVar("Made")
NUMBERS = [0, 1, -1, 2, 5, 1.5, 10**6, 10**9, 10**12, 10**30, 1e300, math.nan, math.inf, -math.inf]
OTHERS = [
    None,
    True,
    False,
    "",
    "8",
    "../../secret",
    "__import__('os')",
    [],
    [[]],
    [1, 2],
    [None],
    {},
    {"a": 1},
]
anything = st.sampled_from(NUMBERS + OTHERS) | st.integers() | st.floats() | st.text(max_size=8)

# the same values at each run; a search without end is `--hypothesis-seed` and more examples
several = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def is_a_sentence(said: str) -> bool:
    """Whether these words can stand on a page: one line, not endless, nothing of Python's insides."""
    return (
        10 < len(said) < 600 and "\n" not in said and "Traceback" not in said and " object at 0x" not in said
    )


def made_or_refused(make: Callable[[], Made]) -> tuple[Made | None, str]:
    """What `make` makes, and nothing; or None, and the UserError's words. Any other error is a bug."""
    try:
        return make(), ""
    except UserError as error:
        return None, str(error)
