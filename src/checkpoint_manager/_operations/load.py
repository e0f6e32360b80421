"""Load the newest data or an earlier version, or tell whether a stage is done. A reader takes no lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.seal import SealBrokenError, unseal
from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._loading import load
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._store.first_look import first_look
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointNotFoundError, FormatError, Hint, IntegrityError

if TYPE_CHECKING:
    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.embedded import OpenContents
    from checkpoint_manager._store.store import Store
    from checkpoint_manager._store.verified import Verified
    from checkpoint_manager.backends.base import Session

_SMALL = 64 * 1024
"""Up to how many bytes a version is read at once. The look at a stage costs little beside a longer one."""
_ATTACHMENTS = "checkpoint_manager._store.attachments"
"""Few versions have any: it is loaded for them."""


class Loaded(NamedTuple):
    """One version, verified as a whole."""

    version: int
    entry: Entry
    data: bytes | bytearray
    contents: OpenContents | None = None
    """Where the arrays, frames and tensors of the data are read from; None if there are none."""

    def __repr__(self) -> str:
        """Leave the data out: an error's traceback may show the variables of a function."""
        return f"Loaded(version={self.version})"


def load_newest(store: Store, stage: str) -> Loaded:
    """Return the newest completed version of a stage, never the record of a failure or of an unfinished loop.

    Raises:
        CheckpointNotFoundError: There is no completed version, or the stage was cleared after it.
        IntegrityError: The newest version is damaged or forged, or an older one is that may hold a newer state.
        RollbackError: The stage is older than what this user has seen.
    """
    verified = store.verified.recall(stage)
    if verified is not None and (again := _again(store, stage, verified)) is not None:
        return again
    looked = first_look(store, stage) if stage not in store.history.tips else None
    if looked is not None and looked[1].entry.status == "completed":
        version, opened = looked
        store.verified.keep_loaded(stage, version, opened)
        return Loaded(version, opened.entry, opened.data, _contents_of(store, stage, version, opened.entry))
    with store.session(stage) as session:
        newest = newest_of_any_kind(store, stage, session)
        if newest is None:
            raise store.history.absent(stage, 0, 0)
        if newest.entry.status == "completed":
            return newest
        loaded = newest if newest.entry.status == "cleared" else _last_before(store, stage, newest.version, session)
    where = f"stage {printable(stage)} in {store.backend.location}"
    if loaded is None:
        message = f"{where} has no completed version: its newest one is {newest.entry.status} (version {newest.version})"
        raise CheckpointNotFoundError(message, hint=Hint.SEE_HISTORY, stage=stage, version=newest.version)
    if loaded.entry.status == "cleared":
        if store.history.is_deleted(stage):
            raise store.history.deleted(stage, loaded.version)
        message = f"{where} is cleared (version {loaded.version})"
        raise CheckpointNotFoundError(message, hint=Hint.RESTORE_EARLIER, stage=stage, version=loaded.version)
    return loaded


def _again(store: Store, stage: str, verified: Verified) -> Loaded | None:
    """Return a small version that was verified before, if nothing has changed since."""
    content = verified.mark.read(_SMALL)
    if content is None:
        return None
    sealed = store.verified.sealed.get(stage)
    if sealed is None or sealed.version != verified.version:
        return _opened_as_whole(store, stage, verified, content)
    (opening, _, _, bound_to), entry = sealed.data, sealed.entry
    if not content.startswith(opening):
        return None
    try:
        data = unseal(sealed.key, content[len(opening) :], bound_to)
    except SealBrokenError:
        return None  # a whole look finds out why
    return Loaded._make((verified.version, entry.copied() if entry.metadata else entry, data, None))


def _opened_as_whole(store: Store, stage: str, verified: Verified, content: bytes) -> Loaded | None:
    """Return a version that was verified before, but not loaded, if these bytes are that version."""
    version = verified.version
    try:
        opened = store.open_whole(stage, version, content)
    except (BrokenError, FormatError):
        return None
    if opened.entry.id != verified.id:
        return None
    store.verified.keep_loaded(stage, version, opened)
    return Loaded(version, opened.entry, opened.data)


def newest_completed(store: Store, stage: str, session: Session) -> Loaded | None:
    """Return the newest completed version of a stage, or None if there is none or the stage was cleared after it.

    Raises:
        IntegrityError, RollbackError: As for :func:`load_newest`.
    """
    loaded = newest_of_any_kind(store, stage, session)
    if loaded is not None and loaded.entry.status in {"failed", "progress"}:
        loaded = _last_before(store, stage, loaded.version, session)
    return loaded if loaded is not None and loaded.entry.status == "completed" else None


