"""The store's keys in this process: opening the keyring, or making it, and following its changes.

The keyring is read again whenever it may matter: by each writer under its stage's lock (so that no save slips in under a
key that a rotation has dropped), and by a reader that meets a key it doesn't know. Reading again is one ``stat`` while nothing
has changed, and never asks for the passphrase a second time.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager._format.keyring import MAX_KEYRING_BYTES, Keyring, OpenKeyring, create, unlock
from checkpoint_manager._store import key_sources as secrets
from checkpoint_manager._store.last_seen import LastSeen, digest
from checkpoint_manager.backends.base import RecordChangedError
from checkpoint_manager.errors import IntegrityError, KeyUnavailableError, RollbackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager._format.key_slot import Secret
    from checkpoint_manager.backends.base import Backend, Record
    from checkpoint_manager.models import OnRollback

_LOG = logging.getLogger("checkpoint_manager")
_WHAT_NEXT_AFTER_ROLLBACK = (
    'If you put an older copy back on purpose, open the store with on_rollback="warn" and call accept_rollback(); if not, '
    "someone else did: restore the directory from a backup"
)


class _Held(NamedTuple):
    record: Record
    opened: OpenKeyring


class Keychain:
    """The opened keyring of one store.

    Args:
        backend: Where the keyring is.
        key: What the caller gave as ``key=``, or None.
        on_rollback: What to do when the keyring is older than one seen before.

    Raises:
        KeyUnavailableError: No key, or two sources of it.
        WrongKeyError: The key opens no slot.
        IntegrityError: The keyring is damaged or forged.
        RollbackError: It is older than one this user has seen.
    """

    def __init__(self, backend: Backend, key: object, on_rollback: OnRollback) -> None:
        self._backend = backend
        self._on_rollback = on_rollback
        self._replacing = threading.Lock()
        record = self._read()
        found = secrets.find_secret(key, environ=os.environ)
        if record is None:
            self._held = self._create(_secret_for_a_new_store() if found is None else found)
        else:
            secret = _default_secret(backend.location) if found is None else found
            self._held = _Held(record, unlock(self._parse(record), secret, where=self._where))
        self.last_seen = LastSeen(self.store)
        self._follow(self._held)

    @property
    def store(self) -> str:
        """The store's id."""
        return self._held.opened.keyring.store

    @property
    def opened(self) -> OpenKeyring:
        """The keyring as last read."""
        return self._held.opened

    @property
    def active(self) -> tuple[str, bytes]:
        """The id and the bytes of the key that new versions are sealed under."""
        opened = self._held.opened
        return opened.keyring.active, opened.active_key

    def key(self, key_id: str) -> bytes | None:
        """Return the key of this id, looking at the keyring again if it is not known; None if there is none."""
        known = self._held.opened.keys.get(key_id)
        if known is None:
            self.refresh()
            known = self._held.opened.keys.get(key_id)
        return known

    def refresh(self) -> None:
        """Follow what others have changed since the keyring was last read.

        Raises:
            IntegrityError: It is gone, damaged, or that of another store.
            RollbackError: It is older than the one this process already has.
            WrongKeyError: The slot that this process opened the store with was removed.
        """
        while (held := self._held).record is not self._read(known=held.record):
            self._follow(held)

    def _follow(self, held: _Held) -> None:
        """Take the keyring that is there now in the place of one that was read before.

        What was seen is recalled before it is read: in between, another process may change both. And no thread puts an older
        one in the place of what another thread has read since: a save would slip in under a key that is given up.
        """
        seen = self.last_seen.recall_keyring() or (0, "")
        record = self._read(known=held.record)
        if record is None:
            message = f"{self._where} is gone while the store is in use: put it back from a backup, without it nothing opens"
            raise IntegrityError(message)
        keyring = self._parse(record)
        if not hmac.compare_digest(keyring.store, self.store):
            message = f"{self._where} belongs to another store: put this store's own back from a backup"
            raise IntegrityError(message)
        fresh = held
        if record is not held.record:
            fresh = _Held(record, held.opened.reopen(keyring, where=self._where))
            if held.opened.keyring.serial > seen[0]:  # there may be no writable home to remember in
                seen = (held.opened.keyring.serial, digest(held.record.data))
        self._check_age(fresh, seen)
        with self._replacing:
            if self._held is held:
                self._held = fresh

    def change(self, make: Callable[[OpenKeyring], OpenKeyring], timeout: float) -> OpenKeyring:
        """Replace the keyring by what ``make`` makes of the newest one, under the store's lock, durably."""
        with self._backend.lock(None, timeout):
            while True:
                self.refresh()
                changed = make(self._held.opened)
                if changed is self._held.opened:
                    return changed
                try:
                    record = self._backend.write_record("keyring", data=changed.keyring.encode(), expected=self._held.record)
                except RecordChangedError:
                    continue
                with self._replacing:
                    self._held = _Held(record, changed)
                self._remember()
                return changed

    def accept_age(self) -> None:
        """Take the keyring as it is for the newest from now on."""
        keyring = self._held.opened.keyring
        self.last_seen.remember_keyring(keyring.serial, self._held.record.data, even_if_older=True)

    @property
    def _where(self) -> str:
        return f"the keyring of {self._backend.location}"

    def _read(self, known: Record | None = None) -> Record | None:
        return self._backend.read_record("keyring", limit=MAX_KEYRING_BYTES, known=known)

    def _parse(self, record: Record) -> Keyring:
        return Keyring.parse(record.data, where=self._where)

    def _create(self, secret: Secret) -> _Held:
        if not self._backend.stages():
            opened = create(secret, label="", now=datetime.now(UTC))
            with contextlib.suppress(RecordChangedError):  # another process was quicker: its store is the one
                return _Held(self._backend.write_record("keyring", data=opened.keyring.encode(), expected=None), opened)
        record = self._read()  # again: the quicker one may even have saved already
        if record is None:
            message = (
                f"{self._where} is gone, but there are checkpoints: put it back from a backup, without it nothing opens. "
                "No new one was made"
            )
            raise IntegrityError(message)
        return _Held(record, unlock(self._parse(record), secret, where=self._where))

    def _check_age(self, fresh: _Held, seen: tuple[int, str]) -> None:
        serial = fresh.opened.keyring.serial
        if serial > seen[0]:
            self.last_seen.remember_keyring(serial, fresh.record.data)
        elif (serial, digest(fresh.record.data)) != seen:
            which = "another one of that number" if serial == seen[0] else f"number {seen[0]}"
            message = (
                f"{self._where} is number {serial}, and this user has already seen {which}: keys that were removed "
                "since would open "
                f"the store again. {_WHAT_NEXT_AFTER_ROLLBACK}"
            )
            if self._on_rollback == "raise":
                raise RollbackError(message)
            _LOG.warning(message)

    def _remember(self) -> None:
        self.last_seen.remember_keyring(self._held.opened.keyring.serial, self._held.record.data)


def _secret_for_a_new_store() -> Secret:
    path = secrets.default_key_path()
    if secrets.is_there(path):
        secrets.settle(path)
        return secrets.read_key_file(path)
    secret = secrets.create_key_file(path)
    _LOG.warning(
        "A new key was made: %s. Without it, no checkpoint can be read again: keep a copy of it in a safe place, apart "
        "from the "
        "checkpoints",
        path,
    )
    return secret


def _default_secret(location: str) -> Secret:
    path = secrets.default_key_path()
    if not secrets.is_there(path):
        message = (
            f"no key for {location}: none is set, and the default key file {path} does not exist. Pass key=, set "
            "CHECKPOINT_MANAGER_KEY_FILE or CHECKPOINT_MANAGER_PASSPHRASE, or put the key file back from your copy"
        )
        raise KeyUnavailableError(message)
    return secrets.read_key_file(path)
