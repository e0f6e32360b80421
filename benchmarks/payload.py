"""What is saved: rows as a pipeline holds them, of a given length as JSON, with or without ``None``."""

from __future__ import annotations

import itertools
import random
from typing import Any

import orjson

_NAMES = ("Ada", "Grace", "Édith", "Søren", "Noor", "李雷", "Amara", "Jürgen")
_TAGS = ("new", "paid", "open", "late", "gold", "test")
MARKER = "readable in the clear"
"""Stands in each payload: where a contender says that it encrypts, no file of it may hold these bytes."""


def rows(length: int, *, nones: bool = True, seed: int = 0) -> dict[str, Any]:
    """Return a payload that is ``length`` bytes of JSON in distinct rows; callers change ``step`` from save to save."""
    chance = random.Random(seed)
    value: dict[str, Any] = {"step": 1_000_000, "marker": MARKER, "rows": [], "filler": ""}
    free = length - len(orjson.dumps(value))
    for number in itertools.count():
        row = {**_row(number, chance, nones=nones), "id": 1_000_000 + number}
        needed = len(orjson.dumps(row)) + bool(number)  # a comma before each but the first
        if needed > free:
            break
        value["rows"].append(row)
        free -= needed
    value["filler"] = "x" * free
    return value


def _row(number: int, chance: random.Random, *, nones: bool) -> dict[str, Any]:
    return {
        "id": number,
        "name": chance.choice(_NAMES),
        "amount": round(chance.uniform(0, 10_000), 2),
        "weight": chance.random(),
        "active": chance.random() < 0.5,
        "tags": chance.sample(_TAGS, 2),
        "seen": f"2026-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}T12:00:00Z",
        "parent": None if nones and chance.random() < 0.3 else number // 2,
        "note": None if nones and chance.random() < 0.3 else "called back, wants the other offer",
    }
