"""Each field of what is sealed may hold anything: it ends as an error of the library, as a finding, or counts as not there."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.attacks import fields


@pytest.mark.parametrize("nasty", fields.NASTY, ids=lambda nasty: repr(nasty)[:20])
def test_a_field_of_another_type_or_range_breaks_no_operation(nasty: Any) -> None:
    """A few at each run; ``python -m tests.attacks.fields`` tries all."""
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    assert [*fields.versions([nasty], 3, dice), *fields.records([nasty], 1, dice)] == [], f"seed {seed}"


def test_an_operation_that_trusts_a_field_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "OPERATIONS", (lambda cm, stage: cm.get_version(stage, 1).metadata["@nothing"],))
    assert any("KeyError" in each for each in fields.versions([1], 1, random.Random(0)))
