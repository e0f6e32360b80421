"""A loop as a stage: it resumes where it was interrupted, and its final state is the result."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import AsyncIterable, Iterable, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeAlias, TypeVar

from checkpoint_manager import stages
from checkpoint_manager._format import payload
from checkpoint_manager._format.codecs import NO_CODECS
from checkpoint_manager._format.notes import Note, check_revision, read_inputs
from checkpoint_manager._operations.save import draft
from checkpoint_manager._text import printable, with_article
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.errors import ArgumentError, CheckpointError, FingerprintError
from checkpoint_manager.stages import stopping
from checkpoint_manager.stages.deadlock import current_task
from checkpoint_manager.stages.display import Display, can_show_bar, open_display
from checkpoint_manager.stages.display import items as count
from checkpoint_manager.stages.fingerprint import digest
from checkpoint_manager.stages.lookup import Match, mismatch
from checkpoint_manager.stages.options import patience
from checkpoint_manager.stages.pacing import Pace
from checkpoint_manager.stages.progress import ProgressLog, Snapshot, snapshot_of
from checkpoint_manager.stages.report import ago, duration
from checkpoint_manager.stages.results import digest_of
from checkpoint_manager.stages.run import Run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType
    from typing import Self

    from checkpoint_manager._format.codecs import Codecs
    from checkpoint_manager.models import Status
    from checkpoint_manager.stages.report import What
    from checkpoint_manager.stages.results import Result
    from checkpoint_manager.stages.run_lock import RunLock
    from checkpoint_manager.stages.runner import Runner

_LOG = logging.getLogger("checkpoint_manager")
_KINDS: tuple[Status, ...] = ("completed", "progress")
_ORDERED = {list, tuple, range}
_TELL_SECONDS, _SHARE_OF_TELLING = 0.5, 0.01

T = TypeVar("T")
S = TypeVar("S")
Items: TypeAlias = "Iterable[T] | AsyncIterable[T] | Callable[[int], Iterable[T] | AsyncIterable[T]]"
"""What a loop goes over, or a function that returns the rest of it, from so many items on."""


def note_of(
    items: object,
    initial: object,
    *,
    revision: int | str,
    key: object,
    location: str,
    used: list[Result] | None = None,
    codecs: Codecs = NO_CODECS,
) -> Note:
    """Return the note that identifies the loop: progress and results are reused only for the same note.

    The list ``used`` receives the results of stages that the items are or contain.

    Raises:
        FingerprintError: It can't be told whether the items, or the key, are the same as before, and in the same order.
    """
    if isinstance(items, set | frozenset):
        raise FingerprintError("items is a set, which has no order", hint="Pass sorted(items)")
    if key is None and callable(items):
        hint = "Pass key=, a value that changes when the items do"
        raise FingerprintError("items is a function, whose items can't be compared with later runs", hint=hint)
    if key is None and type(items) not in _ORDERED:
        message = f"items is {with_article(type(items).__name__)}, which can't be compared with later runs"
        raise FingerprintError(message, hint="Pass a list, or key=, a value that changes when the items do")
    arguments = {"start": digest(initial, "initial", "Pass what can be compared", codecs=codecs)}
    if key is None:
        hint = "Pass key=, a value that changes when the items do"
        return Note(revision, {**arguments, "items": digest(items, "items", hint, location, used=used, codecs=codecs)})
    arguments["key"] = digest(key, "key", "Pass text or a number", location, codecs=codecs)
    if isinstance(items, Sized):
        arguments["number of items"] = str(len(items))
    return Note(revision, arguments)


class Loop(Generic[T, S]):
    """A ``with`` block around one loop over the items that are not done yet, returned by ``cm.loop``.

    ::

        with cm.loop("embed", texts, initial=[]) as progress:
            for text in progress:
                progress.state.append(embed(text))
        vectors = progress.result

    At the start of the block, ``state`` is the last saved state; after the block, ``result`` is the final state. If the stage
    is already complete, the loop has no items left, ``reused`` is true, and ``result`` is the saved result, whatever the block
    does to ``state``. Code in the block outside the loop runs each time. In a coroutine, use ``async with``, and ``async for``
    over an async iterable.

    **What is saved.** The state between two items is saved as a ``progress`` version: after every N items, or at intervals that
    keep the cost of saving at a few per cent of the time, and after an item in which the block calls ``save()``. After a kill,
    the loop repeats the items since the last save. An exception, ``break``, Ctrl-C or SIGTERM saves first. Since an item may be
    half done at that moment, the last copy of the state is saved. A number, a text, and a list or dict of up to eight of them
    are copied after each item; other states, too, or less often if that would slow the loop by more than two per cent: then an
    exception repeats some of the last, quick items. On Ctrl-C and SIGTERM, a loop whose last copy is older first ends its item
    and saves the state after it; a second signal interrupts at once (:mod:`checkpoint_manager.stages.stopping`). After SIGTERM,
    the process dies of that signal; a handler of your own is left alone. At the end, the state becomes the completed version,
    and the progress is deleted. If saving progress fails, the loop logs a WARNING and continues. Items are processed one after
    the other: to process several at once, loop over batches.

    **What is compared.** The items in their order (or ``key`` and their number), ``initial`` and ``revision``. Progress of
    other items is not used, and a WARNING says so. If a list, tuple or range begins with the items of an earlier run, the loop
    continues with the new ones, from the state after the old ones. The code is not compared.

    **Where it resumes.** Items that are done are skipped. For a source that can start anywhere, pass a function of the number
    of items done, which returns the items from there on: ``lambda start: rows(offset=start)``.

    **Several processes.** If several processes reach the same loop, one of them runs it and the others wait for the result; if
    that one is killed, another continues from its progress. A loop over other items runs at the same time. Only the looping
    thread may use the loop; other threads may read ``done``.

    **Inside a stage of the same name,** the function's return value becomes the completed version, and its arguments are
    compared, too. Called again after a kill or an exception, the function runs from its beginning, and the loop continues.

    Attributes:
        state: The state, to be changed in place or replaced.
    """

    state: S

    def __init__(
        self,
        runner: Runner,
        run: Run,
        items: Items[T],
        initial: Snapshot,
        pace: Pace,
        *,
        timeout: float,
        bar: bool,
    ) -> None:
        self._runner, self._run, self._items, self._initial = runner, run, items, initial
        given: object = items
        self._total = len(given) if isinstance(given, Sized) else None
        self._timeout, self._bar = timeout, bar
        self._progress = ProgressLog(runner, run, self._total, pace)
        self._around: Run | None = None
        self._display: Display | None = None
        self._lock: RunLock | None = None
        self._found = Match(None)
        self._phase, self._process = "new", os.getpid()
        self._done = 0
        self._next_tell = 0.0
        self._over = self._reused = False
        self._is_between = self._is_save_wanted = self._is_longer = False

    # What callers see

    @property
    def done(self) -> int:
        """The number of items done, including those of earlier runs."""
        return self._done

    @property
    def total(self) -> int | None:
        """The number of items, or None if unknown."""
        return self._total

    @property
    def reused(self) -> bool:
        """True if the stage was complete before the block: its loop has nothing to do."""
        return self._reused

    @property
    def result(self) -> S:
        """The final state, as it was saved. Available once the block has ended.

        Raises:
            CheckpointError: The block has not ended, or was left before its loop did.
        """
        if self._phase != "ended with a result":
            why = "it was left before its last item" if self._phase == "ended" else "its with block has not ended yet"
            self._refuse(f"has no result: {why}", hint="Run it to its end, or call finish() if the rest is not needed")
        return self.state

    @property
    def is_copied(self) -> bool:
        """Whether the newest state between two items is copied: an exception now would lose nothing but the current item."""
        if self._phase != "looping":
            return self._phase == "begun" or self._reused
        return not self._is_between and self._progress.done == self._done

    def save(self) -> None:
        """Save the state when the current item is done, whatever ``every_seconds`` says; before the loop, this does nothing."""
        self._is_save_wanted = True

    def finish(self) -> None:
        """Declare that the remaining items are not needed: the loop may be left by ``break``, and its state is the result."""
        self._over = True

    # The block

    def __enter__(self) -> Self:
        """Look for the result, or for progress to continue from.

        Raises:
            LockTimeoutError: Another run of the same loop is under way, and was not done in the time that ``wait`` gives it.
            CheckpointError: The loop was used before, or runs inside itself; or it would have to wait in an event loop.
        """
        self._check_new()
        try:
            if self._is_missing():
                self._acquire()
                self._found = self._search()  # the run that held the lock may have completed it
            self._restore()
            self._begin()
        except BaseException:
            self._close()
            raise
        return self

    async def __aenter__(self) -> Self:
        """Enter as ``with`` does, but let the event loop run while this waits, for the disk or another run."""
        self._check_new()
        acquire, in_thread = stages.acquire, stages.in_thread  # load asyncio, if nothing has: not while a lock is held
        try:
            if await in_thread(self._is_missing):
                self._lock = self._runner.lock(self._run, is_blocking=False)
                await acquire(self._lock, self._timeout, self._runner.log_waiting)
                self._found = await in_thread(self._search)  # the run that held the lock may have completed it
            await in_thread(self._restore)
            self._begin()
        except BaseException:
            self._close()
            raise
        return self

    def _check_new(self) -> None:
        if self._phase != "new":
            self._refuse("was used before", hint="Call cm.loop again")
        self._phase = "beginning"

    def _is_missing(self) -> bool:
        """Search for a version, and return whether the loop has to run, and for that to take its lock."""
        around = self._runner.enclosing(self._run.stage)
        if around is not None and around.is_function:
            self._join(around)
        self._found = self._search()
        return self._around is None and not self._found.is_complete

    def _search(self) -> Match:
        """Search for a version of these items, or else of those that they begin with: a list may have been appended to."""
        self._is_longer = False
        found = self._runner.search(self._run, _KINDS)
        if found.loaded is None and type(self._items) in _ORDERED and "items" in self._run.note.arguments:
            shorter = self._runner.search_shorter(self._run, self._items, _KINDS)  # type: ignore[arg-type]
            if shorter is not None:
                self._is_longer = True
                return shorter
        return found

    def _join(self, around: Run) -> None:
        """Join the call of a stage of the same name: its arguments are compared, too, and its version completes the loop."""
        self._around = around
        self._run.note = replace(self._run.note, within=around.note)
        if self._run.note in around.loops:
            self._refuse("stands twice in its function, for the same items and initial state", hint="Pass each another key=")
        around.loops.append(self._run.note)

    def _acquire(self) -> None:
        in_task = current_task() is not None
        self._lock = self._runner.lock(self._run, is_blocking=not in_task)
        if not in_task:
            self._lock.acquire(self._timeout, self._runner.log_waiting)
            return
        refused = self._lock.try_acquire()
        if refused is not None and self._timeout <= 0:
            raise refused
        if refused is not None:
            who = refused.holder or "another process"
            self._refuse(f"is run by {who}, and waiting for it would block the event loop", hint="Use async with")

    def _restore(self) -> None:
        """Set the state to what was found, or to the initial one. An array in it may take long to read."""
        found, loaded = self._found, self._found.loaded
        self._reused = self._over = found.is_complete and not self._is_longer
        self._progress.begin(self._initial, None if self._reused else loaded, is_longer=self._is_longer)
        reached = loaded if loaded is not None and self._reused else self._progress.reached
        self.state = payload.decode(reached.data, self._runner.codecs, reached.contents)
        if not self._reused:
            self._tell(self._progress.reached.done)

    def _tell(self, done: int) -> None:
        """Tell other processes how far the loop is, at a small share of the time."""
        lock = self._lock if self._around is None else self._around.lock
        began = time.monotonic()
        if lock is not None:
            lock.tell(done, self._total)
        took = time.monotonic() - began
        self._next_tell = began + max(_TELL_SECONDS, took / _SHARE_OF_TELLING)

    def _begin(self) -> None:
        if self._lock is not None:
            self._runner.begin(self._run, self._lock)
        found, loaded = self._found, self._found.loaded
        if loaded is not None and self._reused:
            self._runner.reused(self._run, loaded)
            self._done = self._total or 0
        else:
            for note in () if loaded is None else read_inputs(loaded.entry.metadata):
                self._run.add_input(note)
            self._done, self._over = self._progress.reached.position
            self._log_beginning(found)
        self._display = None if self._over else open_display(self._run.stage, self._done, self._total, bar=self._bar)
        stopping.begin(self)
        self._phase = "begun"

    def _log_beginning(self, found: Match) -> None:
        stage = printable(self._run.stage)
        if found.loaded is not None:
            reached = count(self._done, self._total)
            self._run.why = f"continued after {reached}"
            where = f"version {found.loaded.version}, saved {ago(found.loaded.entry.created_at)}"
            _LOG.info("%s: continues after %s (%s)", stage, reached, where)
        elif found.other is not None:
            reached = count(found.other.progress.done, found.other.progress.total)
            why = mismatch(found.other.entry, self._run.note)
            message = "%s: starts from the beginning: version %d, which got to %s, does not match (%s)"
            _LOG.warning(message, stage, found.other.version, reached, why)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Save the result, or the progress.

        Raises:
            ResultNotSavedError: The loop is done, and the result could not be saved; the error carries it.
        """
        self._phase = "ended"
        if os.getpid() != self._process:  # a child that was forked in the block: the loop is its parent's
            return
        try:
            self._finish(error)
        finally:
            self._close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Exit as ``with`` does, but let the event loop run while this saves."""
        self._phase = "ended"
        if os.getpid() != self._process:
            return
        try:
            if isinstance(error, GeneratorExit):  # the coroutine is closed, and can't wait any more
                self._finish(error)
            else:
                await stages.in_thread(self._finish, error)
                if self._lock is not None:
                    await stages.in_thread(self._lock.release)
        finally:
            self._close()

    def _finish(self, error: BaseException | None) -> None:
        """Save the result, or the progress; see :meth:`__exit__`."""
        if self._display is not None:
            self._display.close()
        if self._reused and self._found.loaded is not None:
            loaded = self._found.loaded
            self.state = payload.decode(loaded.data, self._runner.codecs, loaded.contents)  # whatever the block did to it
            self._runner.remember(self._run, self.state, loaded.version, digest_of(loaded.data))
        elif error is not None or not self._over:
            self._leave(error)
        elif self._around is not None:
            if not self._progress.reached.complete:  # by finish()
                self._progress.copy(self.state, self._done, complete=True)
            self._progress.save()
            self._around.superseded += self._progress.kept
        else:
            self._complete()
        if error is None and self._over:
            self._phase = "ended with a result"

    def _close(self) -> None:
        """Release what the block holds. May be called again."""
        lock, self._lock = self._lock, None
        try:
            self._runner.end(self._run)
        finally:
            try:
                if lock is not None:
                    lock.release()
            finally:
                stopping.end(self)

    def _complete(self) -> None:
        self._run.result, self._run.superseded = self.state, self._progress.kept
        try:
            version, data = self._runner.complete(
                self._run,
                lambda: draft(self._run.stage, self.state, None, codecs=self._runner.codecs),
                self._progress.ending(self._done),
            )
            self._runner.remember(self._run, self.state, version, data)
        except BaseException:  # Ctrl-C, too
            self._progress.save()  # save at least the progress
            raise

    def _leave(self, error: BaseException | None) -> None:
        self._progress.save()
        reached = count(self._progress.reached.done, self._total)
        version = self._progress.kept[-1] if self._progress.kept else None
        kept = f"version {version} continues after {reached}" if version else "nothing to continue from"
        seconds, stage = self._run.seconds, printable(self._run.stage)
        took = duration(seconds)
        what: What = "failed" if isinstance(error, Exception) else "stopped"
        if error is None:
            _LOG.info("%s: left after %s, %s", stage, took, kept)
        else:
            _LOG.info("%s: %s after %s (%s), %s", stage, what, took, stopping.name_of(error), kept)
        if self._around is None:
            self._runner.ended(self._run, what, version, seconds)

    # The loop

    def __iter__(self) -> Iterator[T]:
        """Yield the items that are not done yet. An item is done when the next one is asked for."""
        self._begin_loop()
        if not self._over:
            remaining = iter(self._source())  # type: ignore[arg-type]  # an async iterable says itself that it is none
            skipped = self._done if callable(self._items) else sum(1 for _ in itertools.islice(remaining, self._done))
            if skipped < self._done:
                self._refuse_fewer(skipped)
            for item in remaining:
                yield item
                if self._item_done():
                    self._progress.save()
                if time.monotonic() >= self._next_tell:
                    self._tell(self._done)
                self._between_items()
            self._end_loop()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the items that are not done yet, of any iterable, async or not, and let the event loop run while this saves."""
        self._begin_loop()
        in_thread = stages.in_thread
        if not self._over:
            before = self._done
            skipped = before if callable(self._items) else 0
            source = self._source()
            async for item in source if isinstance(source, AsyncIterable) else _each(source):
                if skipped < before:
                    skipped += 1
                    continue
                yield item
                if self._item_done():
                    await in_thread(self._progress.save)
                if time.monotonic() >= self._next_tell:
                    await in_thread(self._tell, self._done)
                self._between_items()
            if skipped < before:
                self._refuse_fewer(skipped)
            self._end_loop()

    def _source(self) -> Iterable[T] | AsyncIterable[T]:
        """Return the items: all of them, or from a function those that are not done."""
        return self._items(self._done) if callable(self._items) else self._items

    def _begin_loop(self) -> None:
        if self._phase != "begun":
            self._refuse("was already looped over, or is used outside its block", hint="Loop over it once, in its with block")
        self._phase = "looping"

    def _item_done(self) -> bool:
        """Count an item, and return whether to save now."""
        if self._phase != "looping" or os.getpid() != self._process:
            self._refuse("is used outside its with block, or in a child process", hint="Loop over it in its with block")
        self._is_between = True
        self._done += 1
        is_save_due = self._progress.after_item(self.state, self._done)
        is_save_wanted, self._is_save_wanted = self._is_save_wanted, False
        if is_save_wanted and self._progress.reached.done < self._done:
            self._progress.copy(self.state, self._done)
        return is_save_due or is_save_wanted

    def _between_items(self) -> None:
        """Stop here if a signal asked for it, with a copy of the state; otherwise go on to the next item."""
        is_stopping = stopping.is_pending()
        if is_stopping and self._progress.reached.done < self._done:
            self._progress.copy(self.state, self._done)
        self._is_between = False
        if is_stopping or stopping.is_pending():
            stopping.stop()
        if self._display is not None:
            self._display.update(self._done)

    def _end_loop(self) -> None:
        self._over = True
        self._progress.copy(self.state, self._done, complete=True)

    def _refuse_fewer(self, there: int) -> NoReturn:
        self._refuse(f"has only {there} items now, and {self._done} are done", hint="Pass the same items, or another key=")

    def _refuse(self, why: str, *, hint: str) -> NoReturn:
        raise CheckpointError(f"the loop {printable(self._run.stage)} {why}", hint=hint, stage=self._run.stage)


stopping.ends |= {Loop.__exit__.__code__, Loop.__aexit__.__code__}


async def _each(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


def make_loop(  # noqa: PLR0913  # all but three are choices, by name
    runner: Runner,
    stage_name: str,
    items: Items[Any],
    *,
    initial: object,
    every_seconds: float,
    every_items: int | None,
    revision: int | str,
    key: object,
    wait: float,
    bar: bool,
) -> Loop[Any, Any]:
    """Return a loop that is not started; the arguments are those of :meth:`CheckpointManager.loop`."""
    stage = validate(stage_name)
    check_revision(revision)
    if every_items is not None and every_items < 1:
        raise ArgumentError("every_items must be 1 or more, or None", argument="every_items")
    encoded = snapshot_of(initial, runner.codecs, stage, "initial state")
    used: list[Result] = []
    note = note_of(items, initial, revision=revision, key=key, location=runner.location, used=used, codecs=runner.codecs)
    run = Run(runner.store_id, stage, note, is_function=False, defined=runner.defined)
    runner.add_inputs(run, (("items", result) for result in used))
    pace = Pace(every_seconds, every_items)
    return Loop(runner, run, items, encoded, pace, timeout=patience(wait), bar=bar and can_show_bar())
