"""Import a bundle: verify it and compare it with the store as a whole, then read it again and write what is new.

**Nothing is written before the whole bundle is verified**, to its last byte, and all of its stages fit the store. A bundle that
is damaged, forged or of another history changes nothing. An import that is killed while it writes leaves the first of the new
versions in a stage, as if the bundle had been made earlier, and the next import of the same bundle continues. Until then,
``verify`` may report versions as missing that the bundle records as deleted.

**A stage that the store lacks** receives the versions with their numbers, ids, times, metadata and origins, and the record of
deleted versions. **A stage that the store has** receives the newer versions, provided that both have the same history: the ids
must agree at the newest number that both have reached, and each version names the id of the one before it. A version that was
deleted on one side only stays as it is on either side. If the histories differ, or can't be compared, the import is refused.

**Tags** are added after the versions, if the store has their versions with the same ids. A tag that names another version in
the store is left alone and reported. No tag is removed.

A stage's lock is held while its versions are written, so that no other writer comes between them.

**A bundle may come from an attacker.** Memory is bounded by a small multiple of what was read: data is checked in slices, and
of each stage only its counts, its gaps, its newest id and its tags are kept.
"""

from __future__ import annotations

import contextlib
import logging
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkpoint_manager._format import bundle
from checkpoint_manager._format.bundle_parts import AttachmentPart, GapsPart, StagePart, TagsPart, VersionPart
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.gaps import Gaps
from checkpoint_manager._format.json_check import is_payload
from checkpoint_manager._operations import attach, bundle_file, tag
from checkpoint_manager._operations.save import append_entry
from checkpoint_manager._store.history import Tip
from checkpoint_manager._store.waits import Waits
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import OutOfOrderError, VersionAbsentError, VersionTakenError
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    Hint,
    IntegrityError,
    RollbackError,
    StageNameError,
    VersionConflictError,
    WrongKeyError,
)
from checkpoint_manager.reports import BundledStage, BundleSummary, Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from checkpoint_manager._format.attachment import AttachmentRecord
    from checkpoint_manager._format.bundle_parts import Part
    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.gaps import Gap
    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager._format.key_slot import Secret
    from checkpoint_manager._operations.bundle_file import BundlePath
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.reports import OnProgress

_LOG = logging.getLogger("checkpoint_manager")

MAX_IMPORTED_VERSION = 99_999_999_999
"""The highest number that an import may bring. Otherwise one version of a hostile bundle could use up the numbers of a stage.
Nine tenths of them are left, enough for a thousand saves a second over 28 years."""

_MAX_NAMED = 20
"""How many stages a message names: a bundle may hold millions."""


@dataclass(slots=True)
class Arrival:
    """A stage of a bundle, and what the import does with it.

    Attributes:
        source: Its name in the bundle.
        stage: Its name in the store.
        tip: The newest version in the store, before anything is written.
        versions: How many versions the bundle holds.
        newest: The number of the newest one.
        id: Its id.
        added: How many of them are newer than the tip.
        id_at_tip: The id that the bundle knows of the version with the tip's number, or None.
        lacking: The gaps that are to be recorded.
        tags_added: The names of those that are to be added, and later of those that were.
        tags_kept: The names that another version has in the store.
    """

    source: str
    stage: str
    tip: Tip
    versions: int = 0
    newest: int = 0
    id: str | None = None
    added: int = 0
    id_at_tip: str | None = None
    lacking: Gaps = field(default_factory=Gaps)
    tags_added: tuple[str, ...] = ()
    tags_kept: tuple[str, ...] = ()

    @property
    def brings_something(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.added or self.lacking or self.tags_added)

    def see(self, part: VersionPart) -> None:
        """Take note of a version, in ascending order."""
        tip = self.tip.version
        if part.version == tip:
            self.id_at_tip = part.entry.id
        elif part.version == tip + 1 and self.id_at_tip is None:
            self.id_at_tip = part.entry.previous
        self.versions += 1
        self.added += part.version > tip
        self.newest, self.id = part.version, part.entry.id

    def see_gaps(self, gaps: Gaps) -> None:
        """Take note of the gaps: one of them may know the id, too."""
        gap = gaps.find(self.tip.version)
        if gap is not None and gap.last == self.tip.version and self.id_at_tip is None:
            self.id_at_tip = gap.id

    def as_result(self) -> BundledStage:
        """Return the value for callers."""
        return BundledStage(self.stage, self.versions, self.newest, self.added, self.tags_added, self.tags_kept)


