"""Deleting versions for good, so that it can be told from a theft.

The record of what is gone is written first, then the files are removed: killed in between, the versions count as deleted
already, and the next deletion or repair removes what is left of them. Before anything is removed, the stage's mark is set
durably to the newest version: whoever looks for that starts above every number that was ever deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format.gaps import Gap, Gaps, Reason
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointError, FormatError, IntegrityError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager._operations.tag import Tagger
    from checkpoint_manager._store.history import History
    from checkpoint_manager._store.store import Vault


class Deleter:
    """Deletes versions of the stages of one store."""

    def __init__(self, vault: Vault, history: History, tagger: Tagger) -> None:
        self._vault = vault
        self._history = history
        self._tagger = tagger

    def delete(self, stage: str, versions: Iterable[int]) -> list[int]:
        """Delete versions, and return the numbers of those that were there.

        Raises:
            CheckpointNotFoundError: One of them never was there, or was deleted before. Nothing is deleted.
            CheckpointError: One of them is the newest, or has a tag. Nothing is deleted.
        """
        wanted = sorted(set(versions))
        with self._vault.lock(stage):
            newest = self._history.look(stage).number
            present = set(self._vault.backend.versions(stage))
            gaps, _ = self._vault.gaps(stage)
            tags = self._tagger.certain(stage)
            for version in wanted:
                if version == newest:
                    message = (
                        f"version {version} of stage {display(stage)} in {self._vault.backend.location} is the newest "
                        "and is not deleted: save or clear the stage first, then it can be. Nothing was deleted"
                    )
                    raise CheckpointError(message, stage=stage, version=version)
                if version not in present or version in gaps:
                    raise self._history.absent(stage, version, newest)
                if names := tags.of(version):
                    raise self._tagged(stage, version, names)
            if wanted:
                self.drop(stage, wanted, newest)
            return wanted

    def drop(self, stage: str, versions: list[int], newest: int) -> Gaps:
        """Delete versions that are there and free to go, and return the gaps; the caller holds the lock, and has made sure."""
        self._vault.mark(stage, newest)
        gaps = self.record(stage, versions, "deleted")
        self._vault.backend.delete(stage, versions)
        return gaps

    def sweep(self, stage: str) -> None:
        """Remove what a killed deletion left: files of versions that are recorded as deleted. The caller holds the lock."""
        gaps, _ = self._vault.gaps(stage)
        found = ((version, gaps.find(version)) for version in self._vault.backend.versions(stage))
        left = [version for version, gap in found if gap is not None and gap.reason == "deleted"]
        if left:
            self._vault.backend.delete(stage, left)

    def record(self, stage: str, versions: Iterable[int], reason: Reason) -> Gaps:
        """Write down that these versions are gone on purpose; the caller holds the lock and removes them afterwards."""
        gaps, expected = self._vault.gaps(stage)
        gaps = gaps.add(
            *(
                Gap(first, last, self._id_before(stage, first), self._id_of(stage, last), reason)
                for first, last in _runs(versions)
            )
        )
        self._vault.write_gaps(stage, gaps, expected)
        return gaps

    def _tagged(self, stage: str, version: int, names: list[str]) -> CheckpointError:
        message = (
            f"version {version} of stage {display(stage)} in {self._vault.backend.location} has the tag {' and '.join(names)}, "
            "which protects it: take that away first with untag(). Nothing was deleted"
        )
        return CheckpointError(message, stage=stage, version=version)

    def _id_of(self, stage: str, version: int) -> str | None:
        try:
            return self._vault.entry(stage, version).id
        except (IntegrityError, FormatError, VersionAbsentError):
            pass
        try:
            return self._vault.entry(stage, version + 1).previous  # what comes after it knows it too
        except (IntegrityError, FormatError, VersionAbsentError):
            return None

    def _id_before(self, stage: str, version: int) -> str | None:
        try:
            return self._vault.entry(stage, version).previous
        except (IntegrityError, FormatError, VersionAbsentError):
            return self._id_of(stage, version - 1) if version > 1 else None


def _runs(versions: Iterable[int]) -> Iterable[tuple[int, int]]:
    first = last = 0
    for version in sorted(versions):
        if version != last + 1 or not first:
            if first:
                yield first, last
            first = version
        last = version
    if first:
        yield first, last
