"""The one exception whose message is written for the person who can mend the cause."""

__all__ = ["UserError", "one_of"]

from collections.abc import Iterable
from reprlib import repr as shortened
from typing import TypeVar

Choice = TypeVar("Choice", bound=str)


class UserError(ValueError):
    """Something the user can mend: the message says what was given, what is allowed and what to do."""


def one_of(what: str, value: Choice, allowed: Iterable[str]) -> Choice:
    """`value`, when it is among `allowed`; a UserError that lists the choices otherwise."""
    choices = list(allowed)
    if value not in choices:
        raise UserError(f"{what} must be one of {', '.join(choices)}; got {shortened(value)}")
    return value
