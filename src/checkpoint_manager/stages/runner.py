"""Run a stage, or reuse its result: once for the same arguments across processes, with the result or failure saved."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import pickle
import time
import traceback
import weakref
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from checkpoint_manager import _operations
from checkpoint_manager._format import payload
from checkpoint_manager._format.note_keys import FAILURE
from checkpoint_manager._format.notes import FailureNote, InputNote, Note, is_list_of_stages, read_note
from checkpoint_manager._operations import tag
from checkpoint_manager._operations.delete import delete_versions
from checkpoint_manager._operations.save import Draft, draft, save
from checkpoint_manager._text import printable, with_article
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    FingerprintError,
    Hint,
    IntegrityError,
    LockTimeoutError,
    PayloadError,
    ResultNotSavedError,
)
from checkpoint_manager.stages import results
from checkpoint_manager.stages.code import Code
from checkpoint_manager.stages.fingerprint import digest, fingerprints
from checkpoint_manager.stages.lookup import Lookup, Match
from checkpoint_manager.stages.report import Outcome, ago, duration
from checkpoint_manager.stages.results import Result
from checkpoint_manager.stages.run import Definition, FailedCallError, Run
from checkpoint_manager.stages.run_id import current_run
from checkpoint_manager.stages.run_lock import RunLock, started_this_process
from checkpoint_manager.times import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from checkpoint_manager._format.codecs import Codecs
    from checkpoint_manager._format.notes import CodeNote
    from checkpoint_manager._operations.load import Loaded
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import Status
    from checkpoint_manager.stages.options import Options
    from checkpoint_manager.stages.report import What

_LOG = logging.getLogger("checkpoint_manager")
_MAX_MESSAGE_CHARACTERS = 500
NOT_PICKLED = (
    "a CheckpointManager that was given a secret or a backend, and a function that is a stage of it, "
    "can't be pickled or copied: open the store where it is needed, or give the key as a key file or in the environment"
)
_COMPLETED: tuple[Status, ...] = ("completed",)

_reopened: weakref.WeakValueDictionary[bytes, Runner] = weakref.WeakValueDictionary()
_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("current", default=None)


class Runner:
    """Runs the stages of one store.

    Args:
        store: The store.
        pickled: What opens it again in another process, and its arguments; None if that needs a secret.

    Attributes:
        location: Where the store is.
        outcomes: What became of each run.
        functions: Each stage's function, and where it comes from.
        used: The version of each stage that the last call of it reused or saved.
        codes: The code of each stage, as it was read for the last call.
    """

    def __init__(self, store: Store, pickled: tuple[Callable[..., Runner], tuple[Any, ...]] | None = None) -> None:
        self.location = store.backend.location
        self.outcomes: list[Outcome] = []
        self.functions: dict[str, tuple[str, Callable[..., Any]]] = {}
        self.used: dict[str, int] = {}
        self.codes: dict[str, tuple[Callable[..., Any], Code]] = {}
        self._told: set[tuple[str, str]] = set()
        self._store = store
        self._lookup = Lookup(store)
        self._pickled = pickled
        current_run()  # before this program starts others

    def __reduce__(self) -> tuple[Callable[..., Runner], tuple[Any, ...]]:
        """Pickle where the store is and where its key comes from: so a stage that is pickled by value finds them again.

        Raises:
            TypeError: The manager was given the key itself, or a backend.
        """
        if self._pickled is None:
            raise TypeError(NOT_PICKLED)
        return self._pickled

    @property
    def codecs(self) -> Codecs:
        """How values of types that the library does not know are saved and loaded."""
        return self._store.codecs

    @property
    def defined(self) -> tuple[str, ...]:
        """The names of the functions that are stages, in the order of their definition; none if they are many."""
        names = list(self.functions)
        return tuple(names) if is_list_of_stages(names) else ()

    @property
    def store_id(self) -> str:
        """The store's id."""
        return self._store.keyring.store_id

    def run_of(self, definition: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        """Return a run with these arguments.

        Raises:
            FingerprintError: An argument can't be compared with later calls.
        """
        options, used = definition.options, list[tuple[str, Result]]()
        arguments = self._fingerprints(definition, args, kwargs, used)
        arguments |= {
            name: digest(value, name, "", self.location, codecs=self.codecs) for name, value in options.beside.items()
        }
        code = (definition.code or self._code_of(definition)) if options.is_code_compared else None
        note = Note(definition.revision, arguments, definition.origin, code=code)
        run = Run(self.store_id, definition.stage, note, pauses=options.pauses, defined=self.defined)
        self.add_inputs(run, used)
        return run

    def _fingerprints(
        self, definition: Definition, args: tuple[Any, ...], kwargs: dict[str, Any], used: list[tuple[str, Result]]
    ) -> dict[str, str]:
        options = definition.options
        return fingerprints(
            definition.function,
            args,
            kwargs,
            key=options.key,
            ignore=options.ignore,
            location=self.location,
            stage=definition.stage,
            registered=options.fingerprint,
            used=used,
            codecs=self.codecs,
        )

    def warn_of_changes(self, definition: Definition, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Warn once if arguments were changed while a function ran: a call that reuses its result does not change them.

        An argument that is recognised only now, because a stage within has returned it as it was, tells nothing.
        """
        stage, used = definition.stage, list[tuple[str, Result]]()
        if definition.options.key is not None or (stage, "changed") in self._told:
            return
        try:
            now = self._fingerprints(definition, args, kwargs, used)
        except FingerprintError:
            return
        unclear = {argument for argument, result in used if run.inputs.get((argument, result.stage, result.call)) is None}
        changed = [name for name, digest in now.items() if digest != run.note.arguments.get(name) and name not in unclear]
        if changed and self._is_first(stage, "changed"):
            message = (
                "%s: the argument %s was changed while it ran. Return what changes: a call that reuses a result changes nothing"
            )
            _LOG.warning(message, printable(stage), printable(", ".join(changed)))

    def add_inputs(self, run: Run, used: Iterable[tuple[str, Result]]) -> None:
        """Take note of the results of other stages of this store that the arguments of a run are, or contain."""
        for argument, result in used:
            if result.store_id == self.store_id:
                run.add_input(InputNote(argument, result.stage, result.version, result.call, result.data))

    def _code_of(self, definition: Definition) -> CodeNote | None:
        """Return the present code of a function, and log once what can't be compared of it."""
        stage, function = definition.stage, definition.function
        known, code = self.codes.get(stage, (None, None))
        if code is None or known is not function or not code.is_current:
            code = Code(function)
            self.codes[stage] = function, code
            if code.unseen and self._is_first(stage, "unseen"):
                _LOG.info("%s: its code is compared, but not that of %s", printable(stage), printable(", ".join(code.unseen)))
        return code.note

    def _is_first(self, stage: str, what: str) -> bool:
        """Return whether this is the first time that this message is logged for a stage."""
        is_first = (stage, what) not in self._told
        self._told.add((stage, what))
        return is_first

    # Once

    def lock(self, run: Run, *, is_blocking: bool) -> RunLock:
        """Return the lock of a run, not acquired yet."""
        name = run.note.digest
        around = [each for each in self._enclosing() if each.stage == run.stage and each.note.digest == name]
        inherited = any(each.lock is not None and each.lock.was_inherited for each in around)
        within = any(each.lock is not None and each.lock.is_held for each in around)
        return RunLock(
            self._store, run.stage, name, is_blocking=is_blocking, is_in_parent=inherited, is_within=within, stages=run.defined
        )

    def enclosing(self, stage: str) -> Run | None:
        """Return the innermost active run of a stage in this process that the calling code is part of."""
        runs = (run for run in self._enclosing() if run.stage == stage)
        return next((run for run in runs if run.lock is not None and run.lock.is_held), None)

    def _enclosing(self) -> Iterator[Run]:
        """Yield the runs of this store that this code was called in or started from; they may have ended since."""
        run = _current.get()
        while run is not None:
            if run.store_id == self.store_id:
                yield run
            run = run.around

    def log_waiting(self, error: LockTimeoutError) -> None:
        """Log which run this one waits for: it may take hours. Nothing is said where the lock can't be waited for."""
        if error.holder is None and error.hint is not Hint.WAIT_FOR_LOCK:
            return
        stage, holder = printable(str(error.stage)), printable(error.holder or "another process")
        if started_this_process(holder):
            message = "%s: waits for %s, which runs it and started this process, and so may be waiting for this one"
            _LOG.warning(message, stage, holder, extra={"is_waiting": True})
        else:
            _LOG.info("%s: waits for %s, which runs it", stage, holder, extra={"is_waiting": True})

    @contextlib.contextmanager
    def attempt(self, run: Run, lock: RunLock) -> Iterator[None]:
        """Execute the block as an attempt of a run: an exception is saved, and passed on unless there is another attempt.

        Ctrl-C, SIGTERM and the cancellation of a task end the run.
        """
        self.begin_attempt(run, lock)
        try:
            yield
            run.is_done = True
        except Exception as error:
            is_last = run.is_last(error)
            self.save_failure(run, error, is_last=is_last)
            if is_last:
                raise
        except BaseException as error:
            self.stopped(run, error)
            raise
        finally:
            self.end(run)

    def stopped(self, run: Run, error: BaseException) -> None:
        """Record that a run was ended by what is not an error."""
        self.ended(run, "stopped", None, run.seconds)
        _LOG.info("%s: stopped after %s (%s)", printable(run.stage), duration(run.seconds), type(error).__qualname__)

    def begin_attempt(self, run: Run, lock: RunLock) -> None:
        """Begin a new attempt of a run, until :meth:`end`."""
        run.attempt += 1
        run.loops, run.superseded = [], []
        self.begin(run, lock)

    def begin(self, run: Run, lock: RunLock) -> None:
        """Mark the code that runs until :meth:`end` as part of a run."""
        run.around, run.lock_reference, run.started = _current.get(), weakref.ref(lock), time.monotonic()
        run.token = _current.set(run)
        if run.is_code_changed:
            _LOG.info("%s: runs again: %s", printable(run.stage), run.why)

    def end(self, run: Run) -> None:
        """Undo :meth:`begin`. May be called again."""
        token, run.token = run.token, None
        if token is not None:
            with contextlib.suppress(ValueError):  # an async function that was closed from another context
                _current.reset(token)

    # Reusing

    def reuse(self, definition: Definition, run: Run) -> bool:
        """Look for a result to reuse, and give it to the run; return whether there is one."""
        found = self.search(run, _COMPLETED)
        if found.loaded is None:
            return False
        if why := self._refusal(definition.options, run, found.loaded):
            run.why = why
            return False
        self.reused(run, found.loaded)
        data = results.digest_of(found.loaded.data)
        self.remember(run, run.result, found.loaded.version, data, is_decoded=definition.options.decode is not None)
        return True

    def _refusal(self, options: Options, run: Run, loaded: Loaded) -> str:
        """Give a run the result that a version holds, or return why it can't be reused."""
        if why := _expired(loaded, options.longest_age):
            return why
        try:
            value = payload.decode(loaded.data, self.codecs, loaded.contents)
        except CheckpointNotFoundError:
            return "the result was deleted while it was read"
        except (CheckpointError, MemoryError, TimeoutError):  # of the store, of the machine, and of a handler of a signal
            raise
        except Exception as error:  # noqa: BLE001  # whatever a codec of the caller's raises
            return self._failure("a codec", error, run, loaded)
        if options.check is not None and (why := options.check(value)):
            return why
        what = "decode="
        try:
            run.result = value if options.decode is None else options.decode(value)
            what = "validate="
            is_valid = options.validate is None or options.validate(run.result)
        except Exception as error:  # noqa: BLE001  # whatever a function of the caller's raises
            return self._failure(what, error, run, loaded)
        if type(is_valid).__name__ not in {"bool", "bool_"}:  # that of numpy, too
            given = with_article(type(is_valid).__qualname__)
            raise TypeError(f"stage {printable(run.stage)}: validate= must return True or False, and returned {given}")
        return "" if is_valid else f"validate= refused version {loaded.version}"

    def _failure(self, what: str, error: Exception, run: Run, loaded: Loaded) -> str:
        """Warn once that a function of the caller's failed on a version, and return that as a reason."""
        why = f"{what} raised {type(error).__qualname__} for version {loaded.version}"
        if self._is_first(run.stage, why):
            _LOG.warning("%s: %s, so it runs again", printable(run.stage), why)
        return why

    def remember(self, run: Run, value: object, version: int, data: str, *, is_decoded: bool = False) -> None:
        """Remember which version a result is, for when it is passed on, and in the run that this one was called in.

        Args:
            run: The run.
            value: The result.
            version: The version.
            data: The digest of the version's data.
            is_decoded: Whether ``decode=`` returned the value.
        """
        result = Result(self.store_id, run.stage, run.note.function, version, run.note.call, data)
        results.remember(value, result, self.codecs, is_decoded=is_decoded)
        active = (each for each in self._enclosing() if each is not run and each.lock is not None and each.lock.is_held)
        around = next(active, None)
        if around is not None and around.stage != run.stage:
            note = InputNote("", run.stage, version, result.call, data)
            around.add_input(note if around.is_function else replace(note, call="", data=""))  # a loop may call it often

    def search(self, run: Run, kinds: Collection[Status]) -> Match:
        """Find the newest version that matches, and note why there is none, or why the newest of all does not match."""
        found = self._lookup.find(run.stage, run.note, kinds)
        run.why, run.is_code_changed = found.why, found.is_code_changed
        loaded = found.loaded
        if loaded is not None and found.has_unknown_code and self._is_first(run.stage, "unknown code"):
            message = "%s: version %d was saved without its code, and is used: it is unknown whether the code has changed since"
            _LOG.warning(message, printable(run.stage), loaded.version)
        return found

    def search_shorter(self, run: Run, items: Sequence[Any], kinds: Collection[Status]) -> Match | None:
        """Look for the newest version of a loop over the items that these begin with."""
        for count in self._lookup.counts_of_items(run.stage):
            if 0 < count < len(items):
                shorter = {**run.note.arguments, "items": digest(items[:count], "items", "", self.location, codecs=self.codecs)}
                note = replace(run.note, arguments=shorter)
                found = self._lookup.find(run.stage, note, kinds)
                if found.loaded is not None:
                    return found
        return None

    def reused(self, run: Run, loaded: Loaded) -> None:
        """Record that a completed version was reused in place of a run."""
        self.ended(run, "reused", loaded.version, run.seconds)
        _LOG.info("%s: reused version %d (saved %s)", printable(run.stage), loaded.version, ago(loaded.entry.created_at))

    # Saving

    def save_result(self, definition: Definition, run: Run) -> None:
        """Save a function's result. With ``decode``, the run returns what later calls will return: the decoded result.

        Raises:
            ResultNotSavedError: That failed, or it could not be decoded again; the error carries the result.
        """

        def encoded() -> Draft:
            value = run.result if options.encode is None else options.encode(run.result)
            result = draft(run.stage, value, None, codecs=self.codecs)
            if options.decode is not None:
                held = None if result.embedded is None else result.embedded.hold()
                result = result if held is None else result._replace(data=held.data(), embedded=held)
                decoded.append(options.decode(payload.decode(result.data, self.codecs, held)))
            return result

        options = definition.options
        decoded: list[Any] = []
        version, data = self.complete(run, encoded)
        run.result = decoded[0] if decoded else run.result
        self.remember(run, run.result, version, data, is_decoded=bool(decoded))

    def complete(self, run: Run, result_of: Callable[[], Draft], notes: Mapping[str, Any] | None = None) -> tuple[int, str]:
        """Save the result of a run as its completed version, and delete its progress, which is no longer needed.

        Returns:
            The number of the version, and the digest of its data.

        Raises:
            ResultNotSavedError: That failed; the error carries the result.
        """
        seconds = run.seconds
        took = duration(seconds)
        if run.lock is not None and run.lock.lost:
            message = "%s: %s while it ran, so another process may have run it too; its result is saved all the same"
            _LOG.warning(message, printable(run.stage), run.lock.lost)
        try:
            result = result_of()
            if result.embedded is not None:
                result.embedded.identify()
            version = self.save(run.stage, result._replace(metadata={**run.notes(), **(notes or {})}))
        except Exception as error:
            self.ended(run, "unsaved", None, seconds)
            why = error.message if isinstance(error, CheckpointError) else f"{type(error).__qualname__} was raised"
            message = f"stage {printable(run.stage)} ran for {took}, and its result could not be saved: {why}"
            hint = "Take the result from the attribute result of this error, and save it elsewhere"
            if isinstance(error, CheckpointError) and error.hint:
                ways = (
                    "Or give the stage encode= and decode=, or" if isinstance(error, PayloadError) and run.is_function else "Or"
                )
                hint = f"{error.hint}. {ways} take the result from the attribute result of this error, and save it elsewhere"
            raise ResultNotSavedError(message, hint=hint, stage=run.stage, result=run.result) from error
        self.ended(run, "ran", version, seconds)
        _LOG.info("%s: ran in %s, saved version %d (%s)", printable(run.stage), took, version, run.why)
        self.delete_progress(run, run.superseded)
        return version, results.digest_of(result.data if result.embedded is None else result.embedded.data())

    def save(self, stage: str, version: Draft) -> int:
        """Append a version and return its number; errors as for ``save_checkpoint``."""
        if version.embedded is None:
            return save(self._store, stage, version).number
        with _operations.attach.attached(self._store, stage, version) as whole:
            return save(self._store, stage, whole).number

    def delete_progress(self, run: Run, versions: Sequence[int]) -> list[int]:
        """Delete versions that are ``progress`` of this run, or of a loop in it; return those that are left for later.

        The result does not depend on them, so a failure is not an error: they are kept, and tried again.
        """
        there: list[int] = []
        digests = {run.note.digest, *(note.digest for note in run.loops)}
        try:
            gaps, _ = self._store.gaps(run.stage)
            tags = tag.certain(self._store, run.stage)
            there = [
                version
                for version in versions
                if version not in gaps and not tags.of(version) and self._is_progress(run.stage, version, digests)
            ]
            if there:
                delete_versions(self._store, run.stage, there)
        except CheckpointError as error:
            _LOG.debug("%s: superseded progress is left: %s", printable(run.stage), error)
            return there
        return []

    def _is_progress(self, stage: str, version: int, digests: Collection[str]) -> bool:
        try:
            entry = self._store.entry(stage, version)
        except (VersionAbsentError, IntegrityError):  # deleted already, or damaged: that stays as evidence
            return False
        note = read_note(entry.metadata)
        return entry.status == "progress" and note is not None and note.digest in digests

    def save_failure(self, run: Run, error: Exception, *, is_last: bool) -> None:
        """Save an exception as a ``failed`` version; if that fails, a WARNING says so."""
        if isinstance(error, FailedCallError):
            kind, message, failure = error.kind, error.message, error.record
        else:
            kind, message = type(error).__qualname__, _encodable(str(error))
            trace = _encodable("".join(traceback.format_exception(error)))
            failure = {"type": kind, "message": message, "traceback": trace}
        shown = FailureNote(
            kind, message[:_MAX_MESSAGE_CHARACTERS], run.attempt, run.attempts
        )  # for a listing, which reads no data
        version, seconds = None, run.seconds
        try:
            result = draft(run.stage, failure, None, status="failed")
            metadata = {**run.notes(), FAILURE: shown.as_metadata()}
            version = self.save(run.stage, result._replace(metadata=metadata))
        except CheckpointError as unsaved:
            _LOG.warning("%s: failed, and that could not be saved: %s", printable(run.stage), unsaved)
        self.ended(run, "failed" if is_last else "retried", version, seconds)
        again = "" if is_last else f"; attempt {run.attempt + 1} of {run.attempts} begins in {duration(run.pause)}"
        _LOG.info("%s: failed after %s (%s)%s", printable(run.stage), duration(seconds), kind, again)
        run.why = f"attempt {run.attempt + 1} of {run.attempts}"

    def ended(self, run: Run, what: What, version: int | None, seconds: float) -> None:
        """Add the outcome of a run that took so long to the report."""
        self.outcomes.append(Outcome(run.stage, what, version, seconds, run.why))
        if version is not None and what in {"reused", "ran"}:
            self.used[run.stage] = version


def _expired(loaded: Loaded, expires: timedelta | None) -> str:
    """Return why a version is too old to be reused, or dated in the future by a wrong clock; empty if it is not."""
    if expires is None:
        return ""
    age = datetime.now(UTC) - loaded.entry.created_at
    if age < -CLOCK_TOLERANCE:
        return f"version {loaded.version} is dated in the future"
    return f"version {loaded.version} has expired: saved {ago(loaded.entry.created_at)}" if age > expires else ""


def reopened(arguments: dict[str, Any], open_again: Callable[[], Runner]) -> Runner:
    """Return the runner of a stage that came from another process: one for all stages of a store, while one of them lives.

    Args:
        arguments: Those of the manager.
        open_again: Opens the store.
    """
    key = pickle.dumps(arguments)
    known = _reopened.get(key)
    return _reopened.setdefault(key, open_again()) if known is None else known


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
