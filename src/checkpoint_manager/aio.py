"""The interface for asyncio: :class:`AsyncCheckpointManager`, which has the methods of ``CheckpointManager``, awaited."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import weakref
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeAlias, TypedDict, TypeVar, Unpack, overload

from checkpoint_manager import stages
from checkpoint_manager._store.key_sources import conceal
from checkpoint_manager.keys import Keys
from checkpoint_manager.manager import DEFAULT_LOCATION, CheckpointManager
from checkpoint_manager.stages.threads import in_thread

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from checkpoint_manager.backends.base import Backend
    from checkpoint_manager.credentials import Key
    from checkpoint_manager.models import Codec, Durability, OnRollback, Version
    from checkpoint_manager.retention import Retention
    from checkpoint_manager.stages.loop import Items, Loop

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S")
F = TypeVar("F", bound="Callable[..., Coroutine[Any, Any, Any]]")

_BATCH = 100
_OPENING = object()
_Turns: TypeAlias = "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakValueDictionary[object, asyncio.Lock]]"


class _StageOptions(TypedDict, total=False):
    revision: int | str | None
    code: bool | None
    key: Callable[..., object] | None
    ignore: Sequence[str]
    fingerprint: Mapping[type, Callable[[Any], object]] | None
    encode: Callable[[Any], object] | None
    decode: Callable[[Any], Any] | None
    wait: bool | float
    retries: int
    backoff: float
    timeout: float | None
    expires: timedelta | str | None
    validate: Callable[[Any], bool] | None


class _LoopOptions(TypedDict, total=False):
    every_seconds: float
    every_items: int | None
    revision: int | str
    key: object
    wait: bool | float
    bar: bool


def _conceal_keys(arguments: dict[str, Any]) -> None:
    """Hide the keys among the arguments of a call from what shows the variables of this module's frames."""
    if "key" in arguments:
        arguments["key"] = conceal(arguments["key"])
    if isinstance(arguments.get("also"), list | tuple):
        arguments["also"] = [conceal(each) for each in arguments["also"]]


def _awaited(
    method: Callable[Concatenate[CheckpointManager, P], R],
) -> Callable[Concatenate[AsyncCheckpointManager, P], Coroutine[Any, Any, R]]:
    """Return a method that calls one of :class:`CheckpointManager` in a worker thread."""

    @functools.wraps(method)
    async def call(self: AsyncCheckpointManager, /, *args: P.args, **kwargs: P.kwargs) -> R:
        _conceal_keys(kwargs)
        manager = await self._opened()
        return await in_thread(method, manager, *args, **kwargs)

    return call


def _awaited_in_turn(
    method: Callable[Concatenate[CheckpointManager, P], R],
) -> Callable[Concatenate[AsyncCheckpointManager, P], Coroutine[Any, Any, R]]:
    """Return such a method whose calls for one stage run one after another, in the order in which they were awaited."""
    awaited = _awaited(method)

    @functools.wraps(method)
    async def call(self: AsyncCheckpointManager, /, *args: P.args, **kwargs: P.kwargs) -> R:
        stage = args[0] if args else kwargs.get("stage_name")
        async with self._turn(stage if isinstance(stage, str) else type(stage)):  # the method refuses what is not text
            return await awaited(self, *args, **kwargs)

    return call


def _awaited_key(
    method: Callable[Concatenate[Keys, P], R],
) -> Callable[Concatenate[AsyncKeys, P], Coroutine[Any, Any, R]]:
    @functools.wraps(method)
    async def call(self: AsyncKeys, /, *args: P.args, **kwargs: P.kwargs) -> R:
        _conceal_keys(kwargs)
        args = tuple(each if isinstance(each, str) else conceal(each) for each in args)  # type: ignore[assignment]
        manager = await self._manager._opened()  # noqa: SLF001  # of this module
        return await in_thread(method, manager.keys, *args, **kwargs)

    return call


async def _in_batches(versions: Iterator[Version]) -> AsyncIterator[Version]:
    """Yield versions that are read in a worker thread, some at a time."""
    while batch := await in_thread(lambda: list(itertools.islice(versions, _BATCH))):
        for version in batch:
            yield version


class AsyncKeys:
    """The methods of :class:`Keys`, awaited."""

    def __init__(self, manager: AsyncCheckpointManager) -> None:
        self._manager = manager

    list = _awaited_key(Keys.list)
    is_rotating = _awaited_key(Keys.is_rotating)
    find = _awaited_key(Keys.find)
    add = _awaited_key(Keys.add)
    remove = _awaited_key(Keys.remove)
    rotate = _awaited_key(Keys.rotate)