def newest_of_any_kind(store: Store, stage: str, session: Session | None = None) -> Loaded | None:
    """Return the newest version of a stage, whatever its status, or None if it has none.

    Raises:
        IntegrityError: It is damaged or forged.
        RollbackError: It is older than what this user has seen.
    """
    if session is None:
        with store.session(stage) as own:
            return newest_of_any_kind(store, stage, own)
    look, absent = store.history.look(stage, session), 0
    while look.number:
        try:
            opened = store.open(stage, look.number, session)
            store.history.confirm(stage, look, opened.entry, session)
        except VersionAbsentError:
            again = store.history.look(stage, session, exact=True)
            if again.number < look.number or look.number == absent:
                raise store.history.absent(stage, look.number, look.number) from None
            look, absent = again, look.number  # a newer version was saved, and this one deleted; or it was put back
        else:
            entry = opened.entry
            if store.history.is_in_order(stage, look, entry):
                store.verified.keep(stage, look.number, opened, look.status, session)
            contents = _contents_of(store, stage, look.number, entry) if entry.attachments else None
            return Loaded(look.number, entry, opened.data, contents)
    return None


def _last_before(store: Store, stage: str, version: int, session: Session) -> Loaded | None:
    """Return the last completed or cleared version before one; None if there is none.

    Raises:
        IntegrityError: A version between them can't be read, or was set aside: it may have been newer data, or a clearing.
    """
    gaps, _ = store.gaps(stage, session)
    number = version - 1
    while number > 0:
        gap = gaps.find(number)
        if gap is None:
            try:
                if store.entry(stage, number, session).status in {"completed", "cleared"}:
                    entry, data = store.load(stage, number, session)
                    store.chains.check(stage, number, entry, store.history.look(stage, session), session)
                    return Loaded(number, entry, data, _contents_of(store, stage, number, entry))
            except VersionAbsentError:
                gap = store.gaps(stage, session)[0].find(number)  # deleted meanwhile
                if gap is None:
                    raise store.history.absent(stage, number, version) from None
        if gap is not None and gap.reason == "set aside":
            message = (
                f"stage {printable(stage)} in {store.backend.location}: version {gap.last} was damaged and set aside, "
                "and no version was completed since"
            )
            raise IntegrityError(message, hint=Hint.SEE_HISTORY, stage=stage, version=gap.last)
        number = number - 1 if gap is None else gap.first - 1
    return None


def load_version(store: Store, stage: str, version: int, session: Session | None = None) -> Loaded:
    """Return one version of a stage, whatever its status.

    Raises:
        CheckpointNotFoundError: The version does not exist, or was deleted.
        IntegrityError: It is damaged or forged, or missing without a record.
        RollbackError: The stage is older than what this user has seen.
    """
    if session is None:
        with store.session(stage) as own:
            return load_version(store, stage, version, own)
    look = store.history.look(stage, session)
    try:
        if version < 1 or version in store.gaps(stage, session)[0]:
            raise VersionAbsentError
        entry, data = store.load(stage, version, session)
        if version == look.number:
            store.history.confirm(stage, look, entry, session)
    except VersionAbsentError:
        raise store.history.absent(stage, version, look.number) from None
    if version < look.number:
        store.chains.check(stage, version, entry, look, session)
    return Loaded(version, entry, data, _contents_of(store, stage, version, entry))


def is_completed(store: Store, stage: str) -> bool:
    """Return whether the newest version is whole, authentic and completed, and its attachments are there with their lengths.

    If it is damaged, the answer is no, with an ERROR line: the stage is computed again, and the damaged file stays as evidence.

    Raises:
        RollbackError, WrongKeyError, StorageError: The question has no answer.
        IntegrityError: The keyring is damaged or gone: what is computed again could not be saved, either.
    """
    verified = store.verified.recall(stage)
    if verified is not None and verified.mark.holds():
        return True
    try:
        looked = first_look(store, stage) if stage not in store.history.tips else None
        if looked is not None:
            version, entry = looked[0], looked[1].entry
        else:
            with store.session(stage) as session:
                loaded = newest_of_any_kind(store, stage, session)
            if loaded is None:
                return False
            version, entry = loaded.version, loaded.entry
    except IntegrityError as error:
        if error.stage is None:
            raise
        _LOG.error("%s", error)  # the message says all; a traceback would not help
        return False
    return entry.status == "completed" and (not entry.attachments or _has_its_attachments(store, stage, version, entry))


def _contents_of(store: Store, stage: str, version: int, entry: Entry) -> OpenContents | None:
    return load(_ATTACHMENTS).contents_of(store, stage, version, entry) if entry.attachments else None


def _has_its_attachments(store: Store, stage: str, version: int, entry: Entry) -> bool:
    for each in entry.attachments:
        attachments = load(_ATTACHMENTS)
        if not attachments.is_there(store, stage, each):
            if attachments.was_replaced(store, stage, version):  # since it was opened
                return is_completed(store, stage)
            where = f"version {version} of stage {printable(stage)} in {store.backend.location}"
            _LOG.error("%s has lost %s: put it back, or run the stage again", where, attachments.described(each))
            return False
    return True
