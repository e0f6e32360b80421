"""Argument checks of public methods: each error names the argument and what is expected.

It tells the type of what was given, and never the value: that may be a secret in the wrong place.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from checkpoint_manager._text import with_article
from checkpoint_manager.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable


def wrong(name: str, value: object, expected: str) -> ArgumentError:
    """Return the error for an argument that is not what is expected."""
    given = "None" if value is None else with_article(type(value).__name__)
    return ArgumentError(f"{name} must be {expected}, not {given}", argument=name)


def check(name: str, value: object, kind: type | tuple[type, ...], expected: str) -> None:
    """Refuse an argument of another type. True and False do not count as numbers."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise wrong(name, value, expected)


def check_flags(**flags: object) -> None:
    """Refuse a switch that is neither True nor False: a text such as "no" would count as True."""
    for name, value in flags.items():
        check(name, value, bool, "True or False")


def check_seconds(name: str, value: object) -> None:
    """Refuse what is not a finite number of seconds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise wrong(name, value, "a number of seconds, 0 or more")
    if not 0 <= value <= sys.float_info.max:
        raise ArgumentError(f"{name} must be a number of seconds, 0 or more, not {value!r}", argument=name)


def check_wait(value: object) -> None:
    """Refuse what is not a time to wait: True (until it ends), False (not at all), or seconds."""
    if not isinstance(value, bool | int | float):
        raise wrong("wait", value, "True, False or a number of seconds")


def check_choice(name: str, value: object, *choices: str) -> None:
    """Refuse what is not one of a few words."""
    *others, last = [f'"{choice}"' for choice in choices]
    expected = f"{', '.join(others)} or {last}"
    check(name, value, str, expected)
    if value not in choices:
        raise ArgumentError(f"{name} must be {expected}, and is another text", argument=name)


def check_callback(name: str, value: Callable[..., object] | None) -> None:
    """Refuse what can't be called."""
    if value is not None and not callable(value):
        raise wrong(name, value, "a function, or None")


def elements(name: str, value: object, expected: str) -> list[object]:
    """Return the elements of a collection; a text alone is refused, as its characters are not what is meant."""
    if isinstance(value, str | bytes):
        raise wrong(name, value, expected)
    try:
        return list(value)  # type: ignore[call-overload,no-any-return]  # what is not a collection raises
    except TypeError:
        raise wrong(name, value, expected) from None
