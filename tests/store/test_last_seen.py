"""What a user has seen of a store is never forgotten for something older."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checkpoint_manager._store.last_seen import LastSeen, SeenVersion

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def last_seen(tmp_path: Path) -> LastSeen:
    return LastSeen("0" * 32, tmp_path)


def test_a_version_is_not_forgotten_for_an_older_one(last_seen: LastSeen) -> None:
    newer, older = SeenVersion(7, "a" * 32), SeenVersion(6, "b" * 32)
    last_seen.remember("train", newer)
    last_seen.remember("train", older)
    assert last_seen.recall("train") == newer


def test_a_record_of_tags_is_not_forgotten_for_an_older_one(last_seen: LastSeen) -> None:
    last_seen.remember_tags("train", 3, "a" * 32)
    last_seen.remember_tags("train", 2, "b" * 32)
    assert last_seen.recall_tags("train") == (3, "a" * 32)


def test_a_keyring_is_not_forgotten_for_an_older_one_unless_that_is_meant(last_seen: LastSeen) -> None:
    last_seen.remember_keyring(3, b"newer")
    newer = last_seen.recall_keyring()
    last_seen.remember_keyring(2, b"older")
    assert last_seen.recall_keyring() == newer
    last_seen.remember_keyring(2, b"older", even_if_older=True)
    assert last_seen.recall_keyring() not in {newer, None}
