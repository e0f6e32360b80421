"""The newest versions that this process has verified, for as long as it is certain that nothing has changed.

What a look at a stage finds (:class:`~checkpoint_manager._store.history.History`) depends on the keyring, on what is in the
stage, and on what this user has seen of it. While none of these has changed, another look would find the same. So a program
that asks again whether a stage is done, or loads it again, need not take it. Where a backend can't be certain of that, nothing
is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from checkpoint_manager._named_tuple import NamedTuple

if TYPE_CHECKING:
    import os

    from checkpoint_manager._filesystem.file_times import Stamp
    from checkpoint_manager._format.checkpoint_file import Entry, SealedData
    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager._store.sealed_store import Opened, SealedStore
    from checkpoint_manager.backends.base import Mark, Session

_MOST_KEPT = 16_384
"""Of so many stages, about 1 kB each."""
_MOST_OPENED = 1024
"""For so many of them, also what opens the data again, about 2 kB each."""


class Verified(NamedTuple):
    """The newest version of a stage, which is completed.

    Attributes:
        version: Its number.
        id: Its id.
        seen: What changes when this user remembers another version of the stage.
        mark: What shows that the stage has not changed since.
    """

    version: int
    id: str
    seen: Stamp
    mark: Mark


class Sealed(NamedTuple):
    """What opens the data of a verified version again, once it was loaded.

    Attributes:
        version: Its number.
        entry: Its metadata.
        key: The key that it is sealed under.
        data: Where its data stands.
    """

    version: int
    entry: Entry
    key: SecretBytes
    data: SealedData


class VerifiedVersions:
    """The newest versions that this process has verified, by their stages.

    Attributes:
        sealed: What opens the data of some of them again; the versions of others may be older ones.
    """

    def __init__(self, store: SealedStore) -> None:
        self._store = store
        self._kept: OrderedDict[str, Verified] = OrderedDict()
        self.sealed: OrderedDict[str, Sealed] = OrderedDict()

    def keep(self, stage: str, version: int, opened: Opened, seen: os.stat_result | None, session: Session | None) -> None:
        """Keep a completed version that was opened last in a session, if a later change is certain to show.

        Args:
            stage: The stage.
            version: The version's number.
            opened: The version.
            seen: The status of the line in which this user remembers the stage.
            session: The session.
        """
        entry = opened.entry
        if seen is None or session is None or entry.attachments or entry.status != "completed":
            return
        mark = session.mark(version, self._store.keyring.current.record)
        if mark is not None:
            self.keep_marked(stage, version, entry.id, seen, mark.taken, mark)
            self.keep_loaded(stage, version, opened)

    def keep_marked(self, stage: str, version: int, version_id: str, seen: os.stat_result, now: int, mark: Mark) -> None:
        """Keep a completed version without attachments, with its mark; other arguments as for :meth:`keep`.

        ``now`` is the time before the status of the line was read, in nanoseconds since 1970.
        """
        stamp = self._store.last_seen.stamp(seen, now)
        if stamp is not None:
            self._kept[stage] = Verified._make((version, version_id, stamp, mark))
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)

    def keep_loaded(self, stage: str, version: int, opened: Opened) -> None:
        """Keep what opens the data of a version again, if the version is kept: who only asks what is done needs none of it."""
        if stage not in self._kept:
            return
        entry = opened.entry
        self.sealed[stage] = Sealed._make((version, entry.copied() if entry.metadata else entry, opened.key, opened.sealed))
        if len(self.sealed) > _MOST_OPENED:
            self.sealed.popitem(last=False)

    def recall(self, stage: str) -> Verified | None:
        """Return the newest version of a stage, if this user remembers no other one, nor another keyring.

        The caller asks its mark for the rest.
        """
        verified = self._kept.get(stage)
        if verified is None or not self._store.last_seen.is_unchanged(stage, verified.seen):
            return None
        return verified if self._store.keyring.is_compared() else None