class AsyncCheckpointManager:
    """:class:`CheckpointManager` for asyncio: the same arguments, and the same methods, awaited.

    ::

        async with AsyncCheckpointManager("checkpoints") as cm:
            if not await cm.has_checkpoint("train"):
                await cm.save_checkpoint("train", {"epoch": 3})

    The methods run in worker threads, so that the event loop never waits for the disk, for a lock or for a key derivation.
    Calls that write to one stage, given by its name, are made in the order in which they were awaited; all others run side by
    side, also those that write to several stages. Data is read when the turn of its call comes: don't change it before the call
    has returned. Functions that are passed on, such as ``progress`` and that of ``update_checkpoint``, are plain ones, and are
    called in the thread.

    **Cancellation.** When a task is cancelled, a call that has not begun is never made, and one that has begun is finished
    first. So a cancelled save has saved a whole version or nothing, and nothing happens afterwards. A call that is waiting for
    another process's lock ends within ``lock_timeout``.

    The store is opened by the first call, or on entering ``async with``. An instance may be shared by tasks, threads and event
    loops, and used after a fork.
    """

    _manager: CheckpointManager | None = None

    def __init__(
        self,
        checkpoint_dir: str | os.PathLike[str] | Backend = DEFAULT_LOCATION,
        *,
        key: Key | None = None,
        lock_timeout: float = 60.0,
        durability: Durability = "full",
        on_rollback: OnRollback = "raise",
        retention: Retention | None = None,
        codecs: Iterable[Codec[Any]] = (),
        index: Mapping[str, object] | None = None,
    ) -> None:
        self._make = functools.partial(
            CheckpointManager,
            checkpoint_dir,
            key=conceal(key),
            lock_timeout=lock_timeout,
            durability=durability,
            on_rollback=on_rollback,
            retention=retention,
            codecs=tuple(codecs),
            index=index,
        )
        self._turns: _Turns = weakref.WeakKeyDictionary()

    def _open(self) -> CheckpointManager:
        """Return the manager that does the work, which the first call makes."""
        if self._manager is None:
            self.__dict__.setdefault("_manager", self._make())  # if two threads race, the first one wins
        manager: CheckpointManager = self.__dict__["_manager"]
        return manager

    async def _opened(self) -> CheckpointManager:
        if self._manager is None:
            async with self._turn(_OPENING):  # a key derivation takes memory: one is enough
                return await in_thread(self._open)
        return self._manager

    def _turn(self, key: object) -> asyncio.Lock:
        """Return the lock of this event loop for a key. Tasks get it in the order in which they began to wait."""
        turns = self._turns.setdefault(asyncio.get_running_loop(), weakref.WeakValueDictionary())
        return turns.setdefault(key, asyncio.Lock())

    async def close(self) -> None:
        """Close the backend, as ``CheckpointManager.close`` does."""
        if self._manager is not None:
            await in_thread(self._manager.close)

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    save_checkpoint = _awaited_in_turn(CheckpointManager.save_checkpoint)
    update_checkpoint = _awaited_in_turn(CheckpointManager.update_checkpoint)
    restore_checkpoint = _awaited_in_turn(CheckpointManager.restore_checkpoint)
    clear_checkpoint = _awaited_in_turn(CheckpointManager.clear_checkpoint)
    tag = _awaited_in_turn(CheckpointManager.tag)
    untag = _awaited_in_turn(CheckpointManager.untag)
    delete_versions = _awaited_in_turn(CheckpointManager.delete_versions)
    delete_stage = _awaited_in_turn(CheckpointManager.delete_stage)

    save_checkpoints = _awaited(CheckpointManager.save_checkpoints)
    has_checkpoint = _awaited(CheckpointManager.has_checkpoint)
    load_checkpoint = _awaited(CheckpointManager.load_checkpoint)
    get_checkpoint = _awaited(CheckpointManager.get_checkpoint)
    get_json = _awaited(CheckpointManager.get_json)
    get_version = _awaited(CheckpointManager.get_version)
    resolve = _awaited(CheckpointManager.resolve)
    history = _awaited(CheckpointManager.history)
    stages = _awaited(CheckpointManager.stages)
    downstream = _awaited(CheckpointManager.downstream)
    stale_stages = _awaited(CheckpointManager.stale_stages)
    status = _awaited(CheckpointManager.status)
    running = _awaited(CheckpointManager.running)
    diff = _awaited(CheckpointManager.diff)
    tags = _awaited(CheckpointManager.tags)
    reasons = _awaited(CheckpointManager.reasons)

    restore_pipeline = _awaited(CheckpointManager.restore_pipeline)
    plan_restore = _awaited(CheckpointManager.plan_restore)
    clear_checkpoints = _awaited(CheckpointManager.clear_checkpoints)
    tag_pipeline = _awaited(CheckpointManager.tag_pipeline)
    prune = _awaited(CheckpointManager.prune)
    verify = _awaited(CheckpointManager.verify)
    repair = _awaited(CheckpointManager.repair)
    accept_rollback = _awaited(CheckpointManager.accept_rollback)
    export_bundle = _awaited(CheckpointManager.export_bundle)
    import_bundle = _awaited(CheckpointManager.import_bundle)
    copy_to = _awaited(CheckpointManager.copy_to)
    run_report = _awaited(CheckpointManager.run_report)

    async def iter_history(self, stage_name: str, *, below: int | None = None) -> AsyncIterator[Version]:
        """Yield the versions of ``history`` one by one; a long history takes no memory. ``below`` is as there.

        Raises:
            IntegrityError, RollbackError: As for ``history``, when the first version is asked for.
        """
        async for version in _in_batches((await self._opened()).iter_history(stage_name, below=below)):
            yield version

    async def find(
        self,
        *,
        stage_prefix: str = "",
        status: str | None = None,
        since: datetime | str | None = None,
        metadata: Mapping[str, object] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Version]:
        """Yield the versions of all stages that meet the criteria, one by one, as ``CheckpointManager.find`` does.

        Raises:
            IntegrityError, RollbackError: As for ``history``, when a stage is reached.
        """
        manager = await self._opened()
        found = manager.find(stage_prefix=stage_prefix, status=status, since=since, metadata=metadata, limit=limit)
        async for version in _in_batches(found):
            yield version

    @overload
    def stage(self, function: F, /) -> F: ...

    @overload
    def stage(self, name: str | None = None, /, **options: Unpack[_StageOptions]) -> Callable[[F], F]: ...

    def stage(self, name: Callable[..., Any] | str | None = None, /, **options: Unpack[_StageOptions]) -> Any:
        """Make an async function a stage, as ``CheckpointManager.stage`` does; the arguments are the same.

        This opens the store.

        Raises:
            TypeError: The function is not an async function.
        """
        if callable(name):
            return self.stage()(name)

        def decorate(function: F) -> F:
            if not inspect.iscoroutinefunction(inspect.unwrap(function)):
                raise TypeError(
                    f"{getattr(function, '__name__', function)!r} is not an async function, and would block the event loop: "
                    "make it one, or make it a stage of a CheckpointManager and call that in a thread"
                )
            decorated: F = self._open().stage(name, **options)(function)  # type: ignore[assignment]
            return decorated

        return decorate

    @overload
    def loop(
        self, stage_name: str, items: Items[T], *, initial: dict[str, Any], **options: Unpack[_LoopOptions]
    ) -> Loop[T, dict[str, Any]]: ...

    @overload
    def loop(
        self, stage_name: str, items: Items[T], *, initial: list[Any], **options: Unpack[_LoopOptions]
    ) -> Loop[T, list[Any]]: ...

    @overload
    def loop(self, stage_name: str, items: Items[T], *, initial: S, **options: Unpack[_LoopOptions]) -> Loop[T, S]: ...

    def loop(self, stage_name: str, items: Items[Any], *, initial: Any, **options: Unpack[_LoopOptions]) -> Loop[Any, Any]:
        """Make a long loop a stage, as ``CheckpointManager.loop`` does, with ``async with`` and ``async for``.

        The arguments are the same. This opens the store, unless it is open.
        """
        return self._open().loop(stage_name, items, initial=initial, **options)

    @property
    def run_id(self) -> str:
        """The id of the run that this process is a part of, as ``CheckpointManager.run_id``."""
        return stages.current_run()

    @property
    def retention(self) -> Retention | None:
        """What this manager keeps of each stage that it saves to, as ``CheckpointManager.retention``."""
        given: Retention | None = self._make.keywords["retention"]
        return given if self._manager is None else self._manager.retention

    @property
    def keys(self) -> AsyncKeys:
        """The key slots of the store, and the rotation of its key."""
        return AsyncKeys(self)

    def __repr__(self) -> str:
        return f"Async{self._manager!r}" if self._manager is not None else "AsyncCheckpointManager(not open)"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what opens the store again, as ``CheckpointManager`` does.

        Raises:
            TypeError: The manager was given the key itself, or a backend.
        """
        return _of, (self._open(),)


def _of(manager: CheckpointManager) -> AsyncCheckpointManager:
    made = AsyncCheckpointManager()
    made._manager = manager  # noqa: SLF001  # of this module
    return made
