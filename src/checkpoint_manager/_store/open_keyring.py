"""The opened keyring of a store: opening it or creating it, and following its changes.

The keyring is read again whenever it may matter: before each operation on a stage, after each append (so that no save is
acknowledged under a key that a rotation has dropped), and by a reader that meets an unknown key. Reading it again is one
``stat`` while it has not changed, and never asks for the passphrase a second time.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager._format.keyring import MAX_KEYRING_BYTES, Keyring, UnlockedKeyring, create, unlock
from checkpoint_manager._store import key_sources
from checkpoint_manager._store.last_seen import LastSeen, digest
from checkpoint_manager.backends.base import RecordChangedError
from checkpoint_manager.errors import Hint, IntegrityError, KeyUnavailableError, LockTimeoutError, RollbackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager._format.key_slot import Secret
    from checkpoint_manager.backends.base import Backend, Record
    from checkpoint_manager.models import OnRollback

_LOG = logging.getLogger("checkpoint_manager")
_PUT_IT_BACK = "Put it back from a backup: without it, nothing opens"


class _Current(NamedTuple):
    """The keyring as last read: its bytes, and what they open to."""

    record: Record
    unlocked: UnlockedKeyring


class OpenKeyring:
    """The opened keyring of one store.

    Args:
        backend: Where the keyring is.
        key: What the caller gave as ``key=``, or None.
        on_rollback: What to do when the keyring is older than one seen before.

    Raises:
        KeyUnavailableError: There is no key, or there are two sources of it.
        WrongKeyError: The key opens no slot.
        IntegrityError: The keyring is damaged or forged.
        RollbackError: It is older than one this user has seen.
    """

    def __init__(self, backend: Backend, key: object, on_rollback: OnRollback) -> None:
        self._backend = backend
        self._on_rollback = on_rollback
        self._where = f"the keyring of {backend.location}"
        record = self._read()
        secret = key_sources.find_secret(key)
        if record is None:
            self._current = self._create(_secret_for_a_new_store() if secret is None else secret)
        else:
            self._current = self._unlock(record, _default_secret(backend.location) if secret is None else secret)
        self.last_seen = LastSeen(self.store_id)
        self._follow(self._current)

    @property
    def store_id(self) -> str:
        """The store's id."""
        return self._current.unlocked.keyring.store

    @property
    def unlocked(self) -> UnlockedKeyring:
        """The keyring as last read."""
        return self._current.unlocked

    @property
    def active(self) -> tuple[str, SecretBytes]:
        """The id and the key that new versions are sealed under."""
        unlocked = self._current.unlocked
        key_id = unlocked.keyring.keys[-1]
        return key_id, unlocked.keys[key_id]

    def key(self, key_id: str) -> SecretBytes | None:
        """Return the key of this id, reading the keyring again if it is not known; None if there is none."""
        known = self._current.unlocked.keys.get(key_id)
        if known is None:
            self.refresh()
            known = self._current.unlocked.keys.get(key_id)
        return known

    def refresh(self) -> None:
        """Follow what others have changed since the keyring was last read.

        Raises:
            IntegrityError: It is gone, damaged, or that of another store.
            RollbackError: It is older than the one this process already has.
            WrongKeyError: The slot that this process opened the store with was removed.
        """
        current = self._current
        if self._backend.read_record("keyring", limit=MAX_KEYRING_BYTES, known=current.record) is not current.record:
            self._follow(current)

    def change(self, make: Callable[[UnlockedKeyring], UnlockedKeyring], timeout: float) -> UnlockedKeyring:
        """Replace the keyring with what ``make`` returns for the newest one, under the store's lock, durably.

        Args:
            make: Returns the changed keyring, or the one it was given if there is nothing to change.
            timeout: How long to wait, in seconds, for the lock and for others that change the keyring without it.
        """
        deadline = time.monotonic() + timeout
        with self._backend.lock(None, timeout):
            while True:
                self.refresh()
                current = self._current
                changed = make(current.unlocked)
                if changed is current.unlocked:
                    return changed
                try:
                    record = self._backend.write_record("keyring", data=changed.keyring.encode(), expected=current.record)
                except RecordChangedError:
                    if time.monotonic() < deadline:
                        continue
                    message = f"{self._where} was changed again and again by others, for {timeout:g} s"
                    raise LockTimeoutError(message, hint="Find out what writes to the directory, then try again") from None
                self._current = _Current(record, changed)
                self.last_seen.remember_keyring(changed.keyring.serial, record.data)
                return changed

    def accept_rollback(self) -> None:
        """Take the keyring as it is for the newest from now on."""
        current = self._current
        self.last_seen.remember_keyring(current.unlocked.keyring.serial, current.record.data, even_if_older=True)

    def _follow(self, current: _Current) -> None:
        """Replace a keyring that was read before with the one that is there now.

        What was seen is recalled before the keyring is read, because another process may change both in between. A keyring
        that another thread has taken over meanwhile stays: it may be newer than the one read here.
        """
        seen = self.last_seen.recall_keyring() or (0, "")
        record = self._read(current.record)
        if record is None:
            raise IntegrityError(f"{self._where} is gone while the store is in use", hint=_PUT_IT_BACK)
        fresh = current
        if record is not current.record:
            keyring = Keyring.parse(record.data, where=self._where)
            if not hmac.compare_digest(keyring.store, self.store_id):
                message = f"{self._where} belongs to another store"
                raise IntegrityError(message, hint="Put this store's own keyring back from a backup")
            fresh = _Current(record, current.unlocked.reopen(keyring, where=self._where))
            if current.unlocked.keyring.serial > seen[0]:  # what was seen may not have been written down: no writable home
                seen = (current.unlocked.keyring.serial, digest(current.record.data))
        self._check_age(fresh, seen)
        if self._current is current:
            self._current = fresh

    def _check_age(self, fresh: _Current, seen: tuple[int, str]) -> None:
        serial = fresh.unlocked.keyring.serial
        if serial > seen[0]:
            self.last_seen.remember_keyring(serial, fresh.record.data)
        elif (serial, digest(fresh.record.data)) != seen:
            which = "another one of that number" if serial == seen[0] else f"number {seen[0]}"
            message = (
                f"{self._where} is number {serial}, and this user has already seen {which}: "
                "keys that were removed since would open the store again"
            )
            error = RollbackError(message, hint=Hint.ACCEPT_KEYRING)
            if self._on_rollback == "raise":
                raise error
            _LOG.warning("%s", error)

    def _read(self, known: Record | None = None) -> Record | None:
        return self._backend.read_record("keyring", limit=MAX_KEYRING_BYTES, known=known)

    def _unlock(self, record: Record, secret: Secret) -> _Current:
        return _Current(record, unlock(Keyring.parse(record.data, where=self._where), secret, where=self._where))

    def _create(self, secret: Secret) -> _Current:
        if not self._backend.stages():
            unlocked = create(secret, label="", now=datetime.now(UTC))
            with contextlib.suppress(RecordChangedError):  # another process was faster: its keyring is the store's
                return _Current(self._backend.write_record("keyring", data=unlocked.keyring.encode(), expected=None), unlocked)
        record = self._read()  # once more: the faster process may even have saved already
        if record is None:
            message = f"{self._where} is gone, but there are checkpoints; no new keyring was made"
            raise IntegrityError(message, hint=_PUT_IT_BACK)
        return self._unlock(record, secret)


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
