"""Ctrl-C at many instructions of each operation; ``python -m tests.interruptions.sweep`` tries all of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.interruptions.trial import ALL, Trial, Witness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIED = {
    **dict.fromkeys(("later save", "update", "restore", "clear", "load", "delete", "prune", "tag"), 20),
    **dict.fromkeys(("first save of a stage", "rotate the key"), 15),
}
"""How many instructions of each operation, at even distances: from another one on each time."""


@pytest.fixture(scope="module")
def witness() -> Iterator[Witness]:
    with Witness() as witness:
        yield witness


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
# What an interruption cuts off from its end, the interpreter closes when the traceback goes, and warns of it.
@pytest.mark.parametrize("operation", TRIED)
def test_interrupted_at_any_instruction_it_leaves_no_lock_and_whole_versions(
    operation: str, tmp_path: Path, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    trial = Trial(ALL[operation], tmp_path, witness)
    step = trial.instructions // TRIED[operation]
    problems = [each for at in range(random.randint(1, step), trial.instructions, step) for each in trial.interrupt(at)]
    assert problems == []
