"""joblib: a ``Memory`` whose results are encrypted, and authenticated before they are unpickled. Needs the extra ``joblib``.

::

    from joblib import Memory

    import checkpoint_manager.integrations.joblib

    memory = Memory("checkpoints", backend="checkpoint-manager", verbose=0)

    @memory.cache
    def square(number):
        return number**2

    print(square(3))

It stands wherever a ``Memory`` does, such as ``Pipeline(steps, memory=memory)`` of scikit-learn. ``@cm.stage`` of a
``CheckpointManager`` does the same without pickle, and keeps the history of results.

**Pickle.** joblib unpickles what its cache holds: who can write to the directory runs code in each process that uses it. Here
it gets only bytes that were saved with the key of the store, for this very function and these arguments.

**Layout.** A call is a stage, ``joblib/FUNCTION/ARGUMENTS``, with the result as an attachment. What joblib notes about the call
is ``joblib/FUNCTION/ARGUMENTS/metadata``, and the code of a function is ``joblib/FUNCTION``. The newest
version of each is kept. What is cleared leaves a marker without data. The store is in the directory ``joblib`` of the location,
as with joblib's own backend; ``backend_options={"store": …}`` takes another one, such as ``"sqlite:///cache.db"``, or a
manager. joblib takes only text or a ``Path`` as the location: for anything else it warns, and caches nothing.

**Errors.** A result that is damaged is computed again, with an ERROR line of the log. Code that is damaged, and anything that
is older than what this user has seen, is an error of the call: joblib would take the results of other code for those of this
one. ``mmap_mode`` is refused, as what is sealed can't be mapped. Results are held in memory as a whole. ``reduce_size`` goes by
the time of the last computation, not of the last use.
"""

from __future__ import annotations

import contextlib
import errno
import io
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

import joblib
from joblib._store_backends import CacheItemInfo, CacheWarning, StoreBackendBase, StoreBackendMixin

from checkpoint_manager import CheckpointError, CheckpointManager, CheckpointNotFoundError, Retention
from checkpoint_manager.integrations._names import stage_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PREFIX = "joblib"
_RESULT = "result"


def _stage(call_id: Sequence[str]) -> str:
    return stage_name(_PREFIX, *call_id)


def _has_no_paths(*_: object) -> NoReturn:
    raise NotImplementedError("results are found by function and arguments, not by paths")


