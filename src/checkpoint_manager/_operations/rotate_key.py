"""Rotate the store's key: encrypt every version again while other writers continue.

1. A new key is published in the keyring as the active one, beside the old one.
2. The rotation waits for every writer that may still hold the older keyring. From here on, all saves use the new key.
3. Stage by stage, under the stage's lock, each version and record is sealed under the new key, unless it is already.
4. All stages are examined once more, for versions that were added meanwhile and for missing ones.
5. The old key is dropped from the keyring, but only if everything that exists or was seen opens under the new one. Otherwise it
   stays, because it may be the only key for a version that is damaged, hidden or temporarily absent.

If a rotation is interrupted, the store still opens, and the next ``rotate`` resumes. Concurrent rotations share the work, and
each drops only the key that its own new key replaced.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from checkpoint_manager._format import gaps as sealed_gaps
from checkpoint_manager._format import tags as sealed_tags
from checkpoint_manager._format.keyring import begin_rotation, finish_rotation
from checkpoint_manager._operations import tag
from checkpoint_manager._store.listing import missing_ranges
from checkpoint_manager._store.waits import Waits
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.backends.maintenance import maintenance_of
from checkpoint_manager.errors import CheckpointError, Hint, IntegrityError, RollbackError
from checkpoint_manager.reports import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checkpoint_manager._format.key_slot import Secret
    from checkpoint_manager._format.keyring import UnlockedKeyring
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.reports import OnProgress

_NAME_IT = "Put the folder of the stage back from a backup, rotate as a user who knows the stage, or move this away"


def rotate(store: Store, *, also: Sequence[Secret], drop: Sequence[str], progress: OnProgress | None) -> None:
    """Replace the store's key; see the module's docstring.

    Args:
        store: The store.
        also: The secrets of further slots that are to open the store afterwards.
        drop: The ids of slots that are not.
        progress: Called after each version.

    Raises:
        CheckpointError: A slot is neither in ``also`` nor in ``drop``. Nothing was changed.
        IntegrityError: A version is damaged, or missing without a record. The old key stays until that is repaired.
        RollbackError: A stage is gone, or older than what this user has seen. The old key stays until that is resolved.
    """
    waits = Waits(store)
    while _rotate_once(store, also, drop, progress, waits):
        drop = [slot.slot for slot in store.keyring.unlocked.keyring.slots if slot.slot in drop or slot.label in drop]
        if not drop:  # the interrupted rotation has dropped them already
            return


def _rotate_once(store: Store, also: Sequence[Secret], drop: Sequence[str], progress: OnProgress | None, waits: Waits) -> bool:
    """Rotate, and return whether this only finished an earlier rotation."""
    was_begun = False

    def begin(unlocked: UnlockedKeyring) -> UnlockedKeyring:
        nonlocal was_begun
        was_begun = unlocked.rotating
        return unlocked if was_begun else begin_rotation(unlocked, also=also, drop=drop)

    with waits.waiting() as seconds:
        ours = store.keyring.change(begin, seconds).keyring.active
    with waits.waiting() as seconds:
        store.backend.wait_for_writers(seconds)
    resealing = _Resealing(store, progress, waits)
    resealing.run()
    resealing.run()  # once more: only what came or went since is left to do
    if store.index is not None:
        store.index.reseal()
    if resealing.problems:
        raise _unfinished(resealing.problems)

    def finish(unlocked: UnlockedKeyring) -> UnlockedKeyring:
        # Another process may have finished this rotation and begun the next, which is not done yet.
        return finish_rotation(unlocked) if unlocked.rotating and unlocked.keyring.active == ours else unlocked

    with waits.waiting() as seconds:
        store.keyring.change(finish, seconds)
    return was_begun


class _Resealing:
    """Seals a whole store under its active key.

    Attributes:
        problems: Why something is not known to open under that key, as of the last run.
    """

    def __init__(self, store: Store, progress: OnProgress | None, waits: Waits) -> None:
        self._store = store
        self._waits = waits
        self._progress = progress
        self._sealed: dict[str, set[int]] = {}
        self._total = 0
        self._done = 0
        self.problems: list[CheckpointError] = []

    def run(self) -> None:
        """Reseal all stages, including those seen before, and skip the versions that an earlier run has resealed."""
        self.problems = []
        stages = self._store.all_stages()
        self._total = max(self._total, sum(len(self._listed(stage)) for stage in stages))
        for stage in stages:
            try:
                with self._waits.lock(stage) as lock, self._waits.session(stage, lock) as session:
                    self.problems += self._stage(stage, session)
            except (IntegrityError, RollbackError) as error:  # of the stage or its records
                self.problems.append(error)
        for path in maintenance_of(self._store.backend).nameless(stages):
            message = f"{printable(path)} may hold versions of a stage whose name is lost"
            self.problems.append(IntegrityError(message, hint=_NAME_IT))

    def _listed(self, stage: str) -> list[int]:
        try:
            return self._store.backend.versions(stage)
        except IntegrityError:  # reported when the stage is processed
            return []

    def _stage(self, stage: str, session: Session) -> Iterator[CheckpointError]:
        done = self._sealed.setdefault(stage, set())
        gaps, _ = self._store.gaps(stage, session)
        newest = self._store.backend.newest(stage, exact=True, session=session).number
        self._store.history.take_back(stage, newest, session)
        for version in self._store.backend.versions(stage, session=session):
            if version in done or version in gaps:
                continue
            try:
                self._version(stage, version, session)
            except VersionAbsentError:  # deleted meanwhile; if not, it is missing below
                continue
            except IntegrityError as error:
                yield error
                continue
            done.add(version)
            self._done += 1
            if self._progress is not None:
                self._progress(Progress(self._done, max(self._total, self._done), "versions", stage))
        yield from self._records(stage, session)
        self._store.flush(stage, session)  # in a relaxed store, what was written may not be durable yet
        yield from self._missing(stage, session)

    def _version(self, stage: str, version: int, session: Session) -> None:
        """Open a version, whatever key its header names, and seal it under the active one unless it opened under that."""
        named = self._store.key_of(stage, version)
        entry, data = self._store.load(stage, version, session)
        if named != self._store.keyring.active[0]:
            self._store.replace(stage, version, entry, data, session)

    def _records(self, stage: str, session: Session) -> Iterator[CheckpointError]:
        seen = self._store.last_seen.recall_record(stage, "gaps")
        if self._store.found_gaps(stage, session)[0].serial < seen.serial:
            # The caller may want no more than a warning of it, but the key is dropped for good.
            message = f"the record of deleted versions of stage {printable(stage)} was rolled back"
            yield RollbackError(message, hint=Hint.ACCEPT_ROLLBACK, stage=stage)
        else:
            self._store.change_record(stage, functools.partial(self._seal_gaps, stage, session))
        turned_back = self._store.change_record(stage, functools.partial(self._seal_tags, stage))
        if turned_back:
            yield RollbackError(turned_back, hint=Hint.ACCEPT_ROLLBACK, stage=stage)

    def _seal_gaps(self, stage: str, session: Session) -> None:
        gaps, record = self._store.gaps(stage, session)
        if record is not None and sealed_gaps.RECORD.key_of(record.data) != self._store.keyring.active[0]:
            self._store.write_gaps(stage, gaps, record, session)

    def _seal_tags(self, stage: str) -> str:
        """Seal the tags under the active key, and return why they are not trusted, if they are not."""
        tags, record, turned_back = tag.look(self._store, stage)
        if not turned_back and record is not None and sealed_tags.RECORD.key_of(record.data) != self._store.keyring.active[0]:
            tag.write(self._store, stage, tags, record)
        return turned_back

    def _missing(self, stage: str, session: Session) -> Iterator[CheckpointError]:
        """Yield an error for what should be there: the old key may be the only one that opens it, should it come back."""
        where = f"stage {printable(stage)} in {self._store.backend.location}"
        seen = self._store.last_seen.recall(stage)
        versions = self._store.backend.versions(stage, session=session)
        newest = versions[-1] if versions else 0
        if seen is not None and newest < seen.version:
            found = f"its newest version is {newest}" if newest else "it is gone"
            message = f"{where} was rolled back: {found}, and this user has already seen version {seen.version}"
            yield RollbackError(message, hint=Hint.ACCEPT_ROLLBACK, stage=stage, version=seen.version)
        missing = next(missing_ranges(versions, self._store.gaps(stage, session)[0]), None)
        if missing is not None:
            message = f"version {missing[0]} of {where} is missing, and there is no record that it was deleted"
            yield IntegrityError(message, hint=Hint.ACCEPT_ROLLBACK, stage=stage, version=missing[0])


def _unfinished(problems: Sequence[CheckpointError]) -> CheckpointError:
    """Return the error that says why a rotation can't be finished: the first problem, and how many more there are."""
    first = problems[0]
    more = f", and {len(problems) - 1} more like this" if len(problems) > 1 else ""
    kind = RollbackError if isinstance(first, RollbackError) else IntegrityError
    message = f"the rotation is not finished, and the old key stays until this is repaired: {first.message}{more}"
    return kind(message, hint=first.hint, stage=first.stage, version=first.version)