def import_bundle(
    store: Store,
    place: BundlePath,
    secret: Secret,
    rename: Mapping[str, str],
    *,
    dry_run: bool,
    progress: OnProgress | None,
) -> BundleSummary:
    """Add to a store what a bundle holds and the store does not, and return what was added.

    Args:
        store: The store.
        place: Where the bundle is.
        secret: What opens it.
        rename: Other names for stages, by their names in the bundle.
        dry_run: Verify the bundle, return what would be added, and change nothing.
        progress: Called with the bytes that were read; without ``dry_run``, the bundle is read twice.

    Raises:
        WrongKeyError: The bundle was made for another secret. Nothing was imported.
        IntegrityError: It is damaged, or was changed. Nothing was imported.
        FormatError: It is of a newer format. Nothing was imported.
        CheckpointNotFoundError: It has no stage that ``rename`` names. Nothing was imported.
        VersionConflictError: A stage has another history in the store; all of them are named, and nothing was imported. Or
            another writer was faster: what was imported before stays, and the import can be run again.
        RollbackError: A stage is older than what this user has seen. Nothing was imported.
        TagError: A stage would have too many tags. Nothing was imported.
        LockTimeoutError: Another writer holds a stage. What was imported before stays.
        StorageError: A stage's record of deletions would become too long, and nothing was imported; or the operating system
            refused, and what was imported before stays.
    """
    with bundle_file.opened(place, bundle.may_be_bundle) as file:
        header = _header(file)
        key = _unlocked(header, secret, file.name)
        total = file.size if dry_run else 2 * file.size

        def parts(before: int) -> Iterator[Part]:
            def step(position: int) -> None:
                if progress is not None:
                    progress(Progress(before + min(position, file.size), total, "bytes"))

            return bundle.open_bundle(header, key, file.pieces(len(header.line), step))

        try:
            arrivals = _plan(store, parts(0), rename)
        except BrokenError as broken:
            raise _unsound(file, broken) from None
        _warn_of_deleted(store, arrivals)
        if not dry_run and any(arrival.brings_something for arrival in arrivals):
            try:
                _write(store, parts(file.size), arrivals)
            except BrokenError:
                raise IntegrityError(
                    f"the bundle {file.name} was changed while it was being imported. What was added before is whole",
                    hint="Get the file again and import it: the import continues from there",
                ) from None
        if progress is not None:
            progress(Progress(total, total, "bytes"))
        return BundleSummary(tuple(arrival.as_result() for arrival in arrivals), file.size)


def check_source(path: str) -> None:
    """Refuse what an import would refuse without a key: a file that can't be read, or has no header of a bundle.

    Raises:
        IntegrityError, FormatError, StorageError: As :func:`import_bundle`.
    """
    with bundle_file.opened(path, bundle.may_be_bundle) as file:
        _header(file)


def _header(file: bundle_file.BundleFile) -> bundle.Header:
    opening = file.opening(bundle.MAX_HEADER_BYTES)
    if not bundle.may_be_bundle(opening):
        raise IntegrityError(f"{file.name} is not a bundle. Nothing was imported", hint="Name a file that was exported")
    try:
        return bundle.parse_header(opening)
    except BrokenError as broken:
        raise _unsound(file, broken) from None


def _unsound(file: bundle_file.BundleFile, broken: BrokenError) -> IntegrityError:
    message = f"the bundle {file.name} {broken}. Nothing was imported"
    return IntegrityError(message, hint="Get the file again, or export it again")


def _unlocked(header: bundle.Header, secret: Secret, name: str) -> SecretBytes:
    key = header.unlock(secret)
    if key is None:
        given, made = (kind.replace("-", " ") for kind in (secret.kind, header.slot.kind))
        why = "it was made for another one, or its header was changed" if given == made else f"it was made for a {made}"
        raise WrongKeyError(
            f"the {given} given does not open the bundle {name}: {why}. Nothing was imported",
            hint=f"Give the {made} that it was exported with",
        )
    return key


