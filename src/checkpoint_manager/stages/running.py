"""Running a stage's function, or not: looking for a version to reuse, once across processes, and keeping what comes of it."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.envelope import payload
from checkpoint_manager.errors import CheckpointError, FormatError, IntegrityError, ResultNotSavedError
from checkpoint_manager.model import display
from checkpoint_manager.stages.fingerprint import fingerprints
from checkpoint_manager.stages.outcomes import Outcome, ago, duration
from checkpoint_manager.store import drafting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from checkpoint_manager.envelope.format import Entry
    from checkpoint_manager.store.reading import Library, Loaded
    from checkpoint_manager.store.vault import Vault
    from checkpoint_manager.store.writing import Writer

_LOG = logging.getLogger("checkpoint_manager")
NOTE = "@stage"
"""The key of a version's metadata under which it is kept what the function was called with."""
_running: contextvars.ContextVar[frozenset[tuple[str, str]]] = contextvars.ContextVar("running", default=frozenset())


@dataclass(frozen=True)
class Definition:
    """A function that is a stage.

    Attributes:
        function: What runs.
        stage: The stage's name.
        version: The author's number for what the function does: another one makes it run again.
        key: See :func:`checkpoint_manager.stages.fingerprint.fingerprints`.
        ignore: Likewise.
        encode: Makes JSON of a result; None: it is JSON.
        decode: Makes a result of that.
        wait: Wait for another process that runs the same stage, and take its result; else refuse.
    """

    function: Callable[..., Any]
    stage: str
    version: int | str
    key: Callable[..., Any] | None
    ignore: Sequence[str]
    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None
    wait: bool


@dataclass
class Call:
    """One call of a stage, from its arguments to its outcome."""

    definition: Definition
    note: dict[str, Any]
    started: float = field(default_factory=time.monotonic)
    why: str = ""
    result: Any = field(default=None, repr=False)


class Runner:
    """Runs the stages of one store."""

    def __init__(self, vault: Vault, library: Library, writer: Writer) -> None:
        self._vault = vault
        self._library = library
        self._writer = writer
        self.outcomes: list[Outcome] = []

    def call(self, definition: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return a call with these arguments.

        Raises:
            ArgumentError: It can't be told whether an argument is the same as before.
        """
        arguments = fingerprints(definition.function, args, kwargs, key=definition.key, ignore=definition.ignore)
        return Call(definition, {"version": definition.version, "arguments": arguments})

    def alone(self, definition: Definition, timeout: float) -> AbstractContextManager[object]:
        """Return the lock that only one runner of a stage holds, on this host, for as long as its function runs."""
        mine = (self._vault.keychain.store, definition.stage)
        if mine in _running.get():
            message = (
                f"stage {display(definition.stage)} is called by itself, and would wait for itself for ever: call the plain "
                "function inside of it, or give the inner stage another name"
            )
            raise CheckpointError(message, stage=definition.stage)
        return self._vault.backend.lock(definition.stage, timeout, purpose="run")

    @contextlib.contextmanager
    def running(self, call: Call) -> Iterator[None]:
        """Surround the function's run: what it raises is kept as a ``failed`` version."""
        call.started = time.monotonic()
        before = _running.get()
        token = _running.set(before | {(self._vault.keychain.store, call.definition.stage)})
        try:
            yield
        except Exception as error:
            self._keep_failure(call, error)
            raise
        finally:
            with contextlib.suppress(ValueError):  # an async function that was closed from another context
                _running.reset(token)

    def find(self, call: Call) -> bool:
        """Look for a version to reuse, the newest first, and put its result into the call.

        A cleared version ends the search: what is below it is not done any more.
        """
        stage = call.definition.stage
        try:
            newest = self._library.newest_of_any_kind(stage)
        except IntegrityError as error:
            _LOG.error("%s", error)  # the stage is computed again, and the damaged file stays as evidence
            call.why = "the newest version is damaged"
            return False
        if newest is None:
            call.why = "no version yet"
            return False
        loaded: Loaded | None = newest if _fits(newest.entry, call) else None
        if loaded is None:
            call.why = _why_not(newest.entry, call)
            loaded = self._older(newest, call)
        if loaded is None:
            return False
        call.why = ""
        value = payload.decode(loaded.data)
        call.result = value if call.definition.decode is None else call.definition.decode(value)
        self._ended(call, "reused", loaded.version)
        _LOG.info("%s: reused version %d (saved %s)", display(stage), loaded.version, ago(loaded.entry.created_at))
        return True

    def _older(self, newest: Loaded, call: Call) -> Loaded | None:
        stage = call.definition.stage
        if newest.entry.status == "cleared":
            return None
        gaps, _ = self._vault.gaps(stage)
        for number in reversed(self._vault.backend.versions(stage)):
            if number >= newest.version or number in gaps:
                continue
            with contextlib.suppress(IntegrityError, FormatError, VersionAbsentError, LookupError):
                entry = self._vault.entry(stage, number)
                if entry.status == "cleared":
                    return None
                if _fits(entry, call):
                    return self._library.version(stage, number)
        return None

    def keep(self, call: Call) -> None:
        """Save a call's result.

        Raises:
            ResultNotSavedError: That failed; the error carries the result.
        """
        definition = call.definition
        took = duration(time.monotonic() - call.started)
        try:
            value = call.result if definition.encode is None else definition.encode(call.result)
            draft = drafting.draft(definition.stage, value, {NOTE: call.note})
            version = self._writer.save(definition.stage, draft).version
        except Exception as error:
            self._ended(call, "ran", None)
            message = (
                f"stage {display(definition.stage)} ran for {took}, and its result could not be saved: {error} What it "
                "computed is the attribute result of this error: save it elsewhere"
            )
            raise ResultNotSavedError(message, stage=definition.stage, result=call.result) from error
        self._ended(call, "ran", version)
        _LOG.info("%s: ran in %s, saved version %d (%s)", display(definition.stage), took, version, call.why)

    def _keep_failure(self, call: Call, error: Exception) -> None:
        stage = call.definition.stage
        trace = "".join(traceback.format_exception(error))
        failure = {"type": type(error).__qualname__, "message": _clean(str(error)), "traceback": _clean(trace)}
        version = None
        try:
            draft = drafting.draft(stage, failure, {NOTE: call.note}, status="failed")
            version = self._writer.save(stage, draft).version
        except CheckpointError as unsaved:
            _LOG.warning("%s: failed, and that could not be saved: %s", display(stage), unsaved)
        self._ended(call, "failed", version)
        took = duration(time.monotonic() - call.started)
        _LOG.info("%s: failed after %s (%s)", display(stage), took, type(error).__qualname__)

    def _ended(self, call: Call, what: Any, version: int | None) -> None:  # noqa: ANN401  # the literals of Outcome
        seconds = time.monotonic() - call.started
        self.outcomes.append(Outcome(call.definition.stage, what, version, seconds, call.why))


def _fits(entry: Entry, call: Call) -> bool:
    return entry.status == "completed" and entry.metadata.get(NOTE) == call.note


def _why_not(entry: Entry, call: Call) -> str:
    if entry.status == "cleared":
        return "the stage is cleared"
    if entry.status == "failed":
        return "the last run failed"
    note = entry.metadata.get(NOTE)
    if not isinstance(note, dict):
        return "the newest version was not saved by this stage"
    if note.get("version") != call.note["version"]:
        return f"version changed: {note.get('version')} to {call.note['version']}"
    old, new = note.get("arguments", {}), call.note["arguments"]
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return f"arguments changed: {', '.join(changed)}"


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
