"""The history of a stage: which version is the newest, and whether the history continues the one that this user has seen.

Nothing unauthenticated decides which version is the newest:

* The first look of a process at a stage is exhaustive: the backend lists all versions, or is certain that nothing has changed
  since another process of this user knew them all. If the record of deletions names a version at or above the newest one, the
  newest was removed by an attacker, because a deletion never includes it. Only ``lost`` versions may stand at the top, where
  an accepted rollback or an import was killed.
* The cost of later looks does not depend on the length of the history: the backend revalidates what this process knows of the
  stage. A history that ends below that, or whose record of deletions has changed, is listed again before anything is concluded,
  because there may be newer versions above a deleted one.
* The newest version must lead back to the one that this user saw last. Each version names the id of the last readable version
  before it; the chain is followed once from the newest down to the version seen last, and the newest is then remembered in its
  place. A damaged or missing version may be skipped if the next one names the one below it. A chain that restarts in between
  (``previous`` is null) does not lead back.
* In a relaxed store, a power cut may take a version and leave the next one. So each version there also names the last one that
  was known to be durable, and leads back over those between. What was seen is durable, so this passes over nothing that
  was seen, and the versions between need not be read.
* A newest version that is gone from the history is put back if the backend keeps another copy of it.
* A writer never uses a number that the record of deletions names, nor one that was seen.
"""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import Ancestor
from checkpoint_manager._format.gaps import MAX_GAPS_BYTES
from checkpoint_manager._format.note_keys import DELETED
from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._store.last_seen import SeenVersion, seen_line
from checkpoint_manager._text import did_you_mean, printable
from checkpoint_manager.backends.base import Newest, VersionAbsentError
from checkpoint_manager.backends.maintenance import maintenance_of
from checkpoint_manager.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    Hint,
    IntegrityError,
    RollbackError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.gaps import Gap
    from checkpoint_manager._store.last_seen import LastSeen, SeenLine
    from checkpoint_manager._store.sealed_store import SealedStore
    from checkpoint_manager.backends.base import Backend, Session

LONG = 256
"""From so many versions on, notes of a history are left for later processes, if the backend makes them."""
_MOST_NOTES = 2
"""How many notes of a stage are left before the one at the end."""


class Tip(NamedTuple):
    """The newest version of a stage, as a writer needs it.

    Attributes:
        version: Its number; 0 if the stage has none.
        id: The id of the last readable version; None if there is none.
        created_at: When the last readable version was written.
        used: The highest number ever used, if it is above ``version``; otherwise 0.
        durable: In a relaxed store, a version that the last readable one leads back to, or that one itself, which was known to
            be durable.
    """

    version: int
    id: str | None
    created_at: datetime | None
    used: int = 0
    durable: Ancestor | None = None


class Look(NamedTuple):
    """The result of a look at a stage.

    Attributes:
        number: The newest version's number; 0: none.
        durable: It is known to survive a power cut, with all below it.
        seen: The newest version that this user, or this process, saw before.
        remembered: The newest version that this user saw before, which is durable.
        status: That of the line in which it was remembered; None if there is none.
    """

    number: int
    durable: bool
    seen: SeenVersion | None
    remembered: SeenVersion | None
    status: os.stat_result | None


NOTHING = Tip(0, None, None)