# The first reading: nothing is changed


def _plan(store: Store, parts: Iterator[Part], rename: Mapping[str, str]) -> list[Arrival]:
    """Read a whole bundle, compare it with the store, and return what is to be done."""
    arrivals: list[Arrival] = []
    for part in parts:
        match part:
            case StagePart():
                arrivals.append(_arrival(store, part.name, rename))
            case VersionPart():
                _check_version(part)
                arrivals[-1].see(part)
            case GapsPart():
                arrivals[-1].see_gaps(part.gaps)
                _weigh_gaps(store, arrivals[-1], part.gaps)
            case TagsPart():
                arrival = arrivals[-1]
                added, arrival.tags_kept = tag.weigh(store, arrival.stage, part.named, arrival.tip.version)
                arrival.tags_added = tuple(added)
            case _:
                pass
    _check_names(arrivals, rename)
    _compare(store, arrivals)
    return arrivals


def _arrival(store: Store, source: str, rename: Mapping[str, str]) -> Arrival:
    try:
        validate(source)
    except StageNameError:
        raise BrokenError("holds a stage name that can't be one") from None
    stage = rename.get(source, source)
    return Arrival(source, stage, _tip(store, stage))


def _tip(store: Store, stage: str) -> Tip:
    tip = store.history.tip(stage)
    gap = store.gaps(stage)[0].find(tip.used)
    if tip.used > tip.version and (gap is None or gap.reason != "lost"):  # a rollback that was only warned of
        raise RollbackError(
            f"stage {printable(stage)} in {store.backend.location} was rolled back, and nothing is imported into it",
            hint=Hint.ACCEPT_ROLLBACK,
            stage=stage,
            version=tip.used,
        )
    return tip


def _check_version(part: VersionPart) -> None:
    if part.version > MAX_IMPORTED_VERSION:
        raise BrokenError(f"holds a version {part.version}, and an import reaches {MAX_IMPORTED_VERSION} at most")
    if not is_payload(part.data):
        raise BrokenError(f"holds a version {part.version} whose data is not JSON")


def _check_names(arrivals: list[Arrival], rename: Mapping[str, str]) -> None:
    """Refuse names that the bundle does not have, and two stages that would become one."""
    missing = sorted(rename.keys() - {arrival.source for arrival in arrivals})
    if missing:
        there = _listed([printable(arrival.source) for arrival in arrivals[:_MAX_NAMED]], len(arrivals)) or "none"
        message = f"the bundle has no stage {printable(missing[0])}; it has: {there}. Nothing was imported"
        raise CheckpointNotFoundError(message, hint="Rename only stages of the bundle", stage=missing[0])
    names: set[str] = set()
    for arrival in arrivals:
        if arrival.stage in names:
            message = f"two stages of the bundle would become {printable(arrival.stage)}. Nothing was imported"
            raise StageNameError(message, hint="Give each a name of its own", stage=arrival.stage)
        names.add(arrival.stage)


def _listed(names: list[str], count: int) -> str:
    more = count - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _compare(store: Store, arrivals: list[Arrival]) -> None:
    """Refuse histories that are not the continuation, or the beginning, of what is in the store."""
    differing = [arrival for arrival in arrivals if arrival.tip.version and not _is_one_history(store, arrival)]
    if not differing:
        return
    first = differing[0]
    named = _listed(
        [f"{printable(each.stage)} (version {each.tip.version} here, {each.newest} there)" for each in differing[:_MAX_NAMED]],
        len(differing),
    )
    raise VersionConflictError(
        f"these stages have another history in {store.backend.location} than in the bundle, "
        f"or can't be shown to have the same one: {named}. Nothing was imported",
        hint=Hint.IMPORT_RENAMED,
        stage=first.stage,
        expected=first.newest,
        actual=first.tip.version,
    )


