"""How a command opens the store that the options name, with its key. Loaded when a command runs: its help needs neither."""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._store import key_sources
from checkpoint_manager._store.presence import has_keyring, has_versions
from checkpoint_manager._text import printable
from checkpoint_manager.backends.registry import check_index, open_backend, redacted, scheme_of
from checkpoint_manager.cli import DEFAULT_STORE
from checkpoint_manager.cli.exit_codes import NoStoreError
from checkpoint_manager.cli.key_options import Source, ask_passphrase
from checkpoint_manager.cli.output import say
from checkpoint_manager.credentials import KeyFile, Passphrase
from checkpoint_manager.errors import KeyUnavailableError
from checkpoint_manager.manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkpoint_manager.models import OnRollback

_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Access:
    """What the shared options say.

    Attributes:
        store: The store's directory, or its URL.
        key: Where its key comes from, or None.
        lock_timeout: Seconds to wait for another writer.
        as_json: Print one JSON document.
    """

    store: str
    key: Source | None
    lock_timeout: float
    as_json: bool

    @property
    def location(self) -> str:
        """The store's location, without the password that a URL may hold."""
        return redacted(self.store)

    @property
    def shown(self) -> str:
        """The store's location as a sentence can hold it."""
        return printable(self.location)

    @property
    def _whole(self) -> str:
        return self.shown if scheme_of(self.store) else printable(os.path.abspath(self.store))

    def is_there(self) -> bool:
        """Return whether there is a store, or versions whose keyring is gone.

        Raises:
            LocationError: The location can't name a store.
            StorageError: It can't be looked at.
        """
        return has_keyring(self.store, patience=self.lock_timeout) or has_versions(self.store, patience=self.lock_timeout)

    def stages(self) -> list[str]:
        """Return what the backend calls stages, without a key: anyone who may write to the store can add to them."""
        with contextlib.closing(open_backend(self.store, patience=self.lock_timeout)) as backend:
            return backend.stages()

    def open(
        self,
        on_rollback: OnRollback = "raise",
        *,
        make: bool = False,
        key: KeyFile | Passphrase | None = None,
        index: Mapping[str, object] | None = None,
    ) -> CheckpointManager:
        """Open the store; no command but ``init`` makes one.

        Raises:
            NoStoreError: There is none.
            CheckpointError: It can't be opened.
        """
        if index is not None:
            check_index(self.store)  # before a passphrase is asked for
        exists = self.check_there(make=make)
        key = self._key(new=not exists) if key is None else key
        return CheckpointManager(self.store, key=key, lock_timeout=self.lock_timeout, on_rollback=on_rollback, index=index)

    def check_there(self, *, make: bool = False) -> bool:
        """Return whether there is a store; without ``make``, there must be one.

        Raises:
            NoStoreError: There is none, or a file is in its place.
        """
        exists = self.is_there()
        if not exists and not scheme_of(self.store) and os.path.lexists(self.store) and not os.path.isdir(self.store):
            message = f"{self._whole} is a file, and a store is a directory"
            url = f", or an SQLite database as {shlex.quote(f'sqlite:///{self.store}')}"
            raise NoStoreError(message, hint=f"Name the directory of the store with --store{url if self._is_sqlite() else ''}")
        if not make and not exists:
            named = "" if self.store == DEFAULT_STORE else f" --store {shlex.quote(self.shown)}"
            what = "where it is" if scheme_of(self.store) else "its directory"
            raise NoStoreError(
                f"there is no checkpoint store at {self._whole}",
                hint=f"Name {what} with --store, or make one there: checkpoint-manager init{named}",
            )
        return exists

    def _is_sqlite(self) -> bool:
        try:
            with open(self.store, "rb") as file:
                return file.read(len(_SQLITE)) == _SQLITE
        except OSError:
            return False

    def key_given(self) -> KeyFile | Passphrase | None:
        """Return the key that the options name; None: the environment, or the default key file."""
        return self._key(new=False)

    def _key(self, *, new: bool) -> KeyFile | Passphrase | None:
        if self.key is None:
            return None
        for name in key_sources.VARIABLES:
            if os.environ.get(name):
                raise KeyUnavailableError(
                    f"the key is given twice, by {self.key} and by the environment variable {name}",
                    hint="Leave only the one that is meant",
                )
        return self.read_key(
            self.key, f"Passphrase {'for the new' if new else 'of the'} store", new=new and self.key.kind == "prompt"
        )

    @staticmethod
    def read_key(source: Source, what: str, *, new: bool = False, created: str = "") -> KeyFile | Passphrase:
        """Read the key that a source names.

        Args:
            source: The source.
            what: What a prompt asks for, such as "Passphrase of the store".
            new: The key will protect something new: a prompt asks twice, and a key file that does not exist is made.
            created: What to say of a key file that was made.

        Raises:
            UsageError: A prompt is needed and there is no terminal.
            KeyUnavailableError: It can't be read.
        """
        path = Path(source.value).expanduser()
        match source.kind:
            case "file":
                if new and path.exists():
                    say(f"{printable(str(path))} exists already, and is read as the key file")
                elif new:
                    key_sources.create_key_file(path)
                    say(f"made the key file {printable(str(path))}: {created}")
                return KeyFile(str(path))
            case "passphrase-file":
                return key_sources.read_passphrase_file(path)
            case "cmd":
                return key_sources.read_passphrase_command(Hidden(source.value), str(source))
            case "fd":
                return key_sources.read_passphrase_descriptor(int(source.value))
            case "prompt":
                return ask_passphrase(what, twice=new)
