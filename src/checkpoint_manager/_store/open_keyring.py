"""The opened keyring of a store: open or create it, and follow its changes.

The keyring is revalidated before each operation on a stage, after each append (so that no save is acknowledged under a key that
a rotation has dropped), and by a reader that meets an unknown key. While it is unchanged, this takes one ``stat``. It never
asks for the passphrase a second time.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import MAX_HEADER_BYTES, BrokenError, parse_header
from checkpoint_manager._format.digest import sha256
from checkpoint_manager._format.keyring import MAX_KEYRING_BYTES, Keyring, UnlockedKeyring, create, unlock
from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._store import key_sources
from checkpoint_manager._store.last_seen import KEYRING, LastSeen, Line, SeenLocations, seen_keyring
from checkpoint_manager.backends.base import RecordChangedError
from checkpoint_manager.backends.maintenance import maintenance_of
from checkpoint_manager.backends.registry import open_backend, scheme_of
from checkpoint_manager.errors import (
    CheckpointError,
    FormatError,
    Hint,
    IntegrityError,
    KeyUnavailableError,
    LockTimeoutError,
    RollbackError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager._format.key_slot import Secret
    from checkpoint_manager._format.keyring import SeenKeyring
    from checkpoint_manager.backends.base import Backend, Record
    from checkpoint_manager.models import OnRollback

_PUT_IT_BACK = "Restore it from a backup: without it, nothing opens"


class Current(NamedTuple):
    """The keyring as last read.

    Attributes:
        record: Its bytes.
        unlocked: What they open to.
        active: The id and the key that new versions are sealed under.
    """

    record: Record
    unlocked: UnlockedKeyring
    active: tuple[str, SecretBytes]


class OpenKeyring:
    """The opened keyring of one store.

    Args:
        backend: Where the keyring is.
        secret: What the caller's key opens slots with; None: the user's own key file.
        on_rollback: What to do when the keyring is older than one seen before.
        lock_timeout: How long to wait for another process that is creating a store here, in seconds.

    Raises:
        LockTimeoutError: Another process is creating a store here, and did not finish in time.
        KeyUnavailableError: The user's own key file is needed, and can't be read or made.
        WrongKeyError: The key opens no slot.
        IntegrityError: The keyring is damaged or forged.
        RollbackError: It is older than one this user has seen, does not succeed it, or belongs to another store than the one
            that this user has seen at this location.
    """

    def __init__(self, backend: Backend, secret: Secret | None, on_rollback: OnRollback, lock_timeout: float) -> None:
        self._backend = backend
        self._on_rollback = on_rollback
        self._where = f"the keyring of {backend.location}"
        self._locations = SeenLocations() if backend.capabilities.persistent else None
        self._seen: SeenKeyring | None = None  # the newest keyring that this process has followed
        self._compared = Line(b"", None)  # what this user had seen when the present keyring was compared with that
        store_here = self._store_seen_here()
        record = self._read()
        if record is None:
            secret = _secret_for_a_new_store() if secret is None else secret
            # Of several processes that find the place emptied, one creates a new store, and the others open it.
            with contextlib.nullcontext() if store_here is None else backend.lock(None, lock_timeout):
                self.current = self._create(secret, None if store_here is None else self._store_seen_here())
        else:
            self._check_store(record, store_here)
            self.current = self._unlock(record, _default_secret(backend.location) if secret is None else secret)
        self.last_seen = LastSeen(self.store_id)
        self._follow(self.current)
        if self._store_seen_here() is None:
            self._remember_here(self.store_id)

    def other_location(self, stage: str, seen: int) -> str | None:
        """Return another directory where this user has seen this store, and which holds what was seen; None: none does."""
        others = [] if self._locations is None else self._locations.others(self.store_id, self._backend.location)
        return next((other for other in others if self._is_newer_at(other, stage, seen)), None)

    def _is_newer_at(self, location: str, stage: str, seen: int) -> bool:
        if scheme_of(location) or not os.path.lexists(os.path.join(location, "keyring.json")):
            return False
        with contextlib.suppress(CheckpointError), contextlib.closing(open_backend(location)) as other:
            record = other.read_record("keyring", limit=MAX_KEYRING_BYTES)
            if record is None or other.location == self._backend.location:  # by a link that was put in its place since
                return False
            is_same = Keyring.parse(record.data, where=f"the keyring of {other.location}").store == self.store_id
            return is_same and other.newest(stage, exact=True).number >= seen
        return False

    @property
    def store_id(self) -> str:
        """The store's id."""
        return self.current.unlocked.keyring.store

    @property
    def unlocked(self) -> UnlockedKeyring:
        """The keyring as last read."""
        return self.current.unlocked

    @property
    def active(self) -> tuple[str, SecretBytes]:
        """The id and the key that new versions are sealed under."""
        return self.current.active

    def key(self, key_id: str) -> SecretBytes | None:
        """Return the key of this id, reading the keyring again if it is not known; None if there is none."""
        known = self.current.unlocked.keys.get(key_id)
        if known is None:
            self.refresh()
            known = self.current.unlocked.keys.get(key_id)
        return known

    def is_compared(self) -> bool:
        """Return whether this user has seen no other keyring since the present one was compared with what was seen.

        Another process of this user may have seen a newer one. Should the older one come back, its place may show nothing:
        who administers it sets the stamp of a row, equal objects have equal tags, and a directory may be moved back as a whole.
        """
        return self.last_seen.is_same(KEYRING, self._compared)

    def refresh(self) -> Current:
        """Read the keyring again if it has changed, and return it as it is now, whatever other threads have read before.

        Raises:
            IntegrityError: It is gone or damaged.
            RollbackError: It is older than one that was seen, does not succeed it, or belongs to another store.
            WrongKeyError: The slot that this process opened the store with was removed.
        """
        current = self.current
        record = self._backend.read_record("keyring", limit=MAX_KEYRING_BYTES, known=current.record)
        return current if record is current.record and self.is_compared() else self._follow(current)

    def change(self, make: Callable[[UnlockedKeyring], UnlockedKeyring], timeout: float) -> UnlockedKeyring:
        """Replace the keyring with what ``make`` returns for the newest one, under the store's lock, durably.

        Args:
            make: Returns the changed keyring, or the one it was given if there is nothing to change.
            timeout: How long to wait, in seconds, for the lock and for others that change the keyring without it.
        """
        deadline = time.monotonic() + timeout
        with self._backend.lock(None, timeout) as lock, self._backend.session(None, lock):
            while True:
                self.refresh()
                current = self.current
                changed = make(current.unlocked)
                if changed is current.unlocked:
                    return changed
                try:
                    record = self._backend.write_record("keyring", data=changed.keyring.encode(), expected=current.record)
                except RecordChangedError:
                    if time.monotonic() < deadline:
                        continue
                    message = f"{self._where} was changed repeatedly by other processes for {timeout:g} s"
                    raise LockTimeoutError(message, hint="Find out what writes to the directory, then try again") from None
                self.current = _opened(record, changed)
                if self._seen is not None and self._seen.digest == _digest(current.record):  # not one that was only warned of
                    self._remember(changed.as_seen(_digest(record)))
                return changed

    def accept_rollback(self) -> None:
        """Accept the present store and keyring as the right ones."""
        current = self.current
        self._remember(current.unlocked.as_seen(_digest(current.record)), even_if_older=True)
        self._remember_here(self.store_id)

    def _follow(self, current: Current) -> Current:
        """Replace a keyring that was read before with the one that is there now, and return that.

        What was seen is recalled before the keyring is read, because another process may change both in between. A keyring
        that another thread has taken over meanwhile stays: it may be newer than the one read here.
        """
        before = self.last_seen.line(KEYRING)
        seen = self._newest_of(seen_keyring(before.line))
        record = self._read(current.record)
        if record is None:
            raise IntegrityError(f"{self._where} is gone while the store is in use", hint=_PUT_IT_BACK)
        fresh = current
        if record is not current.record:
            keyring = Keyring.parse(record.data, where=self._where)
            if keyring.store != self.store_id:
                raise RollbackError(f"{self._where} belongs to another store, {keyring.store}", hint=Hint.ACCEPT_KEYRING)
            fresh = _opened(record, current.unlocked.reopen(keyring, where=self._where))
        digest = _digest(record)
        if problem := fresh.unlocked.why_it_does_not_succeed(seen, digest):
            self._roll_back(f"{self._where} {problem}")
        elif seen is None or seen.digest != digest or not seen.key_id:
            self._remember(fresh.unlocked.as_seen(digest), even_if_older=seen is not None and not seen.key_id)
        else:
            self._seen = seen
        if self.current is current:
            self.current, self._compared = fresh, before
        return fresh

    def _newest_of(self, seen: SeenKeyring | None) -> SeenKeyring | None:
        """Return the newest keyring seen by this user or, if that can't be remembered, by this process."""
        if self._seen is not None and (seen is None or seen.serial < self._seen.serial):
            return self._seen
        return seen

    def _remember(self, seen: SeenKeyring, *, even_if_older: bool = False) -> None:
        self._seen = seen
        self.last_seen.remember_keyring(seen, even_if_older=even_if_older)

    def _store_seen_here(self) -> str | None:
        return None if self._locations is None else self._locations.recall(self._backend.location)

    def _store_seen_by_its_link(self) -> str | None:
        """Return the store that was seen at the place that the caller named before it was a link; None: there is none."""
        named = self._backend.asked_for
        return self._locations.recall(named) if named and self._locations is not None else None

    def _check_store(self, record: Record, store_here: str | None) -> None:
        """Raise if the keyring is that of another store than the one this user has seen at this location."""
        found = Keyring.parse(record.data, where=self._where).store
        if store_here not in {None, found}:
            store_here = self._store_seen_here()  # once more: another process may just have begun a new store here
        if store_here not in {None, found}:
            self._roll_back(f"{self._where} belongs to another store, {found}, and this user has seen {store_here} here")
        before = self._store_seen_by_its_link()
        if before not in {None, found}:
            named, here = self._backend.asked_for, self._backend.location
            self._roll_back(f"{named} leads to {here}, and this user has seen another store there, {before}")

    def _roll_back(self, message: str) -> None:
        error = RollbackError(message, hint=Hint.ACCEPT_KEYRING)
        if self._on_rollback == "raise":
            raise error
        _LOG.warning("%s", error)

    def _read(self, known: Record | None = None) -> Record | None:
        return self._backend.read_record("keyring", limit=MAX_KEYRING_BYTES, known=known)

    def _unlock(self, record: Record, secret: Secret) -> Current:
        return _opened(record, unlock(Keyring.parse(record.data, where=self._where), secret, where=self._where))

    def _create(self, secret: Secret, before: str | None) -> Current:
        """Begin a new store, or open the one that another process has just begun.

        Args:
            secret: What opens it.
            before: The store that was seen here before; None: there was none, even if another process has remembered one since.
        """
        record = self._read()  # once more, under the lock
        if record is None and not self._has_checkpoints() and (begun := self._begin(secret, before)) is not None:
            return begun
        record = record or self._read()  # another process was faster: its keyring is the store's
        if record is None:
            message = f"{self._where} is gone, but there are checkpoints; no new keyring was made"
            raise IntegrityError(message, hint=_PUT_IT_BACK)
        self._check_store(record, self._store_seen_here())
        return self._unlock(record, secret)

    def _has_checkpoints(self) -> bool:
        """Return whether there is a version, or what may be the only copy of one: other programs have files of such names."""
        for stage in self._backend.stages():
            with contextlib.suppress(IntegrityError):  # something else stands in the place of its folder
                if self._backend.versions(stage):
                    return True
            copy = maintenance_of(self._backend).only_copy(stage)
            if copy is not None:
                with copy as file, contextlib.suppress(BrokenError, FormatError):
                    parse_header(file.read(MAX_HEADER_BYTES))
                    return True
        return False

    def _begin(self, secret: Secret, before: str | None) -> Current | None:
        """Begin a new store; return None if another keyring appeared meanwhile.

        Where a store was seen before, the caller holds the lock, and what appears is not of a process that found the place
        emptied, too: so it is compared with what was seen. The new store is remembered before it is there: whoever meets it
        without the lock must not miss the old one in its place.
        """
        unlocked = create(secret, label="", now=datetime.now(UTC))
        gone = before or self._store_seen_by_its_link()
        if gone is not None:
            _LOG.warning(
                "The store %s that this user has seen in %s is gone, with all of its checkpoints: a new one begins. "
                "If you did not empty the place yourself, someone else did: restore it from a backup",
                gone,
                self._backend.asked_for or self._backend.location,
            )
        if before is not None:
            self._remember_here(unlocked.keyring.store)
        try:
            record = self._backend.write_record("keyring", data=unlocked.keyring.encode(), expected=None)
        except BaseException as error:
            if before is not None:
                self._remember_here(before)
            if isinstance(error, RecordChangedError):
                return None
            raise
        if before is None:
            self._remember_here(unlocked.keyring.store)
        return _opened(record, unlocked)

    def _remember_here(self, store_id: str) -> None:
        if self._locations is not None:
            self._locations.remember(self._backend.location, store_id)
            if self._backend.asked_for and self._locations.recall(self._backend.asked_for) is not None:
                self._locations.remember(self._backend.asked_for, store_id)


def _opened(record: Record, unlocked: UnlockedKeyring) -> Current:
    key_id = unlocked.keyring.active
    return Current(record, unlocked, (key_id, unlocked.keys[key_id]))


def _digest(record: Record) -> str:
    return sha256(record.data)


def _secret_for_a_new_store() -> Secret:
    path = key_sources.default_key_path()
    if key_sources.is_there(path):
        key_sources.make_durable(path)
        return key_sources.read_key_file(path)
    secret = key_sources.create_key_file(path)
    _LOG.warning(
        "A new key was made: %s. Without it, no checkpoint can be read again: "
        "keep a copy of it in a safe place, apart from the checkpoints",
        path,
    )
    return secret


def _default_secret(location: str) -> Secret:
    path = key_sources.default_key_path()
    if not key_sources.is_there(path):
        message = f"no key for {location}: none is set, and the default key file {path} does not exist"
        raise KeyUnavailableError(message, hint=Hint.GIVE_A_KEY)
    return key_sources.read_key_file(path)
