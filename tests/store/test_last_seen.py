"""What a user has seen of a store is never forgotten for something older."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checkpoint_manager._store.last_seen import LastSeen, SeenRecord, SeenVersion

if TYPE_CHECKING:
    from pathlib import Path

    from checkpoint_manager._store.last_seen import SeenRecordName


@pytest.fixture
def last_seen(tmp_path: Path) -> LastSeen:
    return LastSeen("0" * 32, tmp_path)


def test_a_version_is_not_forgotten_for_an_older_one(last_seen: LastSeen) -> None:
    newer, older = SeenVersion(7, "a" * 32), SeenVersion(6, "b" * 32)
    last_seen.remember("train", newer)
    last_seen.remember("train", older)
    assert last_seen.recall("train") == newer


@pytest.mark.parametrize("name", ["tags", "gaps"])
def test_a_record_is_not_forgotten_for_an_older_one(last_seen: LastSeen, name: SeenRecordName) -> None:
    newer, older = SeenRecord(3, "a" * 32), SeenRecord(2, "b" * 32)
    last_seen.remember_record("train", name, newer)
    last_seen.remember_record("train", name, older)
    assert last_seen.recall_record("train", name) == newer


def test_a_keyring_is_not_forgotten_for_an_older_one_unless_that_is_meant(last_seen: LastSeen) -> None:
    last_seen.remember_keyring(3, b"newer")
    newer = last_seen.recall_keyring()
    last_seen.remember_keyring(2, b"older")
    assert last_seen.recall_keyring() == newer
    last_seen.remember_keyring(2, b"older", even_if_older=True)
    assert last_seen.recall_keyring() not in {newer, None}
