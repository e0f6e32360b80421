"""What a user has seen of a store is never forgotten for something older."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checkpoint_manager._store.last_seen import Sighting, Witness

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness("0" * 32, tmp_path)


def test_a_version_is_not_forgotten_for_an_older_one(witness: Witness) -> None:
    newer, older = Sighting(7, "a" * 32), Sighting(6, "b" * 32)
    witness.remember("train", newer)
    witness.remember("train", older)
    assert witness.recall("train") == newer


def test_a_record_of_tags_is_not_forgotten_for_an_older_one(witness: Witness) -> None:
    witness.remember_tags("train", 3, "a" * 32)
    witness.remember_tags("train", 2, "b" * 32)
    assert witness.recall_tags("train") == (3, "a" * 32)


def test_a_keyring_is_not_forgotten_for_an_older_one_unless_that_is_meant(witness: Witness) -> None:
    witness.remember_keyring(3, b"newer")
    newer = witness.recall_keyring()
    witness.remember_keyring(2, b"older")
    assert witness.recall_keyring() == newer
    witness.remember_keyring(2, b"older", even_if_older=True)
    assert witness.recall_keyring() not in {newer, None}
