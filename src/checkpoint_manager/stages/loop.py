"""A stage that takes long: its loop goes on where it was killed, and its state is the result in the end."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
from collections.abc import AsyncIterable, Iterable, Sized
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from checkpoint_manager._format import payload
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.errors import CheckpointError, FingerprintError
from checkpoint_manager.models import display
from checkpoint_manager.stages.display import Display, open_display
from checkpoint_manager.stages.display import items as count
from checkpoint_manager.stages.fingerprint import digest
from checkpoint_manager.stages.lookup import PROGRESS, Match, mismatch
from checkpoint_manager.stages.pacing import Pace
from checkpoint_manager.stages.progress import ProgressLog
from checkpoint_manager.stages.report import ago, duration
from checkpoint_manager.stages.runner import Call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType
    from typing import Self

    from checkpoint_manager.models import Status
    from checkpoint_manager.stages.runner import Runner

_LOG = logging.getLogger("checkpoint_manager")
_KINDS: tuple[Status, ...] = ("completed", "progress")
_ORDERED = {list, tuple, range}

T = TypeVar("T")
S = TypeVar("S")


def note_of(items: object, initial: object, *, revision: int | str, key: object) -> dict[str, Any]:
    """Return what progress and result will be the progress and result of.

    Raises:
        FingerprintError: It can't be told whether the items, or the key, are the same as before, and in the same order.
    """
    if isinstance(items, set | frozenset):
        raise FingerprintError("items is a set, which has no order", hint="Pass sorted(items)")
    if key is None and type(items) not in _ORDERED:
        message = f"items is a {type(items).__name__}, which can't be compared with later runs"
        raise FingerprintError(message, hint="Pass a list, or key=, a value that changes when the items do")
    arguments = {"start": digest(initial, "initial", "Pass JSON")}
    if key is None:
        hint = "Pass key=, a value that changes when the items do"
        return {"version": revision, "arguments": {**arguments, "items": digest(items, "items", hint)}}
    arguments["key"] = digest(key, "key", "Pass text or a number")
    if isinstance(items, Sized):
        arguments["number of items"] = str(len(items))
    return {"version": revision, "arguments": arguments}


class Loop(Generic[T, S]):
    """What ``cm.loop`` gives: a ``with`` block around one loop over the items that are not done yet.

    ::

        with cm.loop("embed", texts, initial=[]) as progress:
            for text in progress:  # or ``async for``, over an async iterable
                progress.state.append(embed(text))
        vectors = progress.result

    In the block, ``state`` is where the loop was when it was last saved. After the block, ``result`` is the state in the end.
    If the stage is complete already, the loop has nothing to do, ``reused`` is true, and ``result`` is what is kept, whatever
    the block does to ``state``. Code in the block beside the loop runs each time.

    **What is saved** is the state between two items, never in the middle of one: as a ``progress`` version, after so many
    items, or when it is time, so seldom that saving takes a few per cent of the time. Killed, the loop repeats the items since
    then. An exception, Ctrl-C and ``break`` save first. As the item at hand may be half done then, it is the last copy of the
    state that is saved; one is made after each item, or less often where that would slow the loop by more than two per cent.
    In the end the state becomes the completed version, and the progress is deleted. If saving progress fails, a WARNING says
    so and the loop goes on; the items are done one after the other, so to work on several at once, loop over batches of them.

    **What it is compared by**: the items in their order (or ``key`` and how many there are), ``initial`` and ``revision``.
    Progress of something else is never used, and a WARNING says so. The code itself is not compared.

    **Several processes** that reach the stage run it once: the others wait and take the result; if the one that runs is killed,
    another goes on with its progress. It is for the thread that loops; others may look at ``done``.

    **In a function that is a stage of the same name**, what the function returns becomes the completed version, and its
    arguments count as well: called again after a kill or an exception, it runs from its beginning to its loop, which then goes
    on.

    Attributes:
        state: The state, to be changed in place or replaced.
    """

    state: S

    def __init__(
        self,
        runner: Runner,
        call: Call,
        items: Iterable[T] | AsyncIterable[T],
        initial: bytes,
        pace: Pace,
        *,
        timeout: float,
        bar: bool,
    ) -> None:
        self._runner, self._call, self._items, self._initial = runner, call, items, initial
        self._total = len(items) if isinstance(items, Sized) else None
        self._timeout, self._bar = timeout, bar
        self._progress = ProgressLog(runner, call, self._total, pace)
        self._around: Call | None = None
        self._display: Display | None = None
        self._resources = contextlib.ExitStack()
        self._phase, self._process = "new", os.getpid()
        self._done = 0
        self._over = self._reused = False

    # What callers see

    @property
    def done(self) -> int:
        """How many items are done, those of earlier runs included."""
        return self._done

    @property
    def total(self) -> int | None:
        """How many items there are; None: nobody knows."""
        return self._total

    @property
    def reused(self) -> bool:
        """True if the stage was complete before the block: its loop has nothing to do."""
        return self._reused

    @property
    def result(self) -> S:
        """The state in the end, as it is kept; there once the block has ended.

        Raises:
            CheckpointError: The block has not ended, or was left before its loop did.
        """
        if self._phase != "ended with a result":
            why = "it was left before its last item" if self._phase == "ended" else "its with block has not ended yet"
            self._refuse(f"has no result: {why}", hint="Run it to its end, or call finish() if the rest is not needed")
        return self.state

    def finish(self) -> None:
        """Say that what is left is not needed: the block may be left by ``break``, and its state is the result."""
        self._over = True

    # The block

    def __enter__(self) -> Self:
        """Look for what is there: the result, or progress to go on from.

        Raises:
            LockTimeoutError: Another process runs this stage, and ``wait`` is False.
            CheckpointError: The loop has been used before, or runs inside itself.
        """
        if self._phase != "new":
            self._refuse("was used before", hint="Call cm.loop again")
        around = self._runner.current(self._call.stage)
        with contextlib.ExitStack() as resources:
            if around is not None and around.is_function:
                self._join(around)
            found = self._runner.search(self._call, _KINDS)
            if self._around is None and not _is_complete(found):
                resources.enter_context(self._runner.exclusively(self._call.stage, self._timeout))
                found = self._runner.search(self._call, _KINDS)  # who held the lock may have completed it
                resources.enter_context(self._runner.marked(self._call))
            self._begin(found)
            self._resources = resources.pop_all()
        self._phase = "begun"
        return self

    def _join(self, around: Call) -> None:
        """Be a part of the call of a stage of the same name: its arguments count, and its version completes it."""
        self._around = around
        self._call.note["within"] = around.note
        if self._call.note in around.loops:
            self._refuse("stands twice in its function, for the same items and initial state", hint="Pass each another key=")
        around.loops.append(self._call.note)

    def _begin(self, found: Match) -> None:
        loaded = found.loaded
        self._reused = self._over = _is_complete(found)
        self._progress.begin(self._initial, None if self._reused else loaded)
        if loaded is not None and self._reused:
            self._runner.reused(self._call, loaded)
            self._kept = loaded.data
            self._done = self._total or 0
            self.state = payload.decode(self._kept)
        else:
            self._done, self._over = self._progress.reached.position
            self.state = payload.decode(self._progress.reached.data)
        if loaded is not None and not self._reused:
            reached = count(self._done, self._total)
            self._call.why = f"went on after {reached}"
            where = f"version {loaded.version}, saved {ago(loaded.entry.created_at)}"
            _LOG.info("%s: goes on after %s (%s)", display(self._call.stage), reached, where)
        elif found.passed is not None:
            version, entry = found.passed
            reached = count(entry.metadata[PROGRESS]["done"], entry.metadata[PROGRESS]["total"])
            why = mismatch(entry, self._call.note)
            message = "%s: begins anew: version %d, which got to %s, is of no use (%s)"
            _LOG.warning(message, display(self._call.stage), version, reached, why)
        self._display = None if self._over else open_display(self._call.stage, self._done, self._total, bar=self._bar)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Save the result, or how far it got.

        Raises:
            ResultNotSavedError: The loop is done, and the result could not be saved; the error carries it.
        """
        self._phase = "ended"
        if os.getpid() != self._process:  # a child that was forked in the block: the loop is its parent's
            return
        try:
            if self._display is not None:
                self._display.end()
            if self._reused:
                self.state = payload.decode(self._kept)  # whatever the block did to it
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
        finally:
            self._resources.close()

    def _complete(self) -> None:
        self._call.result, self._call.superseded = self.state, self._progress.kept
        try:
            self._runner.complete(self._call, lambda: self.state)
        except BaseException:  # Ctrl-C, too
            self._progress.save()  # at least how far the loop got
            raise

    def _leave(self, error: BaseException | None) -> None:
        self._progress.save()
        reached = count(self._progress.reached.done, self._total)
        version = self._progress.kept[-1] if self._progress.kept else None
        kept = f"version {version} goes on after {reached}" if version else "nothing to go on from"
        took, stage = duration(self._call.seconds), display(self._call.stage)
        if error is None:
            _LOG.info("%s: left after %s, %s", stage, took, kept)
        else:
            _LOG.info("%s: failed after %s (%s), %s", stage, took, type(error).__qualname__, kept)
        if self._around is None:
            self._runner.ended(self._call, "stopped" if error is None else "failed", version)

    # The loop

    def __iter__(self) -> Iterator[T]:
        """Yield the items that are not done yet. An item is done when the next one is asked for."""
        self._begin_loop()
        if not self._over:
            remaining = iter(self._items)  # type: ignore[arg-type]  # an async iterable says itself that it is none
            skipped = sum(1 for _ in itertools.islice(remaining, self._done))
            if skipped < self._done:
                self._refuse_fewer(skipped)
            for item in remaining:
                yield item
                self._item_done()
            self._end_loop()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield the items that are not done yet, of an async iterable."""
        self._begin_loop()
        if not self._over:
            skipped, before = 0, self._done
            async for item in self._items:  # type: ignore[union-attr]  # likewise
                if skipped < before:
                    skipped += 1
                    continue
                yield item
                self._item_done()
            if skipped < before:
                self._refuse_fewer(skipped)
            self._end_loop()

    def _begin_loop(self) -> None:
        if self._phase != "begun":
            self._refuse("was looped over before, or outside of its with block", hint="Loop over it once, in its with block")
        self._phase = "looping"

    def _item_done(self) -> None:
        if self._phase != "looping" or os.getpid() != self._process:
            self._refuse("goes on outside of its with block, or in a child process", hint="Loop over it in its with block")
        self._done += 1
        self._progress.after_item(self.state, self._done)
        if self._display is not None:
            self._display.at(self._done)

    def _end_loop(self) -> None:
        self._over = True
        self._progress.copy(self.state, self._done, complete=True)

    def _refuse_fewer(self, there: int) -> NoReturn:
        self._refuse(f"has only {there} items now, and {self._done} are done", hint="Pass the same items, or another key=")

    def _refuse(self, why: str, *, hint: str) -> NoReturn:
        raise CheckpointError(f"the loop {display(self._call.stage)} {why}", hint=hint, stage=self._call.stage)


def make_loop(  # noqa: PLR0913  # all but three are choices, by name
    runner: Runner,
    stage_name: str,
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    initial: object,
    every_seconds: float,
    every_items: int | None,
    revision: int | str,
    key: object,
    wait: bool,
    bar: bool,
) -> Loop[Any, Any]:
    """Return a loop that has not begun; the arguments are those of :meth:`CheckpointManager.loop`."""
    stage = validate(stage_name)
    if not (every_seconds >= 0 and (every_items is None or every_items >= 1)):
        raise ValueError("every_seconds must be 0 or more, and every_items 1 or more")
    encoded = payload.encode(initial, stage=stage, what="initial state")
    call = Call(stage, note_of(items, initial, revision=revision, key=key), is_function=False)
    return Loop(runner, call, items, encoded, Pace(every_seconds, every_items), timeout=math.inf if wait else 0, bar=bar)


def _is_complete(found: Match) -> bool:
    return found.loaded is not None and found.loaded.entry.status == "completed"
