"""An opened store: its sealed versions and records, and their history."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from checkpoint_manager._format.codecs import NO_CODECS
from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._lazy_log import MOST_LOGGED
from checkpoint_manager._store.chains import Chains
from checkpoint_manager._store.history import History
from checkpoint_manager._store.open_keyring import OpenKeyring
from checkpoint_manager._store.sealed_store import SealedStore
from checkpoint_manager._store.verified import VerifiedVersions
from checkpoint_manager._text import printable
from checkpoint_manager.backends.maintenance import maintenance_of
from checkpoint_manager.errors import CheckpointError, Hint, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.key_slot import Secret
    from checkpoint_manager.backends.base import Backend, Session
    from checkpoint_manager.models import OnRollback


def open_store(backend: Backend, secret: Secret | None, lock_timeout: float, on_rollback: OnRollback) -> Store:
    """Open the store that a backend keeps, or begin one; log what is dangerous about its place in WARNING lines.

    Arguments and errors are those of :class:`checkpoint_manager.CheckpointManager`; the secret is that of its key, or None.
    """
    for warning in maintenance_of(backend).warnings():
        _LOG.warning("%s", warning)
    return Store(backend, OpenKeyring(backend, secret, on_rollback, lock_timeout), lock_timeout, on_rollback)


class Store(SealedStore):
    """One opened store.

    Args:
        backend: Where it is kept.
        keyring: Its keys.
        lock_timeout: How long a writer waits for another one, in seconds.
        on_rollback: What to do when the store is older than what was seen.

    Attributes:
        history: Which version of each stage is the newest.
        verified: The newest versions that were verified before.
        chains: Which older versions belong to that history.
        codecs: How values of types that the library does not know are saved and loaded.
        after_append: Called with the stage, the number and the entry of each version that was saved, and the session, while the
            stage's lock is held. It must not raise.
        swept: The stages in which this process has looked for attachments that killed writers left.
    """

    def __init__(self, backend: Backend, keyring: OpenKeyring, lock_timeout: float, on_rollback: OnRollback) -> None:
        super().__init__(backend, keyring, lock_timeout, on_rollback)
        self.history = History(self)
        self.verified = VerifiedVersions(self)
        self.chains = Chains(self, self.history)
        self.codecs = NO_CODECS
        self.swept = set[str]()
        self.after_append: Callable[[str, int, Entry, Session | None], None] | None = None

    def close(self) -> None:
        """Leave notes of long histories for later processes, and close the backend."""
        self.history.leave_notes()
        self.backend.close()

    def flush(self, stage: str, session: Session | None = None) -> None:
        """Make durable whatever can be read of a stage, and remember what this process knows of it."""
        self.backend.flush(stage, session=session)
        self.history.remember(stage)

    def forget(self, stage: str) -> None:
        """Forget what is known of a stage's history, after its user has accepted another one."""
        self.history.forget(stage)
        self.chains.forget(stage)

    def stages(self, prefix: str = "") -> list[str]:
        """Return the names of the stages that begin with a prefix, sorted, without looking into the others.

        They are those that hold a version that opens, and those that this user has seen.

        A stage that was deleted as a whole is left out. Anyone who may write to the directory can make a folder: one in which
        nothing opens is told with an ERROR line.
        """
        seen, others = self.candidates(prefix)
        found = *seen, *self.authentic(others, self.history.is_authentic)
        return sorted(stage for stage in found if not self._is_deleted(stage))

    def candidates(self, prefix: str) -> tuple[list[str], list[str]]:
        """Return the stages that this user has seen, and the others that the backend names: anyone may have made those."""
        seen = [stage for stage in self.last_seen.stages() if stage.startswith(prefix)]
        known = {*seen}
        return seen, [stage for stage in self.backend.stages() if stage.startswith(prefix) and stage not in known]

    def authentic(self, others: Iterable[str], opens: Callable[[str], bool]) -> list[str]:
        """Return the stages in which a version opens, as ``opens`` tells; log the others in ERROR lines."""
        found, planted = list[str](), 0
        for stage in others:
            if opens(stage):
                found.append(stage)
                continue
            with contextlib.suppress(IntegrityError):  # something else stands in the place of its folder
                if not self.backend.versions(stage):  # a file named like a head, of whatever program
                    continue
            planted += 1
            if planted <= MOST_LOGGED:
                _LOG.error(
                    "Not counted as a stage: %s in %s holds no version that opens. %s",
                    printable(stage),
                    self.backend.location,
                    Hint.VERIFY_AND_REPAIR,
                )
        if planted > MOST_LOGGED:
            _LOG.error("Not counted as stages: %d more in %s", planted - MOST_LOGGED, self.backend.location)
        return found

    def all_stages(self) -> list[str]:
        """Return the names of all stages that are there or were seen, sorted, those in which nothing opens among them.

        Left out is what stands in the place of a folder, unless the stage is known: there is nothing to lock or to look into.
        """
        seen = {*self.last_seen.stages()}
        return sorted(seen.union(stage for stage in self.backend.stages() if stage in seen or not self._is_displaced(stage)))

    def _is_displaced(self, stage: str) -> bool:
        try:
            with self.backend.session(stage):
                return False
        except IntegrityError:
            return not self.history.is_authentic(stage)

    def _is_deleted(self, stage: str) -> bool:
        try:
            return self.history.is_deleted(stage)
        except CheckpointError:  # a stage in trouble is listed, and whoever looks at it is told
            return False
