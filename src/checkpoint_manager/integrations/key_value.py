"""py-key-value: a store for FastMCP and others, encrypted and authenticated. Needs the extra ``key-value``.

It stands wherever FastMCP takes a store, such as ``ResponseCachingMiddleware(cache_storage=CheckpointStore("checkpoints"))``.

::

    from checkpoint_manager.integrations.key_value import CheckpointStore

    async with CheckpointStore("checkpoints") as store:
        await store.put("ada", {"scope": "read"}, collection="tokens", ttl=3600)
        print(await store.get("ada", collection="tokens"))

**Layout.** The entries are spread by the SHA-256 of collection and key over 256 stages, ``key-value/00`` to ``key-value/ff``.
The data of each is the entries that it holds, and each change is one read-modify-write of a stage under its lock. So names of
collections and keys may be any text and are never seen outside the encryption, the number of stages is bounded whatever comes
and goes, and listing 10,000 keys reads 256 versions. A change costs as much as the entries of one stage are long: for more than
some 100,000 entries, or for large ones, use several prefixes, or a database.

**Values** are JSON, as in py-key-value's own stores: what ``json`` can't write is a ``SerializationError``, and a tuple comes
back as a list.

**Time.** Entries expire by the clock of the reader. Those that have expired are removed by the next change of their stage, by
the clock of its writer, or by ``cull``.

**What is kept.** ``CheckpointStore("checkpoints")`` keeps the newest version of each stage, and up to 15 earlier ones, which
are then deleted together. ``delete``, ``destroy_collection`` and ``cull`` delete them at once, with their tags: what was
deleted is gone. If a call is killed in between, the next one finishes that. With a manager of your own, its retention decides:
without one, all versions are kept, and can be restored.

**Errors.** What is damaged, forged or older than what this user has seen is an ``IntegrityError`` or a ``RollbackError``, and
never a missing entry. This holds for all entries of the same stage, until ``restore_checkpoint`` takes it back or
``clear_checkpoint`` empties it. ``put_many`` and ``delete_many`` are atomic for the entries of one stage, not for all.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias

from key_value.aio.errors import SerializationError
from key_value.aio.stores.base import (
    BaseContextManagerStore,
    BaseCullStore,
    BaseDestroyCollectionStore,
    BaseDestroyStore,
    BaseEnumerateCollectionsStore,
    BaseEnumerateKeysStore,
    BasicSerializationAdapter,
)

from checkpoint_manager import CheckpointNotFoundError, FormatError, PayloadError, Retention
from checkpoint_manager.integrations._opened import opened_async

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from key_value.aio.stores.base import SEED_DATA_TYPE, ManagedEntry

    from checkpoint_manager import AsyncCheckpointManager
    from checkpoint_manager.backends.base import Backend

_FORMAT = "key_value"
_STAGES = 256
_NEWEST = Retention(keep_last=1)
_NEWEST_ALONE = Retention(keep_last=1, keep_tagged=False)

_Entries: TypeAlias = "dict[str, dict[str, Any]]"
_Collections: TypeAlias = "dict[str, _Entries]"


class _UnchangedError(Exception):
    """Nothing is to be written."""


class CheckpointStore(
    BaseContextManagerStore,
    BaseCullStore,
    BaseDestroyCollectionStore,
    BaseDestroyStore,
    BaseEnumerateCollectionsStore,
    BaseEnumerateKeysStore,
):
    """A key-value store in a checkpoint store; the module describes it.

    Args:
        store: Where it is, as for ``CheckpointManager``; the key then comes from the environment or the user's key file. Or an
            ``AsyncCheckpointManager``, which stays open when this is closed.
        prefix: What the names of the stages begin with. Stores with different prefixes are independent of each other.
        default_collection: The collection of calls that name none.
        seed: Entries to put on first use, by collection and key.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | Backend | AsyncCheckpointManager,
        *,
        prefix: str = "key-value",
        default_collection: str | None = None,
        seed: SEED_DATA_TYPE | None = None,
    ) -> None:
        self._manager, is_owner = opened_async(store, _NEWEST)
        self._stage_names = [f"{prefix}/{number:02x}" for number in range(_STAGES)]
        super().__init__(
            client_provided_by_user=not is_owner,
            serialization_adapter=BasicSerializationAdapter(value_format="string"),
            default_collection=default_collection,
            seed=seed,
            stable_api=True,
        )

    async def _setup(self) -> None:
        if not self._client_provided_by_user:
            await self._exit_stack.enter_async_context(self._manager)

    def _stage_of(self, collection: str, key: str) -> str:
        return self._stage_names[sha256(json.dumps([collection, key]).encode()).digest()[0]]

    def _by_stage(self, collection: str, keys: Iterable[str]) -> dict[str, list[str]]:
        by_stage: dict[str, list[str]] = defaultdict(list)
        for key in dict.fromkeys(keys):
            by_stage[self._stage_of(collection, key)].append(key)
        return by_stage

    # Reading

    async def _read(self, stage: str) -> _Collections:
        try:
            return _collections(await self._manager.load_checkpoint(stage))
        except CheckpointNotFoundError:
            return {}

    async def _all_stages(self) -> list[str]:
        there = set(await self._manager.stages(self._stage_names[0].removesuffix("00")))
        return [stage for stage in self._stage_names if stage in there]

    async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
        return (await self._get_managed_entries(collection=collection, keys=[key]))[0]

    async def _get_managed_entries(self, *, collection: str, keys: Sequence[str]) -> list[ManagedEntry | None]:
        found: dict[str, ManagedEntry] = {}
        for stage, some in self._by_stage(collection, keys).items():
            entries = (await self._read(stage)).get(collection, {})
            found |= {key: self._serialization_adapter.load_dict(entries[key]) for key in some if key in entries}
        return [found.get(key) for key in keys]

    async def _get_collection_keys(self, *, collection: str, limit: int | None = None) -> list[str]:
        keys: list[str] = []
        for stage in await self._all_stages():
            keys += (_live(await self._read(stage))).get(collection, {})
        return sorted(keys)[: limit or None]

    async def _get_collection_names(self, *, limit: int | None = None) -> list[str]:
        names: set[str] = set()
        for stage in await self._all_stages():
            names.update(_live(await self._read(stage)))
        return sorted(names)[: limit or None]

    # Writing

    async def _change(self, stage: str, change: Callable[[_Collections], bool], *, erase: bool = False) -> None:
        """Save what a function makes of a stage's entries, less the expired ones, unless it says that nothing changes."""

        def update(data: object) -> object:
            before = _collections(data)
            collections = _live(before)
            if not change(collections) and collections == before:
                raise _UnchangedError
            return {_FORMAT: 1, "collections": {name: entries for name, entries in collections.items() if entries}}

        try:
            await self._manager.update_checkpoint(stage, update)
        except _UnchangedError:
            pass  # earlier versions may hold what was deleted
        except PayloadError as error:
            raise SerializationError(str(error)) from error
        if erase and not self._client_provided_by_user:
            with contextlib.suppress(CheckpointNotFoundError):  # there never was an entry
                await self._manager.prune(_NEWEST_ALONE, stage)

    async def _put_managed_entry(self, *, collection: str, key: str, managed_entry: ManagedEntry) -> None:
        await self._put(collection, {key: managed_entry})

    async def _put_managed_entries(
        self, *, collection: str, keys: Sequence[str], managed_entries: Sequence[ManagedEntry], **_: object
    ) -> None:
        await self._put(collection, dict(zip(keys, managed_entries, strict=True)))

    async def _put(self, collection: str, entries: dict[str, ManagedEntry]) -> None:
        new: _Entries = {key: self._serialization_adapter.dump_dict(entry) for key, entry in entries.items()}
        for stage, keys in self._by_stage(collection, new).items():

            def change(collections: _Collections, keys: list[str] = keys) -> bool:
                collections.setdefault(collection, {}).update({key: new[key] for key in keys})
                return True

            await self._change(stage, change)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return await self._delete_managed_entries(keys=[key], collection=collection) == 1

    async def _delete_managed_entries(self, *, keys: Sequence[str], collection: str) -> int:
        deleted: set[str] = set()
        for stage, some in self._by_stage(collection, keys).items():

            def change(collections: _Collections, some: list[str] = some) -> bool:
                entries = collections.get(collection, {})
                gone = {key for key in some if entries.pop(key, None) is not None}
                deleted.difference_update(some)  # it may be called again
                deleted.update(gone)
                return bool(gone)

            await self._change(stage, change, erase=True)
        return len(deleted)

    async def _delete_collection(self, *, collection: str) -> bool:
        stages: set[str] = set()
        for stage in await self._all_stages():

            def change(collections: _Collections, stage: str = stage) -> bool:
                was_there = collections.pop(collection, None) is not None
                (stages.add if was_there else stages.discard)(stage)
                return was_there

            await self._change(stage, change, erase=True)
        return bool(stages)

    async def _delete_store(self) -> bool:
        for stage in await self._all_stages():
            with contextlib.suppress(CheckpointNotFoundError):
                await self._manager.delete_stage(stage)
        return True

    async def _cull(self) -> None:
        for stage in await self._all_stages():
            await self._change(stage, lambda _: False, erase=True)


def _collections(data: object) -> _Collections:
    """Return the entries of a stage's data.

    Raises:
        FormatError: Something else was saved under the stage's name, or by a newer version of this module.
    """
    if data is None:
        return {}
    if not isinstance(data, dict) or data.get(_FORMAT) != 1:
        raise FormatError("the stage holds something other than entries of a key-value store", hint="Choose another prefix")
    collections: _Collections = data["collections"]
    return collections


def _live(collections: _Collections) -> _Collections:
    """Return the entries that have not expired, and the collections that have any."""
    now = datetime.now(UTC)
    live = {
        collection: {
            key: entry
            for key, entry in entries.items()
            if "expires_at" not in entry or datetime.fromisoformat(entry["expires_at"]) > now
        }
        for collection, entries in collections.items()
    }
    return {collection: entries for collection, entries in live.items() if entries}