def _is_one_history(store: Store, arrival: Arrival) -> bool:
    """Compare the ids at the newest number that both sides have reached."""
    if arrival.newest < arrival.tip.version:
        here, there = _id_of(store, arrival.stage, arrival.newest), arrival.id
    else:
        here, there = _id_of(store, arrival.stage, arrival.tip.version), arrival.id_at_tip
    return here is not None and here == there


def _id_of(store: Store, stage: str, version: int) -> str | None:
    """Return the id that a version of the store has or had; None: it is not known.

    Raises:
        IntegrityError: The version is damaged.
    """
    gap = store.gaps(stage)[0].find(version)
    if gap is not None and gap.last == version:
        return gap.id
    try:
        return store.entry(stage, version).id if gap is None else None
    except VersionAbsentError:
        return None


def _weigh_gaps(store: Store, arrival: Arrival, gaps: Gaps) -> None:
    recorded = store.gaps(arrival.stage)[0]
    arrival.lacking = Gaps(_lacking(store, arrival.stage, gaps, recorded))
    if arrival.lacking:
        store.check_gaps(arrival.stage, recorded.merged(arrival.lacking))


def _lacking(store: Store, stage: str, gaps: Gaps, recorded: Gaps) -> Iterator[Gap]:
    """Yield the gaps of which the store has neither a version nor a record."""
    present = store.backend.versions(stage) if gaps else []
    for gap in gaps:
        at = bisect_left(present, gap.first)
        has_version = at < len(present) and present[at] <= gap.last
        if not has_version and not recorded.has_any(gap.first, gap.last):
            yield gap


def _warn_of_deleted(store: Store, arrivals: list[Arrival]) -> None:
    """Warn of the stages that were deleted from the store, lest the caller takes them for imported."""
    for arrival in arrivals:
        if arrival.tip.version and not arrival.added and store.history.is_deleted(arrival.stage):
            _LOG.warning(
                "Stage %s was deleted from %s, and an import does not bring it back, except under another name",
                printable(arrival.stage),
                store.backend.location,
            )


# The second reading: each stage is written under its lock


def _write(store: Store, parts: Iterator[Part], arrivals: list[Arrival]) -> None:
    """Write what was planned, from the parts of the same bundle."""
    planned, waits = {arrival.source: arrival for arrival in arrivals}, Waits(store)
    part = next(parts, None)
    while part is not None:
        if isinstance(part, StagePart) and (arrival := planned[part.name]).brings_something:
            with waits.lock(arrival.stage) as lock, waits.session(arrival.stage, lock) as session:
                part = _write_stage(store, arrival, parts, session)
        else:
            part = next(parts, None)


def _write_stage(store: Store, arrival: Arrival, parts: Iterator[Part], session: Session) -> Part | None:
    """Write a stage, and return the part that follows it."""
    tip = _tip(store, arrival.stage)
    if (tip.version, tip.id) == (arrival.newest, arrival.id) != (arrival.tip.version, arrival.tip.id):
        arrival.added = 0  # another import of the same bundle was faster
    elif (tip.version, tip.id) != (arrival.tip.version, arrival.tip.id):
        raise _overtaken(store, arrival, tip.version)
    with _Attachments(store, arrival.stage, session) as attachments:
        is_announced = False
        for part in parts:
            if isinstance(part, GapsPart):
                return _end_stage(store, arrival, part, parts, session)
            if isinstance(part, VersionPart):
                attachments.take(part, parts, is_there=part.version <= tip.version)
                if part.version > tip.version:
                    if tip.version and not is_announced:
                        _announce_gaps(store, arrival, session)
                        is_announced = True
                    tip = _append(store, arrival, part, attachments, session)
    return None


def _end_stage(store: Store, arrival: Arrival, part: GapsPart, parts: Iterator[Part], session: Session) -> Part | None:
    store.flush(arrival.stage, session)  # also of a relaxed store: the bundle may be gone tomorrow
    _record_gaps(store, arrival, part.gaps)
    following = next(parts, None)
    if isinstance(following, TagsPart):
        added, arrival.tags_kept = tag.add_locked(store, arrival.stage, following.named)
        arrival.tags_added = tuple(added)
        following = next(parts, None)
    return following