class History:
    """The histories of all stages of a store.

    Attributes:
        tips: The newest version of each stage that this process has looked at, as it knows it.
        in_turn: Up to which version of a stage this process leaves its state for others, which save to it, too.
    """

    def __init__(self, store: SealedStore) -> None:
        self._store = store
        self.tips: dict[str, Tip] = {}
        self.in_turn: dict[str, int] = {}
        self._noted: dict[str, int] = {}
        self._end: weakref.finalize[..., SealedStore] | None = None

    def look(self, stage: str, session: Session | None = None, *, exact: bool = False) -> Look:
        """Find the newest version. A caller that reads it must then call :meth:`confirm`.

        Args:
            stage: The stage.
            session: A session on the stage.
            exact: List all versions, as the first time.

        Raises:
            RollbackError: This user has seen a newer version, or the newest one was taken away.
        """
        backend, known = self._store.backend, self.tips.get(stage)
        remembered, status = self._store.last_seen.recall_with_status(stage)  # before the store is looked at: never ahead of it
        seen = remembered
        if known is not None and known.id is not None and (seen is None or known.version > seen.version):
            seen = SeenVersion(known.version, known.id)
        elif known is not None and seen is not None and seen.version > known.version and session is not None:
            session.expect(seen.version)
        is_known = known is not None or self._resume(stage, seen, session)
        number, durable = backend.newest(stage, exact=exact or not is_known, session=session)
        if known is None and self.take_back(stage, number, session):
            number, durable = backend.newest(stage, exact=True, session=session)
        gaps = self._store.known_gaps.get(stage)
        has_new_gaps = gaps is None or gaps[1] is not backend.read_record(
            "gaps", stage, limit=MAX_GAPS_BYTES, known=gaps[1], session=session
        )  # read after the look: what was deleted by then is recorded by now
        has_new_gaps = has_new_gaps or not self._store.has_compared_gaps(stage)
        if (has_new_gaps and known is not None) or (seen is not None and number < seen.version):
            number, durable = backend.newest(stage, exact=True, session=session)
            if seen is not None and number < seen.version and self.take_back(stage, number, session):
                number, durable = backend.newest(stage, exact=True, session=session)
            if seen is not None and number < seen.version:
                self._refuse_rollback(stage, f"its newest version is {number or 'gone'}", seen.version)
        if has_new_gaps or known is None:
            self._store.known_gaps.pop(stage, None)
            number, durable = self._check_deletions(stage, Newest(number, durable), session)
            self.tips.setdefault(stage, NOTHING)
        return Look(number, durable, seen, remembered, status)

    def _resume(self, stage: str, seen: SeenVersion | None, session: Session | None) -> bool:
        """Let the backend go on from the note that an earlier process of this user left of a stage; return whether it does."""
        if seen is None or session is None:
            return False
        recall = functools.partial(self._store.last_seen.recall_folder, stage)
        return maintenance_of(self._store.backend).resume(stage, recall, session)

    def take_back(self, stage: str, newest: int, session: Session | None) -> bool:
        """Put the newest version back if it is gone and the backend keeps a copy of it; return whether it did."""
        version = self._store.only_copy(stage, newest)
        if version is None:
            return False
        maintenance_of(self._store.backend).put_back(stage, version, session=session)
        where = f"version {version} of stage {printable(stage)} in {self._store.backend.location}"
        _LOG.warning("%s was gone from the history, and was put back from the only copy that was left", where)
        return True

    def begin(self, stage: str, version: int, entry: Entry) -> None:
        """Take a version for the newest one of a stage, because it is durable, and is the one that this user saw last."""
        self.tips.setdefault(stage, Tip._make((version, entry.id, entry.created_at, 0, None)))  # another thread may have saved

    def confirm(self, stage: str, look: Look, entry: Entry, session: Session | None = None) -> None:
        """Check that the newest version leads back to the one seen before, and remember it.

        Raises:
            VersionAbsentError: It was deleted since the look, together with the one seen before.
            RollbackError: It is another history.
            StorageError: It can't be made durable.
        """
        seen = look.seen
        if seen is not None and entry.id != seen.id and self._is_other(stage, look.number, entry, seen, session):
            self._refuse_other_history(stage, seen.version, session)
            return
        if self.tips.get(stage, NOTHING).version < look.number:
            self.learn(stage, self._tip_of(look.number, entry), session, durable=look.durable, seen=seen)

    def is_in_order(self, stage: str, look: Look, entry: Entry) -> bool:
        """Return whether this version is the newest one that is known of a stage, and a look at it found nothing to tell."""
        tip = self.tips.get(stage, NOTHING)
        is_newest = tip.version == look.number and tip.id == entry.id
        is_rolled_back = look.seen is not None and look.seen.version > look.number
        return is_newest and not is_rolled_back and stage in self._store.known_gaps

    def tip(self, stage: str, session: Session | None = None, *, exact: bool = False) -> Tip:
        """Return the newest version as a writer needs it; arguments and errors as for :meth:`look`.

        A damaged version does not stop a writer, because the stage has to be computed again; the new version names the last
        readable one. A damaged record of deletions does, because the free numbers are then unknown.
        """
        look = self.look(stage, session, exact=exact)
        tip = self.tips[stage]
        if tip.version != look.number or tip.id is None:
            tip = self._read_tip(stage, look, session)
        if self._store.backend.durability == "relaxed":
            tip = tip._replace(durable=self._durable_below(stage, look, tip, session))
        used = look.seen.version if look.seen is not None else 0
        gaps, record = self._store.known_gaps.get(stage) or self._store.gaps(stage, session)
        gap = None if record is None else gaps.last
        if gap is not None and gap.last > max(tip.version, used):
            return Tip(tip.version, gap.id or tip.id, tip.created_at, gap.last, tip.durable)
        return tip if used <= tip.version else tip._replace(used=used)

    def _read_tip(self, stage: str, look: Look, session: Session | None) -> Tip:
        for version in self._downwards(stage, look.number, session):
            try:
                entry = self._store.entry(stage, version, session)
            except (IntegrityError, VersionAbsentError):
                continue
            if version == look.number or (look.seen is not None and version > look.seen.version):
                try:
                    self.confirm(stage, look._replace(number=version), entry, session)
                except VersionAbsentError:  # by a writer without the lock: the append will find a newer one
                    continue
            return self._tip_of(look.number, entry)
        return Tip(look.number, None, None)

    def _tip_of(self, number: int, entry: Entry) -> Tip:
        durable = None
        if self._store.backend.durability == "relaxed":
            durable = entry.durable  # without it, its save was durable, and so was all below it
            if durable is None and entry.previous is not None:
                durable = Ancestor(number - 1, entry.previous)
        return Tip(number, entry.id, entry.created_at, durable=durable)

    def _durable_below(self, stage: str, look: Look, tip: Tip, session: Session | None) -> Ancestor | None:
        """Return the newest version that is known to be durable of those that the next version leads back to."""
        if tip.id is None:
            return None
        durable, seen = Ancestor(tip.version, tip.id) if look.durable else tip.durable, look.remembered
        if seen is None or (durable is not None and seen.version <= durable.version):
            return durable
        names = {tip.id} if durable is None else {tip.id, durable.id}
        return Ancestor(seen.version, seen.id) if self._lead_back(stage, tip.version + 1, names, seen, session) else durable

    def _downwards(self, stage: str, newest: int, session: Session | None) -> Iterator[int]:
        """Yield the numbers of the versions, newest first. They are listed only if the newest one does not suffice."""
        if newest:
            yield newest
            versions = self._store.backend.versions(stage, session=session)
            yield from (version for version in reversed(versions) if version < newest)

    def learn(
        self,
        stage: str,
        tip: Tip,
        session: Session | None = None,
        *,
        durable: bool = True,
        seen: SeenVersion | None = None,
        line: SeenLine | None = None,
    ) -> None:
        """Remember a version that was read or written as the newest, in this process, and for this user once it is durable.

        Args:
            stage: The stage.
            tip: The version.
            session: A session on the stage.
            durable: It survives a power cut. If not, it is made durable, unless the store is relaxed: then only this process
                remembers it.
            seen: What was seen before, if that is known: it need not be written again.
            line: What is written down for the user, if it was made before.
        """
        self.tips[stage] = tip
        if not durable and self._store.backend.durability != "relaxed":
            self._store.backend.flush(stage, session=session)
            durable = True
        if durable and tip.id is not None and (seen is None or seen.version < tip.version):
            self._store.last_seen.write(*(line or seen_line(stage, tip.version, tip.id)))
        if tip.version >= LONG:
            self.note(stage, session)

    def note(self, stage: str, session: Session | None) -> None:
        """Leave a note of a long history after the first look and the first save; the next one is left at the end.

        One for each save would cost a tenth of it.
        """
        if self._noted.get(stage, 0) >= _MOST_NOTES:
            return
        if self._end is None:
            store = self._store
            self._end = weakref.finalize(store, _leave_notes, store.backend, store.last_seen, self._noted, os.getpid())
        self._noted[stage] = self._noted.get(stage, 0) + 1
        note = maintenance_of(self._store.backend).folder_note(stage, session)
        if note is not None:
            self._store.last_seen.remember_folder(stage, note)

    def leave_notes(self) -> None:
        """Leave notes of long histories, because nothing more will be done in this store."""
        if self._end is not None:
            self._end()

    def remember(self, stage: str) -> None:
        """Remember for this user what this process knows of a stage. The caller has made it durable."""
        tip = self.tips.get(stage, NOTHING)
        if tip.id is not None:
            self._store.last_seen.remember(stage, SeenVersion(tip.version, tip.id))

    def forget(self, stage: str) -> None:
        """Forget a stage, after its user has accepted a rollback."""
        self.tips.pop(stage, None)
        self._store.last_seen.forget(stage)

    # Versions

    def entry(self, stage: str, version: int, session: Session | None = None) -> Entry:
        """Return one version's entry; its data is not read.

        Raises:
            CheckpointNotFoundError: The version does not exist, or was deleted.
            IntegrityError: It is damaged, or missing without a record.
        """
        if session is None:
            with self._store.session(stage) as own:
                return self.entry(stage, version, own)
        look = self.look(stage, session)
        try:
            if version < 1 or version in self._store.gaps(stage, session)[0]:
                raise VersionAbsentError
            entry = self._store.entry(stage, version, session)
            if version == look.number:
                self.confirm(stage, look, entry, session)
        except VersionAbsentError:
            raise self.absent(stage, version, look.number) from None
        return entry

    def before(self, stage: str, version: int, session: Session | None = None) -> int | None:
        """Return the number of the version before another, whole or not; None if there is none."""
        gaps, _ = self._store.gaps(stage, session)
        number = version - 1
        while (gap := gaps.find(number)) is not None:
            number = gap.first - 1
        return number if number > 0 else None

    def is_authentic(self, stage: str, session: Session | None = None) -> bool:
        """Return whether a stage holds a version that opens, or the only copy of one: anyone may have made its folder.

        If something else stands in the place of its folder, the copy decides.
        """
        if self.tips.get(stage, NOTHING).version:
            return True
        if session is None:
            with contextlib.suppress(IntegrityError), self._store.backend.session(stage) as own:
                return self.is_authentic(stage, own)
        with contextlib.suppress(IntegrityError):
            for version in reversed(self._store.backend.versions(stage, session=session)):
                with contextlib.suppress(IntegrityError, VersionAbsentError):
                    self._store.entry(stage, version, session)
                    return True
        return self._store.copied(stage) is not None

    def is_deleted(self, stage: str, session: Session | None = None) -> bool:
        """Return whether a stage was deleted as a whole: a delete marker is its newest version, and its only one.

        Raises:
            RollbackError: This user has seen a newer version than the marker.
        """
        if session is None:
            with self._store.session(stage) as own:
                return self.is_deleted(stage, own)
        try:
            if self._store.found_gaps(stage, session)[1] is None:  # most stages have no such record
                return False
            number = self._store.backend.newest(stage, session=session).number
            gaps, _ = self._store.found_gaps(stage, session)
            if number - 1 not in gaps or DELETED not in self.entry(stage, number, session).metadata:
                return False
        except (IntegrityError, CheckpointNotFoundError):
            return False
        return self.before(stage, number, session) is None

    def existing(self, stage: str) -> int:
        """Return the number of a stage's newest version.

        Raises:
            CheckpointNotFoundError: There is no such stage, or it was deleted as a whole.
            RollbackError: This user has seen a newer version.
        """
        with self._store.session(stage) as session:
            number = self.look(stage, session).number
            is_deleted = number > 0 and self.is_deleted(stage, session)
        if number == 0:
            raise self.absent(stage, 0, 0)
        if is_deleted:
            raise self.deleted(stage, number)
        return number

    def deleted(self, stage: str, marker: int) -> CheckpointNotFoundError:
        """Return the error for a stage that was deleted as a whole; ``marker`` is the number of its delete marker."""
        message = f"stage {printable(stage)} in {self._store.backend.location} was deleted"
        return CheckpointNotFoundError(message, hint=Hint.SEE_STAGES, stage=stage, version=marker)

    def absent(self, stage: str, version: int, newest: int) -> CheckpointError:
        """Return the error for an absent version; ``newest`` is the newest version that was found before."""
        where = f"in {self._store.backend.location}"
        if newest == 0:
            message = f"there is no checkpoint of stage {printable(stage)} {where}{did_you_mean(stage, self._names())}"
            return CheckpointNotFoundError(message, hint=Hint.SEE_STAGES, stage=stage)
        gap = self._store.gaps(stage)[0].find(version)
        if gap is not None:
            message = f"version {version} of stage {printable(stage)} {where} was {gap.reason}"
            return CheckpointNotFoundError(message, hint=Hint.SEE_HISTORY, stage=stage, version=version)
        if not 1 <= version <= newest:
            message = f"there is no version {version} of stage {printable(stage)} {where}: its newest version is {newest}"
            return CheckpointNotFoundError(message, hint=Hint.SEE_HISTORY, stage=stage, version=version)
        message = (
            f"version {version} of stage {printable(stage)} {where} is missing, and there is no record that it was deleted"
        )
        return IntegrityError(message, hint=Hint.PUT_IT_BACK, stage=stage, version=version)

    def _names(self) -> Iterator[str]:
        """Yield the names of the stages that are there, then those of the stages that were seen, which take longer to find."""
        yield from self._store.backend.stages()
        yield from self._store.last_seen.stages()

    def of_another(self, stage: str, version: int) -> IntegrityError:
        """Return the error for a version that the newest one does not lead back to."""
        where = f"version {version} of stage {printable(stage)} in {self._store.backend.location}"
        message = f"{where} is of another history: the versions above it do not lead back to it"
        return IntegrityError(message, hint=Hint.LOAD_ANOTHER, stage=stage, version=version)

    # What was seen

    def _check_deletions(self, stage: str, newest: Newest, session: Session | None) -> Newest:
        """Refuse a stage whose newest version was removed, which a deletion never does; return the newest version."""
        try:
            gap = self._store.gaps(stage, session)[0].last
        except IntegrityError as error:  # an attacker who can damage the record can also remove it; a writer stops
            _LOG.error("%s", error)  # the message says all; a traceback would not help
            return newest
        if gap is not None and gap.last >= newest.number and gap.reason != "lost":
            newest = self._store.backend.newest(stage, exact=True, session=session)  # it may have been saved since
            if gap.last >= newest.number:
                found = f"its newest version is {newest.number or 'gone'}"
                found = f"{found}, and version {gap.last} was {gap.reason} below a newer one"
                self._refuse_rollback(stage, found, gap.last)
        return newest

    def _is_other(self, stage: str, number: int, entry: Entry, seen: SeenVersion, session: Session | None) -> bool:
        """Return whether a version does not lead back to the one seen. What was deleted during the look is not taken for that.

        Raises:
            VersionAbsentError: It is one of those that were deleted.
        """
        serial = -1
        while not self.leads_back(stage, number, entry, seen, session):
            gaps, _ = self._store.gaps(stage, session)
            if number in gaps:
                raise VersionAbsentError
            if gaps.serial == serial:
                return True
            serial = gaps.serial
        return False

    def leads_back(self, stage: str, number: int, entry: Entry, seen: SeenVersion, session: Session | None) -> bool:
        """Return whether the chain of a version leads back to the version that was seen."""
        if number <= seen.version:
            return number < seen.version or entry.id == seen.id  # below: told already, by a warning
        gaps = () if entry.durable is None else self._store.gaps(stage, session)[0]
        while (below := entry.durable) is not None and seen.version < below.version < number:  # over the relaxed saves between
            if below.version in gaps:  # its file may have come back: the record of its deletion leads on
                break
            try:
                ancestor = self._store.entry(stage, below.version, session)
            except (IntegrityError, VersionAbsentError):
                break
            if ancestor.id != below.id:
                break
            number, entry = below.version, ancestor
        return self._lead_back(stage, number, _named_by(entry), seen, session)

    def _lead_back(self, stage: str, number: int, names: set[str], seen: SeenVersion, session: Session | None) -> bool:
        """Return whether a version of this number that names these ids leads back to the version that was seen."""
        if seen.id in names:
            return True
        for version, gap in self._steps_down(stage, number, seen.version, session):
            found: str | None
            if gap is not None:
                found, below = gap.id, {gap.before} if gap.before else set[str]()
                if gap.first <= seen.version and (seen.version < gap.last or gap.id is None):
                    below = {seen.id}  # its id is not recorded, but it was deleted by someone who had the key
            else:
                try:
                    entry = self._store.entry(stage, version, session)
                except (IntegrityError, VersionAbsentError):
                    continue
                found, below = entry.id, _named_by(entry)
            if not names or (found is not None and found not in names):
                return False
            if found == seen.id or seen.id in below:
                return True
            names = below
        return False

    def _steps_down(self, stage: str, above: int, lowest: int, session: Session | None) -> list[tuple[int, Gap | None]]:
        """Return the versions and gaps below a version, down to ``lowest``, newest first."""
        versions = self._store.backend.versions(stage, session=session)
        gaps, _ = self._store.gaps(stage, session)
        steps: list[tuple[int, Gap | None]] = [
            (version, None) for version in versions if lowest <= version < above and version not in gaps
        ]
        steps += [(gap.last, gap) for gap in gaps if lowest <= gap.last < above]
        return sorted(steps, key=lambda step: step[0], reverse=True)

    def _refuse_other_history(self, stage: str, seen: int, session: Session | None) -> None:
        found, hint = f"its versions do not lead back to version {seen} as it was seen", Hint.ACCEPT_ROLLBACK
        try:
            self._store.entry(stage, seen, session)
        except IntegrityError:  # the next save names the last readable version
            found, hint = f"{found}, which is damaged", Hint.REPAIR_OR_RESTORE
        except VersionAbsentError:
            pass
        self._refuse_rollback(stage, found, seen, hint)

    def _refuse_rollback(self, stage: str, found: str, seen: int, hint: Hint = Hint.ACCEPT_ROLLBACK) -> None:
        message = (
            f"stage {printable(stage)} in {self._store.backend.location} was rolled back: {found}, "
            f"and version {seen} was already seen"
        )
        if self._store.on_rollback == "raise":
            other = self._store.keyring.other_location(stage, seen) if hint is Hint.ACCEPT_ROLLBACK else None
            if other is not None:
                message = (
                    f"{message}; this user has seen the same store at {printable(other)}, so this may be a copy of that one"
                )
                hint = Hint.COPY_OR_ACCEPT
            raise RollbackError(message, hint=hint, stage=stage, version=seen)
        _LOG.warning("%s", message)


def _leave_notes(backend: Backend, last_seen: LastSeen, stages: Iterable[str], pid: int) -> None:
    """Leave notes of the stages that a later process can go on from, unless this is a forked child of the process."""
    if os.getpid() != pid:
        return
    for stage in [*stages]:  # a daemon thread may still save
        note = maintenance_of(backend).folder_note(stage)
        if note is not None:
            with contextlib.suppress(StorageError):
                last_seen.remember_folder(stage, note)


def _named_by(entry: Entry) -> set[str]:
    """Return the ids of the earlier versions that a version names."""
    names = set() if entry.previous is None else {entry.previous}
    return names if entry.durable is None else {*names, entry.durable.id}