class CheckpointCache(StoreBackendBase, StoreBackendMixin):
    """A store backend of joblib, ``checkpoint-manager``; the module describes it."""

    _open_item = _item_exists = _move_item = create_location = staticmethod(_has_no_paths)

    def configure(self, location: str, verbose: int = 1, backend_options: Mapping[str, Any] | None = None) -> None:
        """Open the store.

        Raises:
            ValueError: ``mmap_mode`` was asked for.
            CheckpointError: As for :class:`CheckpointManager`.
        """
        options = backend_options or {}
        if options.get("mmap_mode") is not None:
            raise ValueError("mmap_mode is not possible: what is encrypted can't be mapped")
        store = options.get("store", location)
        self._manager = (
            store if isinstance(store, CheckpointManager) else CheckpointManager(store, retention=Retention(keep_last=1))
        )
        self.location = location
        self.verbose = verbose
        self.compress = options.get("compress", False)

    # Results

    def contains_item(self, call_id: Sequence[str]) -> bool:
        """Return whether there is a result that is whole and authentic."""
        return self._manager.has_checkpoint(_stage(call_id))

    def load_item(
        self,
        call_id: Sequence[str],
        verbose: int = 1,
        timestamp: float | None = None,  # noqa: ARG002  # joblib's own backend prints how old it is
        metadata: Mapping[str, Any] | None = None,  # noqa: ARG002  # likewise
    ) -> Any:  # noqa: ANN401  # whatever the function returned
        """Return a result.

        Raises:
            KeyError: There is none.
            IntegrityError, RollbackError: It is damaged, forged, or older than what this user has seen.
        """
        if verbose > 1:
            print(f"[Memory]: Loading {call_id[0]}...")  # noqa: T201  # as joblib's own backend does
        try:
            checkpoint = self._manager.get_checkpoint(_stage(call_id))
        except CheckpointNotFoundError as error:
            raise KeyError(f"Non-existing item (may have been cleared): {error}") from error
        return joblib.load(io.BytesIO(checkpoint.attachments[_RESULT].read()))

    def dump_item(self, call_id: Sequence[str], item: Any, verbose: int = 1) -> None:  # noqa: ANN401, ARG002
        """Save a result; if that fails, warn, as the function has run."""
        try:
            content = io.BytesIO()
            joblib.dump(item, content, compress=self.compress)
            metadata = {"function": call_id[0]}  # the name of the stage shows only a hash of a long one
            self._manager.save_checkpoint(_stage(call_id), metadata=metadata, attachments={_RESULT: content.getvalue()})
        except Exception as error:  # noqa: BLE001  # whatever pickling raises
            warnings.warn(f"Unable to cache: {error}", CacheWarning, stacklevel=2)

    def clear_item(self, call_id: Sequence[str]) -> None:
        """Delete a result."""
        self.clear_location(_stage(call_id))

    def get_metadata(self, call_id: Sequence[str]) -> dict[str, Any]:
        """Return what joblib noted of a call: when, how long and with which arguments it ran."""
        try:
            noted: dict[str, Any] = self._manager.load_checkpoint(_stage([*call_id, "metadata"]))
        except CheckpointNotFoundError:
            return {}
        return noted

    def store_metadata(self, call_id: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Save what joblib notes of a call; if that fails, warn, as the function has run."""
        try:
            self._manager.save_checkpoint(_stage([*call_id, "metadata"]), dict(metadata))
        except CheckpointError as error:
            warnings.warn(f"Unable to cache metadata: {error}", CacheWarning, stacklevel=2)

    # Functions

    def contains_path(self, call_id: Sequence[str]) -> bool:
        """Return whether the code of a function is there."""
        return self._manager.has_checkpoint(_stage(call_id))

    def store_cached_func_code(self, call_id: Sequence[str], func_code: str | None = None) -> None:
        """Save the code of a function."""
        if func_code is not None:
            self._manager.save_checkpoint(_stage(call_id), func_code)

    def get_cached_func_code(self, call_id: Sequence[str]) -> str:
        """Return the code of a function.

        Raises:
            OSError: There is none, so that joblib saves it.
            IntegrityError, RollbackError: It is damaged, forged, or older than what this user has seen.
        """
        try:
            code: str = self._manager.load_checkpoint(_stage(call_id))
        except CheckpointNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, str(error)) from error
        return code

    def clear_path(self, call_id: Sequence[str]) -> None:
        """Delete the results of a function, and then its code: if this is killed, the next call of changed code goes on."""
        self.clear_location(_stage(call_id))

    # The whole cache

    def clear(self) -> None:
        """Delete the results and the code of all functions."""
        self.clear_location(_PREFIX)

    def clear_location(self, location: str) -> None:
        """Delete a stage and all below it."""
        for stage in reversed(self._manager.stages(prefix=location)):
            if stage == location or stage.startswith(f"{location}/"):
                self._delete(stage)

    def get_items(self) -> list[Any]:
        """Return the results with their sizes and times, for ``Memory.reduce_size``."""
        items = []
        for stage in self._manager.stages(prefix=f"{_PREFIX}/"):
            try:
                version = self._manager.get_version(stage)
            except CheckpointError:  # it is damaged, or another process has deleted it
                continue
            if version.attachments and version.created_at is not None:
                made_at = version.created_at.astimezone().replace(tzinfo=None)  # local, as joblib compares it
                items.append(CacheItemInfo(stage, version.total_size, made_at))
        return items

    def _delete(self, stage: str) -> None:
        with contextlib.suppress(CheckpointNotFoundError):
            self._manager.delete_stage(stage)


joblib.register_store_backend("checkpoint-manager", CheckpointCache)
