"""Pydantic AI: a store of conversations, encrypted, authenticated and versioned. Extra ``pydantic-ai``.

::

    from checkpoint_manager.integrations.pydantic_ai import CheckpointConversationStore

    async with CheckpointConversationStore("sqlite:///conversations.db") as store:
        conversation = await store.load("7") or Conversation(conversation_id="7")
        result = await agent.run("hello", conversation=conversation)
        await store.save(result)

**Layout.** A conversation is one stage, ``pydantic-ai/<conversation id>``, and each save a version of it. The version holds the
record and the entries that are new with this save, as Pydantic writes them in JSON, and says which versions hold the other
entries that these name: parents, the head, and the ends of branches::

    {"record": json, "entries": {entry id: json, …}, "elsewhere": {entry id: 8, …}}

A fork holds copies of the entries that it shares, so that each conversation is whole by itself: deleting one deletes its
messages permanently, and nothing of another.

**Revisions.** A save names the version that it replaces, and the store refuses it if another one is there. So of two savers of
one revision, in any processes, one gets a ``ConversationConflict``.

``restore_checkpoint`` of the stage takes a conversation back. A save by a process that loaded it before is then a conflict.

**Retention.** A version refers to entries in earlier ones. So a manager with a retention is refused; don't use ``prune`` of a
manager for these stages, either. ``delete`` deletes all versions of a conversation with their tags.

**What is loaded** is JSON, authenticated, from which Pydantic makes objects of Pydantic AI's own classes. Values of other
classes, as in the results of tools, come back as JSON.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pydantic import ConfigDict, TypeAdapter
from pydantic_ai.conversation_store import ConversationConflict, ConversationEntry, ConversationRecord, ConversationStore

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, FormatError, VersionConflictError
from checkpoint_manager.integrations._erasing import erase
from checkpoint_manager.integrations._names import stage_name
from checkpoint_manager.integrations._opened import opened
from checkpoint_manager.stages.threads import in_thread

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

_PREFIX = "pydantic-ai"
_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")  # as Pydantic AI's own JSON of messages
_RECORD = TypeAdapter(list[ConversationRecord], config=_CONFIG)  # a list: Pydantic takes no config for a dataclass itself
_ENTRY = TypeAdapter(list[ConversationEntry], config=_CONFIG)
_MOST_PLACES = 100_000
"""For how many entries their versions are kept in memory. Others are searched for."""


class _Newest(NamedTuple):
    """The newest version of a conversation."""

    version: int
    record: ConversationRecord | None


class CheckpointConversationStore(ConversationStore):
    """A ``ConversationStore`` of Pydantic AI in a :class:`CheckpointManager`.

    Args:
        store: A manager without a retention, or the location of a store. That is opened with the key that
            ``CheckpointManager`` finds by itself, and closed with this store.

    Raises:
        ArgumentError: The manager has a retention.
        CheckpointError: As :class:`CheckpointManager` does. A conversation that is damaged, forged or rolled back raises
            ``IntegrityError`` or ``RollbackError`` from every method that reads it.
    """

    def __init__(self, store: CheckpointManager | str | os.PathLike[str]) -> None:
        self._manager, self._is_owner = opened(store)
        self._places: dict[str, dict[str, int]] = {}  # by the id of an entry: stages, and the version of each that holds it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self.close)

    def close(self) -> None:
        """Close the store, if this object opened it."""
        if self._is_owner:
            self._manager.close()

    async def delete(self, conversation_id: str, *, scope: str | None = None) -> None:
        """Delete a conversation permanently, and finish an earlier call that was killed."""
        await super().delete(conversation_id, scope=scope)
        await in_thread(self._sweep, _stage(conversation_id))

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        return (await in_thread(self._newest, _stage(conversation_id))).record

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        return await in_thread(self._records, scope, limit)

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        await in_thread(self._write, record, list(new_entries), expected_revision)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation permanently, with all its entries. Forks of it keep their copies."""
        await in_thread(self._delete, conversation_id, expected_revision)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        return (await in_thread(self._history, entry_id, 1))[0]

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        return [] if head_id is None else await in_thread(self._history, head_id, limit)

    # The same, in a thread

    def _newest(self, stage: str) -> _Newest:
        try:
            found = self._manager.get_checkpoint(stage)
        except CheckpointNotFoundError:
            return _Newest(self._number(stage), None)
        if not isinstance(found.data, dict) or "record" not in found.data:
            message = f"stage {stage!a} holds something other than a conversation"
            raise FormatError(message, hint="Choose another id", stage=stage)
        (record,) = _RECORD.validate_json(found.data["record"])
        self._learn(stage, found.version.restored_from or found.version.number, found.data)
        return _Newest(found.version.number, record)

    def _number(self, stage: str) -> int:
        """Return the number of the newest version of a conversation that was deleted; 0 if it never was."""
        try:
            return self._manager.get_version(stage).number
        except CheckpointNotFoundError:
            return 0

    def _records(self, scope: str | None, limit: int | None) -> list[ConversationRecord]:
        newest = (self._newest(stage).record for stage in self._manager.stages(prefix=f"{_PREFIX}/"))
        found = [record for record in newest if record is not None and scope in {None, record.scope}]
        return sorted(found, key=lambda record: record.updated_at, reverse=True)[:limit]

    def _write(self, record: ConversationRecord, new: list[ConversationEntry], expected_revision: str | None) -> None:
        stage = _stage(record.conversation_id)
        while True:
            newest = self._checked(stage, record.conversation_id, expected_revision)
            entries, elsewhere = self._placed(stage, record, new)
            data = {"record": _RECORD.dump_json([record]).decode(), "entries": entries, "elsewhere": elsewhere}
            shown = {"conversation_id": record.conversation_id}
            try:
                saved = self._manager.save_checkpoint(stage, data, metadata=shown, expected_version=newest.version)
            except VersionConflictError:
                continue  # another revision, or a restored one
            self._learn(stage, saved.number, data)
            return

    def _placed(
        self, stage: str, record: ConversationRecord, new: list[ConversationEntry]
    ) -> tuple[dict[str, str], dict[str, int]]:
        """Return the entries to save with a record, and the versions of this stage that hold the others that it names."""
        entries = {entry.id: _dumped(entry) for entry in new}
        elsewhere: dict[str, int] = {}
        named = [record.head_id, *record.branches, *(entry.parent_id for entry in new)]
        for id_ in [id_ for id_ in named if id_ is not None and id_ not in entries]:
            version = self._places.get(id_, {}).get(stage)
            if version and id_ in self._load(stage, version):
                elsewhere[id_] = version
                continue
            try:  # of another conversation: this one is a fork
                entries |= {entry.id: _dumped(entry) for entry in self._history(id_, None)}
            except LookupError:
                if id_ == record.head_id:
                    raise ConversationConflict(record.conversation_id) from None
        return entries, elsewhere

    def _delete(self, conversation_id: str, expected_revision: str) -> None:
        stage = _stage(conversation_id)
        while True:
            newest = self._checked(stage, conversation_id, expected_revision)
            try:
                self._manager.clear_checkpoint(stage, expected_version=newest.version)
            except VersionConflictError:
                continue
            self._sweep(stage)
            return

    def _sweep(self, stage: str) -> None:
        """Delete the versions of a conversation that was deleted. One that was restored or saved since needs them."""
        history = [version for version in self._manager.history(stage) if version.status != "missing"]
        if len(history) > 1 and history[0].status == "cleared":
            with contextlib.suppress(CheckpointNotFoundError):  # another process deletes the same
                erase(self._manager, stage, {version.number for version in history[1:]})

    def _checked(self, stage: str, conversation_id: str, expected_revision: str | None) -> _Newest:
        newest = self._newest(stage)
        if (newest.record.revision if newest.record is not None else None) != expected_revision:
            raise ConversationConflict(conversation_id)
        return newest

    # Entries

    def _history(self, head_id: str, limit: int | None) -> list[ConversationEntry]:
        """Return the entries up to one, in order, or the last of them.

        Raises:
            LookupError: One of them is in no conversation, or was deleted just now.
        """
        loaded: dict[str, str] = {}
        found: list[ConversationEntry] = []
        id_: str | None = head_id
        while id_ is not None and (limit is None or len(found) < limit):
            if id_ not in loaded:
                loaded |= self._entries_with(id_)
            (entry,) = _ENTRY.validate_json(loaded[id_])
            found.append(entry)
            id_ = entry.parent_id
        return found[::-1]

    def _entries_with(self, entry_id: str) -> dict[str, str]:
        """Return the entries of a version that holds one."""
        for stage, version in list(self._places.get(entry_id, {}).items()):
            entries = self._load(stage, version)
            if entry_id in entries:
                return entries
        for stage in self._manager.stages(prefix=f"{_PREFIX}/"):  # not seen by this process yet
            for each in self._manager.iter_history(stage):
                entries = self._load(stage, each.number) if each.status == "completed" else {}
                if entry_id in entries:
                    return entries
        raise LookupError(entry_id)

    def _load(self, stage: str, version: int) -> dict[str, str]:
        try:
            data = self._manager.load_checkpoint(stage, version)
        except CheckpointNotFoundError:
            return {}
        self._learn(stage, version, data)
        entries: dict[str, str] = data["entries"]
        return entries

    def _learn(self, stage: str, version: int, data: dict[str, Any]) -> None:
        if len(self._places) > _MOST_PLACES:
            self._places.clear()
        for id_, at in [*data["elsewhere"].items(), *((id_, version) for id_ in data["entries"])]:
            self._places.setdefault(id_, {})[stage] = at


def _stage(conversation_id: str) -> str:
    return stage_name(_PREFIX, conversation_id)


def _dumped(entry: ConversationEntry) -> str:
    return str(_ENTRY.dump_json([entry]), "utf-8")
