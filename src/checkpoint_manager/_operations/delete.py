"""Deleting versions for good, so that it can be told from a theft.

The record of what is gone is written first, then the files are removed: killed in between, the versions count as deleted
already, and the next deletion or repair removes what is left of them. Before anything is removed, the stage's mark is set
durably to the newest version: whoever looks for that starts above every number that was ever deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format.gaps import Gap, Gaps, Reason
from checkpoint_manager._operations import tag
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointError, FormatError, IntegrityError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager._store.store import Store


def delete_versions(store: Store, stage: str, versions: Iterable[int]) -> list[int]:
    """Delete versions, and return the numbers of those that were there.

    Raises:
        CheckpointNotFoundError: One of them never was there, or was deleted before. Nothing is deleted.
        CheckpointError: One of them is the newest, or has a tag. Nothing is deleted.
    """
    wanted = sorted(set(versions))
    with store.lock(stage):
        newest = store.history.look(stage).number
        present = set(store.backend.versions(stage))
        gaps, _ = store.gaps(stage)
        tags = tag.certain(store, stage)
        for version in wanted:
            if version == newest:
                message = (
                    f"version {version} of stage {display(stage)} in {store.backend.location} is the newest "
                    "and is not deleted: save or clear the stage first, then it can be. Nothing was deleted"
                )
                raise CheckpointError(message, stage=stage, version=version)
            if version not in present or version in gaps:
                raise store.history.absent(stage, version, newest)
            if names := tags.of(version):
                raise _tagged(store, stage, version, names)
        if wanted:
            drop(store, stage, wanted)
        return wanted


def drop(store: Store, stage: str, versions: list[int]) -> Gaps:
    """Delete versions that are there and free to go, and return the gaps; the caller holds the lock, and has made sure."""
    store.backend.flush(stage)  # what remains, before anything says that the others are gone
    gaps = record(store, stage, versions, "deleted")
    store.backend.delete(stage, versions)
    return gaps


def remove_leftovers(store: Store, stage: str) -> None:
    """Remove what a killed deletion left: files of versions that are recorded as deleted. The caller holds the lock."""
    gaps, _ = store.gaps(stage)
    found = ((version, gaps.find(version)) for version in store.backend.versions(stage))
    left = [version for version, gap in found if gap is not None and gap.reason == "deleted"]
    if left:
        store.backend.delete(stage, left)


def record(store: Store, stage: str, versions: Iterable[int], reason: Reason) -> Gaps:
    """Write down that these versions are gone on purpose; the caller holds the lock and removes them afterwards."""
    gaps, expected = store.gaps(stage)
    gaps = gaps.add(
        *(
            Gap(first, last, _id_before(store, stage, first), _id_of(store, stage, last), reason)
            for first, last in _runs(versions)
        )
    )
    store.write_gaps(stage, gaps, expected)
    return gaps


def _tagged(store: Store, stage: str, version: int, names: list[str]) -> CheckpointError:
    message = (
        f"version {version} of stage {display(stage)} in {store.backend.location} has the tag {' and '.join(names)}, "
        "which protects it: take that away first with untag(). Nothing was deleted"
    )
    return CheckpointError(message, stage=stage, version=version)


def _id_of(store: Store, stage: str, version: int) -> str | None:
    try:
        return store.entry(stage, version).id
    except (IntegrityError, FormatError, VersionAbsentError):
        pass
    try:
        return store.entry(stage, version + 1).previous  # what comes after it knows it too
    except (IntegrityError, FormatError, VersionAbsentError):
        return None


def _id_before(store: Store, stage: str, version: int) -> str | None:
    try:
        return store.entry(stage, version).previous
    except (IntegrityError, FormatError, VersionAbsentError):
        return _id_of(store, stage, version - 1) if version > 1 else None


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
