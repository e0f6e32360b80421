"""Adding a version to a stage: the only way that anything ever changes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format.checkpoint_file import MAX_VERSION, Entry, new_id
from checkpoint_manager._store.history import History, Tip
from checkpoint_manager._store.store import Vault, origin
from checkpoint_manager.backends.base import VersionTakenError
from checkpoint_manager.errors import StorageError, VersionConflictError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager.models import Status, Version

_LOG = logging.getLogger("checkpoint_manager")
_ATTEMPTS = 100
"""How often a writer that is overtaken without a lock tries the next number."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to become a version: everything but its place in the history.

    Attributes:
        data: The data as JSON.
        metadata: The caller's.
        status: What the version says of its stage.
        restored_from: The version this is a copy of, or None.
    """

    data: bytes = field(repr=False)
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    status: Status = "completed"
    restored_from: int | None = None


class Writer:
    """Appends versions to the stages of one store."""

    def __init__(self, vault: Vault, history: History) -> None:
        self._vault = vault
        self._history = history
        self.afterwards: Callable[[str, int, Entry], None] = lambda _stage, _number, _entry: None
        """Is told of each version that was appended, while the stage's lock is held; must not raise."""

    def save(self, stage: str, draft: Draft, expected: int | None = None) -> Version:
        """Append a version to a stage.

        Args:
            stage: The stage.
            draft: The version's content.
            expected: Refuse unless this is the newest version now (0: none yet); None: whatever is newest.

        Raises:
            VersionConflictError: Another version is the newest. Nothing was written.
            LockTimeoutError, RollbackError, StorageError: Nothing was acknowledged.
        """
        with self._vault.lock(stage):
            return self.append(stage, self._expect(stage, expected), draft)

    def update(self, stage: str, make: Callable[[Tip], Draft]) -> Version:
        """Append what ``make`` makes of the newest version, with no other writer in between."""
        with self._vault.lock(stage):
            tip = self._history.tip(stage)
            return self.append(stage, tip, make(tip), exactly=True)

    def append(self, stage: str, tip: Tip, draft: Draft, *, exactly: bool = False) -> Version:
        """Append a version after ``tip``; the caller holds the stage's lock.

        The number is owned by whoever writes it first. If someone did without the lock, the next one is tried, unless the draft
        was made ``exactly`` from this tip.
        """
        for _ in range(_ATTEMPTS):
            number = tip.next_number
            self._check_number(stage, number)
            entry = _entry_after(tip, draft)
            try:
                self._vault.append(stage, number, entry, draft.data)
            except VersionTakenError:
                if not self._is_mine(stage, number, entry):
                    if exactly:
                        raise self._conflict(stage, tip.version, number) from None
                    tip = self._history.tip(stage)
                    continue
            self._history.learn(stage, Tip(number, entry.id, entry.created_at))
            self.afterwards(stage, number, entry)
            return entry.as_version(stage, number)
        message = (
            f"stage {display(stage)}: other writers took each of {_ATTEMPTS} version numbers first, which a working lock would "
            f"prevent: check that the file system of {self._vault.backend.location} supports locks"
        )
        raise StorageError(message, stage=stage)

    def _expect(self, stage: str, expected: int | None) -> Tip:
        tip = self._history.tip(stage)
        if expected is not None and tip.version != expected:
            raise self._conflict(stage, expected, tip.version)
        return tip

    def _conflict(self, stage: str, expected: int, actual: int) -> VersionConflictError:
        message = (
            f"stage {display(stage)} in {self._vault.backend.location}: expected version {expected} to be the newest, "
            "but it is "
            f"{actual}: another writer was faster, and nothing was written. Load the newest version and decide again"
        )
        return VersionConflictError(message, stage=stage, expected=expected, actual=actual)

    def _is_mine(self, stage: str, number: int, entry: Entry) -> bool:
        """Whether the version that took the number is this very one: the answer to an earlier attempt was lost."""
        try:
            return self._vault.entry(stage, number).id == entry.id
        except Exception:  # noqa: BLE001  # whatever is wrong with it, it is not what was written here
            return False

    def _check_number(self, stage: str, number: int) -> None:
        if number > MAX_VERSION:
            message = (
                f"stage {display(stage)} in {self._vault.backend.location} has no version numbers left, which only a "
                "planted file "
                'can bring about: run "checkpoint-manager verify", then "checkpoint-manager repair"'
            )
            raise StorageError(message, stage=stage)


def _entry_after(tip: Tip, draft: Draft) -> Entry:
    now = datetime.now(UTC)
    return Entry(
        id=new_id(),
        previous=tip.id,
        status=draft.status,
        created_at=now if tip.created_at is None else max(now, tip.created_at),
        metadata=draft.metadata,
        origin=origin(),
        size=len(draft.data),
        restored_from=draft.restored_from,
    )
