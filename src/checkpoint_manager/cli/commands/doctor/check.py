"""The result of one check of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        topic: What.
        state: ``ok``; ``warning``: it works, and something is to be known; ``problem``: something will fail, or has.
        found: What was found, in a sentence.
        next: What to do about it; empty where there is nothing to do.
    """

    topic: str
    state: State
    found: str
    next: str = ""


def ok(topic: str, found: str) -> Check:
    """Return that something is in order."""
    return Check(topic, "ok", found)


def warning(topic: str, found: str, what_next: str) -> Check:
    """Return that something is to be known."""
    return Check(topic, "warning", found, what_next)


def problem(topic: str, found: str, what_next: str) -> Check:
    """Return that something will fail, or has."""
    return Check(topic, "problem", found, what_next)
