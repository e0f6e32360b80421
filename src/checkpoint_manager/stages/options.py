"""The options of a stage, checked: what :meth:`CheckpointManager.stage` takes besides the name."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from checkpoint_manager._arguments import check, check_callback, check_flags, check_seconds, check_wait, elements, wrong
from checkpoint_manager._format.notes import check_revision
from checkpoint_manager.errors import ArgumentError
from checkpoint_manager.times import length

_LONGEST_PAUSE = 60.0
_MOST_DOUBLINGS = 30


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a stage. All but the last two are documented at :meth:`CheckpointManager.stage`.

    Attributes:
        check: Returns why a result that was found can't be used; empty if it can.
        beside: What is compared besides the arguments, by name.
    """

    revision: int | str | None = None
    code: bool | None = None
    key: Callable[..., object] | None = None
    ignore: Sequence[str] = ()
    fingerprint: Mapping[type, Callable[[Any], object]] | None = None
    encode: Callable[[Any], object] | None = None
    decode: Callable[[Any], Any] | None = None
    wait: bool | float = True
    retries: int = 0
    backoff: float = 1.0
    timeout: float | None = None
    expires: timedelta | str | None = None
    validate: Callable[[Any], bool] | None = None
    check: Callable[[Any], str] | None = None
    beside: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.revision is not None:
            check_revision(self.revision)
        if self.code is not None:
            check_flags(code=self.code)
        for name in ("key", "encode", "decode", "validate"):
            check_callback(name, getattr(self, name))
        if (self.encode is None) != (self.decode is None):
            raise ArgumentError("encode= and decode= belong together", hint="Give both", argument="encode")
        self._check_names()
        check("fingerprint", self.fingerprint, (Mapping, type(None)), "a dict of functions by types, or None")
        for kind, function in (self.fingerprint or {}).items():
            if not isinstance(kind, type) or not callable(function):  # type: ignore[redundant-expr]  # whatever a caller passes
                raise wrong("fingerprint", function, "a dict of functions by types")
        check_wait(self.wait)
        patience(self.wait)
        self._check_retries()
        self._check_expires()

    def _check_expires(self) -> None:
        check("expires", self.expires, (timedelta, str, type(None)), 'a timedelta, text such as "1d", or None')
        try:
            age = self.longest_age
        except ValueError as error:
            raise ArgumentError(f"expires: {error}", argument="expires") from None
        if age is not None and age <= timedelta():
            raise ArgumentError("expires must be more than no time", argument="expires")

    def _check_names(self) -> None:
        if isinstance(self.ignore, str):
            hint = f'Write ["{self.ignore}"]'
            raise ArgumentError("ignore must be a list of names, not one name", hint=hint, argument="ignore")
        names = elements("ignore", self.ignore, "a list of names")
        for name in names:
            check("ignore", name, str, "a list of names")
        object.__setattr__(self, "ignore", tuple(names))  # which may have been an iterator

    def _check_retries(self) -> None:
        check("retries", self.retries, int, "a number of retries, 0 or more")
        if self.retries < 0:
            raise ArgumentError("retries must be 0 or more", argument="retries")
        check_seconds("backoff", self.backoff)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
            if not self.timeout:
                raise ArgumentError("timeout must be more than 0 seconds, or None", argument="timeout")

    @property
    def is_code_compared(self) -> bool:
        """Whether the function's code is compared."""
        return self.revision is None if self.code is None else self.code

    @property
    def longest_age(self) -> timedelta | None:
        """The age from which a result is not reused; None if it never expires."""
        return length(self.expires) if isinstance(self.expires, str) else self.expires

    @property
    def patience(self) -> float:
        """How long to wait for another run with the same arguments, in seconds."""
        return patience(self.wait)

    @property
    def pauses(self) -> Sequence[float]:
        """How long to wait before each retry, in seconds: each time twice as long, up to a minute or ``backoff``."""
        longest = max(_LONGEST_PAUSE, self.backoff)
        return [min(self.backoff * 2.0 ** min(retry, _MOST_DOUBLINGS), longest) for retry in range(self.retries)]


def patience(wait: float) -> float:
    """Return the seconds to wait for an argument ``wait=``: infinity for True, 0 for False.

    Raises:
        ArgumentError: It is negative or not a number.
    """
    if isinstance(wait, bool):
        return math.inf if wait else 0
    if not wait >= 0:
        raise ArgumentError(f"wait must be True, False or a number of seconds, 0 or more, not {wait!r}", argument="wait")
    return wait if wait <= sys.float_info.max else math.inf
