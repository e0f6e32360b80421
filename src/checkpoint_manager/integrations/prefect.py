"""Prefect 3: results of tasks and flows, encrypted and authenticated before they are unpickled. Needs the extra ``prefect``.

::

    from prefect import flow, task
    from prefect.cache_policies import INPUTS

    from checkpoint_manager.integrations.prefect import CheckpointFileSystem

    results = CheckpointFileSystem(location="/srv/checkpoints")
    results.save("results", overwrite=True)

    @task(persist_result=True, cache_policy=INPUTS, result_storage=results)
    def extract(day: str) -> list[int]:
        return [1, 2, 3]

If the flow is killed and run again, Prefect finds the results of the tasks that had ended by their cache keys, and does not run
these again. The block may also be the ``key_storage`` of a cache policy, and the ``result_storage`` of a flow.

**Pickle.** Prefect's default serializer is cloudpickle: who can write to its storage of results runs code in each process that
reads one. Here Prefect gets only bytes that were saved with the key of the store, for this very path; anything else is refused
first. ``result_serializer="json"`` does without pickle.

**Layout.** A path is a stage, ``prefect/PATH``, and each write a version of it, with the bytes as an attachment. The newest
``keep_last`` of each path are kept, and up to 15 earlier ones, which are then deleted together; they can be restored.

**The block** holds where the store is, and never a key: each process finds the key in its environment or in its user's key
file. Prefect wants it to be saved, so that other processes find results by the state of a run; they need
``import checkpoint_manager.integrations.prefect``. Prefect's server still holds parameters, names, logs and artifacts in the
clear.

**Errors.** Prefect takes any error of reading for a missing result, and runs the task again. After an error of writing, the
flow goes on, and the result is not persisted. So a result that is damaged, forged or older than what this user has seen is
never used. An ERROR line of the log tells of it, and of each result that was not persisted. Locks of Prefect's ``SERIALIZABLE``
isolation are not kept here: without them, two runs at the same time may both run a task, and the later result is the newest
version.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Any

from prefect.filesystems import WritableFileSystem
from pydantic import ConfigDict, Field, field_validator

from checkpoint_manager import (
    AsyncCheckpointManager,
    CheckpointError,
    CheckpointManager,
    CheckpointNotFoundError,
    FormatError,
    Retention,
)
from checkpoint_manager._lazy_log import get_logger
from checkpoint_manager.backends.registry import redacted
from checkpoint_manager.integrations._names import stage_name
from checkpoint_manager.stages.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager import Checkpoint

_LOG = get_logger()
_FORMAT = "prefect"
_CONTENT = "content"


class CheckpointFileSystem(WritableFileSystem):
    """A block that keeps results in a checkpoint store; the module describes it.

    Attributes:
        location: A directory, best as an absolute path, or the URL of a store, without a password.
        prefix: What the names of the stages begin with.
        keep_last: How many versions of each path are kept.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # a location may hold a password
    _block_type_name = "Checkpoint Manager"
    _description = "Keep results in a checkpoint store: encrypted, authenticated and versioned."

    location: str = Field(default="checkpoints", description="A directory, or the URL of a store.")
    prefix: str = Field(default="prefect", description="What the names of the stages begin with.")
    keep_last: int = Field(default=1, ge=1, description="How many versions of each path are kept.")

    @field_validator("location")  # type: ignore[untyped-decorator]  # pydantic is not installed where this is checked
    @classmethod
    def _check_location(cls, location: str) -> str:
        if redacted(location) != location:
            raise ValueError("location holds a password, and Prefect keeps blocks in the clear: give it in PGPASSWORD")
        return location

    def read_path(self, path: str, *, _sync: bool = False) -> Any:  # noqa: ANN401  # bytes, or a coroutine that returns them
        """Return what was written to a path; in a coroutine, ``await`` it.

        Raises:
            CheckpointNotFoundError: Nothing was written to it.
            IntegrityError: It is damaged or forged.
            RollbackError: It is older than what this user has seen.
        """
        if not _sync and _is_in_event_loop():
            return self.aread_path(path)
        with _told(path, "used"):
            return _content(_manager(self.location, self.keep_last).get_checkpoint(self._stage(path)))

    async def aread_path(self, path: str) -> bytes:
        """Return what was written to a path; errors as for ``read_path``."""
        with _told(path, "used"):
            checkpoint = await _async_manager(self.location, self.keep_last).get_checkpoint(self._stage(path))
            return await in_thread(_content, checkpoint)

    def write_path(self, path: str, content: bytes, *, _sync: bool = False) -> Any:  # noqa: ANN401  # likewise
        """Write the content of a path, as a whole and durably; in a coroutine, ``await`` it.

        Raises:
            RollbackError: The store is older than what this user has seen. Nothing was written.
            StorageError: The operating system refused. What was written before is unchanged.
        """
        if not _sync and _is_in_event_loop():
            return self.awrite_path(path, content)
        with _told(path, "persisted"):
            manager = _manager(self.location, self.keep_last)
            manager.save_checkpoint(self._stage(path), _data(path), attachments={_CONTENT: content})
        return path

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Write the content of a path; errors as for ``write_path``."""
        with _told(path, "persisted"):
            manager = _async_manager(self.location, self.keep_last)
            await manager.save_checkpoint(self._stage(path), _data(path), attachments={_CONTENT: content})
        return path

    def _stage(self, path: str) -> str:
        return stage_name(self.prefix, path)

    def _resolve_path(self, path: str) -> None:
        """Tell Prefect that paths are relative to nothing, as it asks of storage that was not saved as a block."""


@functools.cache
def _manager(location: str, keep_last: int) -> CheckpointManager:
    """Return the manager of a store: Prefect copies blocks for each task, and a passphrase takes time and memory to open."""
    return CheckpointManager(location, retention=Retention(keep_last=keep_last))


@functools.cache
def _async_manager(location: str, keep_last: int) -> AsyncCheckpointManager:
    return AsyncCheckpointManager(location, retention=Retention(keep_last=keep_last))


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextlib.contextmanager
def _told(path: str, done: str) -> Iterator[None]:
    """Log an error, as Prefect passes over it, unless it says that nothing was written to the path."""
    try:
        yield
    except CheckpointNotFoundError:
        raise
    except CheckpointError as error:
        _LOG.error("The result %s is not %s: %s", ascii(path), done, error)
        raise


def _data(path: str) -> object:
    return {_FORMAT: 1, "path": ascii(path)}


def _content(checkpoint: Checkpoint) -> bytes:
    if not isinstance(checkpoint.data, dict) or checkpoint.data.get(_FORMAT) != 1:
        raise FormatError("the stage holds something other than a result", hint="Choose another prefix")
    return checkpoint.attachments[_CONTENT].read()