class _Attachments:
    """The attachments of one stage of a bundle, sealed again for the store."""

    def __init__(self, store: Store, stage: str, session: Session) -> None:
        self._store = store
        self._stage = stage
        self._session = session
        self._upload = attach.Upload(store, stage)
        self._records: dict[str, AttachmentRecord] = {}

    def __enter__(self) -> Self:
        self._upload.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Remove what no version refers to, for an import may have ended early, and let go of the lock."""
        with contextlib.suppress(CheckpointError):
            self._upload.remove_unused(self._session)
        self._upload.__exit__(kind, error, traceback)

    def take(self, version: VersionPart, parts: Iterator[Part], *, is_there: bool) -> None:
        """Write the attachments that follow a version in the bundle, but for those that it has in the store already."""
        there: dict[str, AttachmentRecord] = {}
        if is_there and version.entry.attachments:
            with contextlib.suppress(IntegrityError, VersionAbsentError):
                entry = self._store.entry(self._stage, version.version, self._session)
                there = {each.name: each for each in entry.attachments}
        for record in version.entry.attachments:
            if record.id not in self._records:
                part = next(parts)
                assert isinstance(part, AttachmentPart)  # noqa: S101  # for the type checker: the format says so
                self._records[record.id] = there.get(record.name) or self._write(part)

    def _write(self, part: AttachmentPart) -> AttachmentRecord:
        source = attach.Source(part.record.kind, part.pieces, part.record.detail, part.record.size)
        return self._upload.write(part.record.name, source)

    def of(self, entry: Entry) -> Entry:
        """Return a version's metadata with the attachments as they are in the store."""
        records = (self._records[each.id]._replace(name=each.name) for each in entry.attachments)
        return entry._replace(attachments=tuple(records))


def _announce_gaps(store: Store, arrival: Arrival, session: Session) -> None:
    """Record the numbers that the import skips as lost, in one go, before it appends a version above them.

    Killed at any moment, the newest version leads back to those that were there before, and nobody expects the others.
    """

    def change() -> None:
        gaps, record = store.gaps(arrival.stage, session)
        skipped = (gap for gap in arrival.lacking if gap.first > arrival.tip.version)
        lost = Gaps(gap._replace(reason="lost") for gap in _lacking(store, arrival.stage, Gaps(skipped), gaps))
        if lost:
            store.write_gaps(arrival.stage, gaps.merged(lost), record, session)

    store.change_record(arrival.stage, change)


def _append(store: Store, arrival: Arrival, part: VersionPart, attachments: _Attachments, session: Session) -> Tip:
    stage, version, entry = arrival.stage, part.version, attachments.of(part.entry)
    try:
        durable = append_entry(store, stage, version, entry, part.data, session)
    except (VersionTakenError, OutOfOrderError):  # by a writer without a working lock
        raise _overtaken(store, arrival, version) from None
    added = Tip(version, entry.id, entry.created_at)
    store.history.learn(stage, added, session, durable=durable)
    return added


def _record_gaps(store: Store, arrival: Arrival, gaps: Gaps) -> None:
    """Record the numbers that have no version on purpose. Last: above the newest version, the record would hide a save."""

    def change() -> None:
        known, expected = store.gaps(arrival.stage)
        kept = known.only(lambda gap: gap.reason != "lost" or not _covers(gaps, gap))  # those announced become the bundle's
        lacking = Gaps(_lacking(store, arrival.stage, gaps, kept))
        if lacking:
            store.write_gaps(arrival.stage, kept.merged(lacking), expected)

    store.change_record(arrival.stage, change)


def _covers(gaps: Gaps, gap: Gap) -> bool:
    """Return whether all versions of a gap lie in these gaps."""
    number = gap.first
    while number <= gap.last:
        found = gaps.find(number)
        if found is None:
            return False
        number = found.last + 1
    return True


def _overtaken(store: Store, arrival: Arrival, actual: int) -> VersionConflictError:
    return VersionConflictError(
        f"stage {printable(arrival.stage)} in {store.backend.location}: another writer saved a version during the import. What "
        "was imported before stays",
        hint="Run the import again: it continues if it can",
        stage=arrival.stage,
        expected=arrival.tip.version,
        actual=actual,
    )
