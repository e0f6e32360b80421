"""Microsoft Agent Framework: the checkpoints of workflows, encrypted, authenticated and versioned. Extra ``agent-framework``.

::

    from checkpoint_manager.integrations.agent_framework import CheckpointStorage

    async with CheckpointStorage("sqlite:///workflows.db") as storage:
        workflow = WorkflowBuilder(start_executor=first, checkpoint_storage=storage, name="triage").build()
        await workflow.run("hello")
        newest = await storage.get_latest(workflow_name="triage")

**Layout.** A workflow is one stage, ``agent-framework/<name>``, and each checkpoint a version of it
(:mod:`checkpoint_manager.integrations._records`), grouped by timestamps. What a version holds is the JSON that the framework's
``FileCheckpointStorage`` would write to a file. A checkpoint is loaded by its id alone, so the indexes of all workflows are
searched for it.

``delete`` deletes a checkpoint permanently, with its tags and what it replaced. ``restore_checkpoint`` of the stage takes the
whole workflow back, and ``delete_stage`` deletes it.

**Retention.** The framework keeps all checkpoints of a workflow until they are deleted. So a manager with a retention is
refused: it would delete checkpoints that are listed.

**What is loaded.** The framework writes what is not JSON as pickles. The store authenticates them before one is opened, and the
framework then makes only objects of its own classes, of common types, and of those named in ``allowed_checkpoint_types`` or
given to ``register_checkpoint_type``. A checkpoint that could not be loaded again is not saved.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from agent_framework import WorkflowCheckpoint, WorkflowCheckpointException
from agent_framework._workflows._checkpoint_encoding import decode_checkpoint_value, encode_checkpoint_value

from checkpoint_manager.integrations._names import stage_name
from checkpoint_manager.integrations._opened import opened
from checkpoint_manager.integrations._records import Records
from checkpoint_manager.stages.threads import in_thread

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from checkpoint_manager import CheckpointManager

_PREFIX = "agent-framework"


class CheckpointStorage:
    """A ``CheckpointStorage`` of the Agent Framework, in a :class:`CheckpointManager`.

    Args:
        store: A manager without a retention, or the location of a store. That is opened with the key that
            ``CheckpointManager`` finds by itself, and closed with the storage.
        allowed_checkpoint_types: Further types that checkpoints may hold, each as ``"module:qualname"``.

    Raises:
        ArgumentError: The manager has a retention.
        CheckpointError: As :class:`CheckpointManager` does. A workflow whose checkpoints are damaged, forged or rolled back
            raises ``IntegrityError`` or ``RollbackError`` from every method that reads them.
    """

    def __init__(
        self, store: CheckpointManager | str | os.PathLike[str], *, allowed_checkpoint_types: Iterable[str] = ()
    ) -> None:
        self._manager, self._is_owner = opened(store)
        self._records = Records(self._manager, ("timestamp", "checkpoint_id"))
        self._allowed = frozenset(allowed_checkpoint_types)
        self._used: dict[str, None] = {}  # stages of workflows, which are searched first

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self.close)

    def close(self) -> None:
        """Close the store, if the storage opened it."""
        if self._is_owner:
            self._manager.close()

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """Save a checkpoint durably. It replaces one of the same workflow with the same id.

        Raises:
            WorkflowCheckpointException: It could not be loaded again. Nothing was saved.
        """
        try:
            text = json.dumps(encode_checkpoint_value(checkpoint.to_dict()))
        except Exception as error:  # what pickle raises depends on the object
            raise WorkflowCheckpointException(f"checkpoint {checkpoint.checkpoint_id} can't be encoded: {error}") from error
        self._decoded(text)
        id_: str = checkpoint.checkpoint_id
        await in_thread(self._save, stage_name(_PREFIX, checkpoint.workflow_name), checkpoint.timestamp, id_, text)
        return id_

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """Return the checkpoint with an id.

        Raises:
            WorkflowCheckpointException: There is none, or it holds a type that is not allowed.
        """
        found = await in_thread(self._find, checkpoint_id)
        if found is None:
            raise WorkflowCheckpointException(f"No checkpoint found with ID {checkpoint_id}")
        return self._decoded(found["checkpoint"])

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """Return the checkpoints of a workflow, in the order in which they were saved."""
        found = await in_thread(self._list, stage_name(_PREFIX, workflow_name))
        return [self._decoded(record["checkpoint"]) for record in found]

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """Return the ids of a workflow's checkpoints, in the order in which they were saved."""
        return await in_thread(self._ids, stage_name(_PREFIX, workflow_name))

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """Return the checkpoint of a workflow with the latest timestamp; None if it has none."""
        found = await in_thread(self._latest, stage_name(_PREFIX, workflow_name))
        return None if found is None else self._decoded(found["checkpoint"])

    async def delete(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint permanently, and return whether there was one."""
        return await in_thread(self._delete, checkpoint_id)

    # The same, in a thread

    def _save(self, stage: str, timestamp: str, id_: str, text: str) -> None:
        self._used[stage] = None
        self._records.append(stage, (timestamp, id_, "checkpoint"), {"checkpoint": text})

    def _all(self, stage: str) -> list[tuple[int, str, str]]:
        """Return the versions, timestamps and ids of a workflow's checkpoints, without those that were replaced."""
        places = list(self._records.look(stage)[0].places.items())
        found = sorted((versions[0], timestamp, id_) for timestamp, ids in places for id_, versions in list(ids.items()))
        if found:
            self._used[stage] = None
        newest = {id_: version for version, _, id_ in found}
        return [each for each in found if newest[each[2]] == each[0]]

    def _list(self, stage: str) -> list[Any]:
        found = (self._records.load(stage, version) for version, _, _ in self._all(stage))
        return [record for record in found if record is not None]

    def _ids(self, stage: str) -> list[str]:
        found = self._all(stage)
        there = {version.number for version in self._manager.iter_history(stage)}  # some may be pruned, or deleted just now
        return [id_ for version, _, id_ in found if version in there]

    def _stages(self) -> Iterator[str]:
        used = list(self._used)
        yield from used
        yield from (stage for stage in self._manager.stages(prefix=f"{_PREFIX}/") if stage not in used)

    def _find(self, checkpoint_id: str) -> Any:  # noqa: ANN401  # a record
        places = ((stage, version) for stage in self._stages() for version, _, id_ in self._all(stage) if id_ == checkpoint_id)
        records = (self._records.load(stage, version) for stage, version in places)
        return next((record for record in records if record is not None), None)

    def _latest(self, stage: str) -> Any:  # noqa: ANN401  # a record
        found = sorted(self._all(stage), key=lambda each: datetime.fromisoformat(each[1]), reverse=True)
        records = (self._records.load(stage, version) for version, _, _ in found)
        return next((record for record in records if record is not None), None)

    def _delete(self, checkpoint_id: str) -> bool:
        holding = [stage for stage in self._stages() if any(id_ == checkpoint_id for _, _, id_ in self._all(stage))]
        for stage in holding or self._stages():  # what a killed call left is in no index
            self._records.drop(stage, lambda key: key[1] == checkpoint_id)
        return bool(holding)

    def _decoded(self, text: str) -> WorkflowCheckpoint:
        return WorkflowCheckpoint.from_dict(decode_checkpoint_value(json.loads(text), allowed_types=self._allowed))
