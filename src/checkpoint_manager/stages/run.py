"""One run of a stage, the function that it runs, and the failure that it may end with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format.note_keys import INPUTS, NOTE, RUN
from checkpoint_manager._format.notes import InputNote, Note, RunNote
from checkpoint_manager.stages.code import Code
from checkpoint_manager.stages.run_id import current_run

if TYPE_CHECKING:
    import contextvars
    import weakref
    from collections.abc import Callable, Sequence

    from checkpoint_manager._format.notes import CodeNote
    from checkpoint_manager.stages.options import Options
    from checkpoint_manager.stages.run_lock import RunLock

_MOST_INPUTS = 100
"""How many inputs a version names. Of more, only the newest of each stage is named."""


class FailedCallError(Exception):
    """A failure that provides the text to record, in place of a traceback.

    Args:
        kind: What a listing shows first, such as ``exit code 7``.
        message: What it shows after that.
        record: The data of the failed version.
        is_final: There is no point in another attempt.
    """

    def __init__(self, kind: str, message: str, record: dict[str, Any], *, is_final: bool = False) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind, self.message, self.record, self.is_final = kind, message, record, is_final


@dataclass(frozen=True)
class Definition:
    """A function that is a stage.

    Attributes:
        function: The function.
        stage: The stage's name.
        origin: Where the function comes from, see :mod:`checkpoint_manager.stages.identity`.
        options: The choices made at its decoration.
        code: The code of a function that another process has pickled by value; its source may not be here.
    """

    function: Callable[..., Any]
    stage: str
    origin: str
    options: Options
    code: CodeNote | None = None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle it with its present code."""
        code = (self.code or Code(self.function).note) if self.options.is_code_compared else None
        return Definition, (self.function, self.stage, self.origin, self.options, code)

    @property
    def revision(self) -> int | str:
        """The author's number or text for what the function does."""
        return 1 if self.options.revision is None else self.options.revision


@dataclass(eq=False)
class Run:
    """One run of a stage, from its arguments to its outcome: a call of a function, or a loop.

    Attributes:
        store_id: The store's id.
        stage: The stage.
        note: What the result will be the result of; saved in the version's metadata.
        is_function: It is a call of a function, in which loops of the same stage may run.
        pauses: How long to wait before each attempt after the first, in seconds.
        attempt: The number of the present attempt.
        is_done: An attempt has ended without an exception.
        started: When it began, by the monotonic clock.
        why: Why it runs.
        is_code_changed: It runs because the function's code changed.
        result: What came of it.
        inputs: The results of other stages that it is made of, by argument, stage and call.
        loops: The notes of the loops that ran in it.
        superseded: The ``progress`` versions that its result makes useless.
        defined: The stages that its program had defined when it began.
        around: The run that it is called in.
        lock_reference: Its lock, which others own: a run that a context still knows of must not keep it.
        token: Ends its being the current one.
    """

    store_id: str
    stage: str
    note: Note
    is_function: bool = True
    pauses: Sequence[float] = ()
    attempt: int = 0
    is_done: bool = False
    started: float = field(default_factory=time.monotonic)
    why: str = ""
    is_code_changed: bool = False
    result: Any = field(default=None, repr=False)
    inputs: dict[tuple[str, str, str], InputNote] = field(default_factory=dict)
    loops: list[Note] = field(default_factory=list)
    superseded: list[int] = field(default_factory=list)
    defined: tuple[str, ...] = ()
    around: Run | None = field(default=None, repr=False)
    lock_reference: weakref.ref[RunLock] | None = field(default=None, repr=False)
    token: contextvars.Token[Run | None] | None = field(default=None, repr=False)

    @property
    def seconds(self) -> float:
        """The duration so far, in seconds."""
        return time.monotonic() - self.started

    @property
    def attempts(self) -> int:
        """The number of attempts that it has at most."""
        return 1 + len(self.pauses)

    @property
    def pause(self) -> float:
        """How long to wait before the next attempt, in seconds."""
        return self.pauses[self.attempt - 1] if 0 < self.attempt < self.attempts else 0

    def is_last(self, error: Exception) -> bool:
        """Return whether there is no attempt after one that raised this."""
        return self.attempt >= self.attempts or (isinstance(error, FailedCallError) and error.is_final)

    def add_input(self, note: InputNote) -> None:
        """Take note of a result that it is made of."""
        self.inputs[note.argument, note.stage, note.call] = note

    def notes(self) -> dict[str, Any]:
        """Return what a version that is its result or progress says in its metadata."""
        inputs = list(self.inputs.values())
        if len(inputs) > _MOST_INPUTS:  # then only the newest of each stage
            newest = {each.stage: each.version for each in sorted(inputs, key=lambda each: each.version)}
            inputs = [InputNote("", stage, version) for stage, version in newest.items()]
        run_note = RunNote(current_run(), round(self.seconds, 3), self.why, self.defined)
        found = {NOTE: self.note.as_metadata(), RUN: run_note.as_metadata()}
        return {**found, INPUTS: [each.as_metadata() for each in inputs]} if inputs else found

    @property
    def lock(self) -> RunLock | None:
        """Its lock, if there still is one."""
        return None if self.lock_reference is None else self.lock_reference()
