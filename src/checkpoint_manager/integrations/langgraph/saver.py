"""The checkpointer, over :mod:`checkpoint_manager.integrations._records`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)

from checkpoint_manager import CheckpointError, CheckpointManager, CheckpointNotFoundError
from checkpoint_manager._lazy_log import get_logger
from checkpoint_manager._text import printable
from checkpoint_manager.integrations._names import stage_name
from checkpoint_manager.integrations._opened import opened
from checkpoint_manager.integrations._records import Index, Key, Records
from checkpoint_manager.integrations.langgraph import pruning
from checkpoint_manager.stages.threads import in_thread

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
    from langgraph.checkpoint.serde.base import SerializerProtocol

_LOG = get_logger()
_PREFIX = "langgraph"
_MOST_HELD = 10_000
_BODY = {"thread", "checkpoint", "metadata", "parent", "writes"}


class CheckpointSaver(BaseCheckpointSaver[int]):
    """A checkpointer of LangGraph that keeps threads in a :class:`CheckpointManager`.

    It may be shared by threads and event loops, and any number of processes may use one thread at once. The asynchronous
    methods run the others in worker threads.

    Args:
        store: A manager without a retention, or the location of a store. That is opened with the key that
            ``CheckpointManager`` finds by itself, and closed with the saver.
        keep_last: How many checkpoints of each namespace of a thread to keep. Older ones are deleted permanently, a few at a
            time after a ``put``, except those that a delta channel of a newer one needs, and those with a tag. None keeps all.
        serde: LangGraph's serializer.

    Raises:
        ArgumentError: The manager has a retention.
        CheckpointError: As :class:`CheckpointManager` does. A thread that is damaged, forged or rolled back raises
            ``IntegrityError`` or ``RollbackError`` from every method that reads it.
    """

    def __init__(
        self,
        store: CheckpointManager | str | os.PathLike[str],
        *,
        keep_last: int | None = None,
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde)
        if keep_last is not None and keep_last < 1:
            raise ValueError("keep_last must be at least 1, or None")
        self._keep_last = keep_last
        self._held: dict[Key, int] = {}  # how many checkpoints were left by the last pruning of a stage and namespace
        self._manager, self._is_owner = opened(store)
        self._records = Records(self._manager, ("checkpoint_ns", "checkpoint_id"))

    def close(self) -> None:
        """Close the store, if the saver opened it."""
        if self._is_owner:
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self.close)

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,  # noqa: ARG002  # each checkpoint has the values of all its channels
    ) -> RunnableConfig:
        """Save a checkpoint durably, as the child of the one that ``config`` names."""
        thread, ns, parent = _names(config)
        whole = get_checkpoint_metadata(config, metadata)
        body = {"thread": thread, "parent": parent, "checkpoint": self._dump(checkpoint), "metadata": self._dump(whole)}
        shown = {name: str(value) for name, value in whole.items() if name in {"step", "run_id"}}
        stage = _stage(thread)
        index = self._records.append(stage, (ns, checkpoint["id"], "checkpoint"), body, shown)
        if self._keep_last is not None:
            self._retain(stage, ns, len(index.places[ns]), self._keep_last)
        return _config(config["configurable"]["thread_id"], ns, checkpoint["id"])

    def put_writes(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Save what a task wrote durably. What it wrote earlier stays, except for errors, interrupts and resumptions."""
        thread, ns, id_ = _names(config)
        if id_ is None:
            raise KeyError("checkpoint_id")
        rows = [
            [task_id, task_path, WRITES_IDX_MAP.get(channel, index), channel, *self._dump(value)]
            for index, (channel, value) in enumerate(writes)
        ]
        self._records.append(_stage(thread), (ns, id_, "writes"), {"writes": rows})

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread. If this is interrupted, call it again."""
        stage = _stage(source_thread_id)
        ids = [versions for each in self._records.look(stage)[0].places.values() for versions in each.values()]
        for version in sorted(version for versions in ids for version in versions if version):
            with contextlib.suppress(CheckpointNotFoundError):
                found = self._manager.get_checkpoint(stage, version)
                body = {name: value for name, value in found.data.items() if name in _BODY}
                body |= {"thread": str(target_thread_id)} if "thread" in body else {}
                shown = found.version.metadata
                self._records.append(_stage(target_thread_id), found.data["entry"], body, shown)

    # Deleting

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with all its versions, permanently."""
        with contextlib.suppress(CheckpointNotFoundError):
            self._manager.delete_stage(_stage(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs with their writes, permanently. The records of all threads are looked through."""
        for run in run_ids:
            made: dict[str, set[Key]] = {}
            for version in self._manager.find(stage_prefix=f"{_PREFIX}/", metadata={"run_id": str(run)}):
                made.setdefault(version.stage, set()).add(self._records.key(version))
            for stage, keys in made.items():
                self._records.drop(stage, keys.__contains__)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete all but the newest checkpoint of each namespace, and those with a tag; or with ``delete``, all.

        What delta channels of these checkpoints need is kept as well.
        """
        if strategy not in {"keep_latest", "delete"}:
            raise ValueError(f"strategy must be 'keep_latest' or 'delete', not {strategy!r}")
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
            else:
                self._keep(_stage(thread_id), 1)

    def _retain(self, stage: str, ns: str, count: int, keep_last: int) -> None:
        """Delete older checkpoints, once there are a quarter more than are kept. An error is logged; the ``put`` succeeds."""
        held = max(keep_last, self._held.get((stage, ns), 0))
        if count <= held + max(8, held // 4):
            return
        try:
            self._keep(stage, keep_last)
        except CheckpointError as error:
            _LOG.warning("Stage %s was saved, and could not be pruned: %s. A later put tries again", printable(stage), error)
        if len(self._held) > _MOST_HELD:
            self._held.clear()
        self._held[stage, ns] = len(self._records.look(stage)[0].places.get(ns, ()))

    def _keep(self, stage: str, keep_last: int) -> None:
        tags = set(self._manager.tags(stage).values())
        versions = list(self._records.versions(stage))  # before the index, which then has all of them
        tagged = {self._records.key(version) for version in versions if version.number in tags}
        index = self._records.look(stage)[0]
        kept = pruning.kept(index, keep_last, tagged, lambda *key: self._tuple(stage, index, *key))
        gone = {self._records.key(version) for version in versions} - kept
        self._records.drop(stage, gone.__contains__)

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that ``config`` names, or the newest of its thread and namespace; None if there is none."""
        thread, ns, id_ = _names(config)
        stage = _stage(thread)
        while True:
            index, newest = self._records.look(stage)
            number = index.number
            for wanted in [id_] if id_ else index.newest_first(ns):
                if found := self._tuple(stage, index, ns, wanted, newest):
                    return found
            if number == self._records.look(stage)[0].number:
                return None  # otherwise it may have been deleted while this was reading

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  # LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, the newest first: of all threads and namespaces, unless ``config`` names one."""
        names = config["configurable"] if config else {}
        stages = [_stage(names["thread_id"])] if "thread_id" in names else self._manager.stages(prefix=f"{_PREFIX}/")
        indexes = {stage: self._records.look(stage)[0] for stage in stages}
        chosen = [
            (id_, stage, ns)
            for stage, index in indexes.items()
            for ns in ([names["checkpoint_ns"]] if "checkpoint_ns" in names else list(index.places))
            for id_ in index.newest_first(ns)
        ]
        wanted, end = names.get("checkpoint_id"), get_checkpoint_id(before) if before else None
        for id_, stage, ns in sorted(chosen, reverse=True):
            if limit is not None and limit <= 0:
                return
            if (wanted and id_ != wanted) or (end and id_ >= end):
                continue
            found = self._tuple(stage, indexes[stage], ns, id_)
            if found and all(found.metadata.get(key) == value for key, value in (filter or {}).items()):
                yield found
                limit = None if limit is None else limit - 1

    def _tuple(
        self, stage: str, index: Index, ns: str, id_: str, known: Mapping[int, Any] | None = None
    ) -> CheckpointTuple | None:
        version, *writes = index.of(ns, id_)
        record = self._records.load(stage, version, known) if version else None
        if record is None:
            return None
        written: dict[tuple[str, int], tuple[str, str, tuple[str, bytes]]] = {}
        for number in writes:
            for task, path, at, channel, *value in (self._records.load(stage, number, known) or {"writes": ()})["writes"]:
                if at < 0 or (task, at) not in written:
                    written[task, at] = (path, channel, tuple(value))
        ordered = sorted(written.items(), key=lambda item: writes_sort_key(item[1][0], *item[0]))
        return CheckpointTuple(
            config=_config(record["thread"], ns, id_),
            checkpoint=self.serde.loads_typed(tuple(record["checkpoint"])),
            metadata=self.serde.loads_typed(tuple(record["metadata"])),
            parent_config=_config(record["thread"], ns, record["parent"]) if record["parent"] else None,
            pending_writes=[(task, channel, self.serde.loads_typed(value)) for (task, _), (_, channel, value) in ordered],
        )

    def _dump(self, value: object) -> tuple[str, bytes]:
        kind, data = self.serde.dumps_typed(value)
        return kind, data

    # The same, awaited

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await in_thread(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  # LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        found = await in_thread(lambda: self.list(config, filter=filter, before=before, limit=limit))
        while (each := await in_thread(next, found, None)) is not None:
            yield each

    async def aput(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> RunnableConfig:
        return await in_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await in_thread(self.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        await in_thread(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await in_thread(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await in_thread(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await in_thread(self.prune, thread_ids, strategy=strategy)


def _names(config: RunnableConfig) -> tuple[str, str, str | None]:
    """Return the thread's id, the namespace, and the checkpoint's id if there is one."""
    names = config["configurable"]
    return str(names["thread_id"]), names.get("checkpoint_ns", ""), get_checkpoint_id(config)


def _config(thread_id: str, ns: str, id_: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": id_}}


def _stage(thread_id: object) -> str:
    return stage_name(_PREFIX, str(thread_id))
