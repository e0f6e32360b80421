"""Running a stage, or not: once across processes, and keeping what comes of it."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format import payload
from checkpoint_manager._operations import tag
from checkpoint_manager._operations.delete import delete_versions
from checkpoint_manager._operations.save import Draft, draft, save
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointError, IntegrityError, LockTimeoutError, ResultNotSavedError
from checkpoint_manager.models import display
from checkpoint_manager.stages.fingerprint import fingerprints
from checkpoint_manager.stages.lookup import FAILURE, NOTE, Lookup, Match
from checkpoint_manager.stages.report import Outcome, ago, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from checkpoint_manager._operations.load import Loaded
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import Status
    from checkpoint_manager.stages.report import What

_LOG = logging.getLogger("checkpoint_manager")
SILENT_WAIT = 0.4
"""How long to wait for another runner before it is said who that is, in seconds; so short that no place in a queue is lost."""
_MESSAGE_CHARACTERS = 500
_COMPLETED: tuple[Status, ...] = ("completed",)


@dataclass(frozen=True)
class Definition:
    """A function that is a stage.

    Attributes:
        function: What runs.
        stage: The stage's name.
        revision: The author's number for what the function does: another one makes it run again.
        key: See :func:`checkpoint_manager.stages.fingerprint.fingerprints`.
        ignore: Likewise.
        encode: Makes JSON of a result; None: it is JSON.
        decode: Makes a result of that.
        wait: Wait for another process that runs the same stage, and take its result; else refuse.
    """

    function: Callable[..., Any]
    stage: str
    revision: int | str
    key: Callable[..., Any] | None
    ignore: Sequence[str]
    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None
    wait: bool

    @property
    def timeout(self) -> float:
        """How long to wait for another process, in seconds."""
        return math.inf if self.wait else 0


@dataclass
class Call:
    """One run of a stage, from its arguments to its outcome: a call of a function, or a loop.

    Attributes:
        stage: The stage.
        note: What the result will be the result of; kept in the version's metadata.
        started: When it began, by the monotonic clock.
        why: Why it runs.
        result: What came of it.
        loops: The notes of the loops that it has run.
        superseded: The ``progress`` versions that its result makes useless.
        is_function: It is a call of a function, in which loops of the same stage may run.
    """

    stage: str
    note: dict[str, Any]
    started: float = field(default_factory=time.monotonic)
    why: str = ""
    result: Any = field(default=None, repr=False)
    loops: list[dict[str, Any]] = field(default_factory=list)
    superseded: list[int] = field(default_factory=list)
    is_function: bool = True

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.started


_running: contextvars.ContextVar[dict[tuple[str, str], Call]] = contextvars.ContextVar("running")


class Runner:
    """Runs the stages of one store.

    Attributes:
        outcomes: What became of each run.
        functions: The module and name of the function that is a stage, by the stage's name.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lookup = Lookup(store)
        self.outcomes: list[Outcome] = []
        self.functions: dict[str, str] = {}

    def call(self, definition: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return a call with these arguments.

        Raises:
            FingerprintError: It can't be told whether an argument is the same as before.
        """
        arguments = fingerprints(definition.function, args, kwargs, key=definition.key, ignore=definition.ignore)
        return Call(definition.stage, {"version": definition.revision, "arguments": arguments})

    # Alone

    def current(self, stage: str) -> Call | None:
        """Return the run of a stage that this code is a part of."""
        return _running.get({}).get((self._store.keyring.store_id, stage))

    @contextlib.contextmanager
    def exclusively(self, stage: str, timeout: float) -> Iterator[None]:
        """Hold the lock that only one runner of a stage holds, on this host, for as long as it runs."""
        if self.current(stage) is not None:
            message = f"stage {display(stage)} is called by itself and would wait for itself"
            hint = "Call the plain function inside of it, or give the inner stage another name"
            raise CheckpointError(message, hint=hint, stage=stage)
        with contextlib.ExitStack() as resources:
            try:
                resources.enter_context(self._store.backend.lock(stage, min(timeout, SILENT_WAIT), purpose="run"))
            except LockTimeoutError as error:
                if timeout <= SILENT_WAIT:
                    raise
                self.log_waiting(error)
                resources.enter_context(self._store.backend.lock(stage, timeout, purpose="run"))
            yield

    def log_waiting(self, error: LockTimeoutError) -> None:
        """Say whom this one waits for: it may take hours."""
        _LOG.info("%s: waits for %s, which runs it", display(str(error.stage)), error.holder or "another one")

    @contextlib.contextmanager
    def marked(self, call: Call) -> Iterator[None]:
        """Let the code in the block know what it is a part of."""
        call.started = time.monotonic()
        token = _running.set({**_running.get({}), (self._store.keyring.store_id, call.stage): call})
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # an async function that was closed from another context
                _running.reset(token)

    @contextlib.contextmanager
    def running(self, call: Call) -> Iterator[None]:
        """Surround a function's run: what it raises is kept as a ``failed`` version."""
        with self.marked(call):
            try:
                yield
            except Exception as error:
                self._save_failure(call, error)
                raise

    # Reusing

    def reuse(self, definition: Definition, call: Call) -> bool:
        """Look for a version to reuse, and put its result into the call."""
        found = self.search(call, _COMPLETED)
        if found.loaded is None:
            return False
        value = payload.decode(found.loaded.data)
        call.result = value if definition.decode is None else definition.decode(value)
        self.reused(call, found.loaded)
        return True

    def search(self, call: Call, kinds: Collection[Status]) -> Match:
        """Look for the newest version that fits, and tell the call why there is none, or not the newest one."""
        found = self._lookup.find(call.stage, call.note, kinds)
        call.why = found.why
        return found

    def reused(self, call: Call, loaded: Loaded) -> None:
        """Note that a completed version took the place of a run."""
        self.ended(call, "reused", loaded.version)
        _LOG.info("%s: reused version %d (saved %s)", display(call.stage), loaded.version, ago(loaded.entry.created_at))

    # Keeping

    def save_result(self, definition: Definition, call: Call) -> None:
        """Save a call's result.

        Raises:
            ResultNotSavedError: That failed; the error carries the result.
        """
        self.complete(call, lambda: call.result if definition.encode is None else definition.encode(call.result))

    def complete(self, call: Call, value: Callable[[], Any]) -> None:
        """Save what a run came to as its completed version, and remove the progress that it makes useless.

        Raises:
            ResultNotSavedError: That failed; the error carries the result.
        """
        took = duration(call.seconds)
        try:
            result = draft(call.stage, value(), {NOTE: call.note})
            version = save(self._store, call.stage, result).number
        except Exception as error:
            self.ended(call, "ran", None)
            message = f"stage {display(call.stage)} ran for {took}, and its result could not be saved: {error}"
            hint = "The result is this error's attribute result: save it elsewhere"
            raise ResultNotSavedError(message, hint=hint, stage=call.stage, result=call.result) from error
        self.ended(call, "ran", version)
        _LOG.info("%s: ran in %s, saved version %d (%s)", display(call.stage), took, version, call.why)
        self.remove_progress(call.stage, call.superseded)

    def save(self, stage: str, draft: Draft) -> int:
        """Append a version and return its number; errors as for ``save_checkpoint``."""
        return save(self._store, stage, draft).number

    def remove_progress(self, stage: str, versions: list[int]) -> list[int]:
        """Delete versions that say themselves that they are ``progress``, and nothing else; return what is left for later.

        That this fails makes no difference to what was computed: then they stay, and are tried again.
        """
        there: list[int] = []
        try:
            gaps, _ = self._store.gaps(stage)
            tags = tag.certain(self._store, stage)
            there = [
                version
                for version in versions
                if version not in gaps and not tags.of(version) and self._is_progress(stage, version)
            ]
            if there:
                delete_versions(self._store, stage, there)
        except CheckpointError as error:
            _LOG.debug("%s: superseded progress is left: %s", display(stage), error)
            return there
        return []

    def _is_progress(self, stage: str, version: int) -> bool:
        try:
            return self._store.entry(stage, version).status == "progress"
        except (VersionAbsentError, IntegrityError):  # gone already, or damaged: that stays as evidence
            return False

    def _save_failure(self, call: Call, error: Exception) -> None:
        trace = "".join(traceback.format_exception(error))
        kind, said = type(error).__qualname__, _clean(str(error))
        failure = {"type": kind, "message": said, "traceback": _clean(trace)}
        shown = {"type": kind, "message": said[:_MESSAGE_CHARACTERS]}  # for a listing of the history, which reads no data
        version = None
        try:
            result = draft(call.stage, failure, {NOTE: call.note, FAILURE: shown}, status="failed")
            version = save(self._store, call.stage, result).number
        except CheckpointError as unsaved:
            _LOG.warning("%s: failed, and that could not be saved: %s", display(call.stage), unsaved)
        self.ended(call, "failed", version)
        _LOG.info("%s: failed after %s (%s)", display(call.stage), duration(call.seconds), kind)

    def ended(self, call: Call, what: What, version: int | None) -> None:
        """Put what became of a run into the report."""
        self.outcomes.append(Outcome(call.stage, what, version, call.seconds, call.why))


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
