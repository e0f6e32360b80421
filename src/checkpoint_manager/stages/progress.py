"""Save the progress of a loop: copies of its state between two items, as ``progress`` versions.

A ``progress`` version's data is the state after a whole number of items; its metadata says after how many
(see :mod:`checkpoint_manager._format.notes`).

**Deletion.** A loop of a week saves some ten thousand times. So when a version is durable, the run deletes its older ones but
the previous one: if the data of the newest is damaged, the loop continues from that. A deletion syncs more often than a save,
so small versions are deleted sixteen at a time. When the completed version is durable, all are deleted. Only versions whose
authenticated metadata marks them as ``progress`` of this run are ever deleted. If the run is killed between saving and
deleting, the resumed run deletes them; if it is killed after the completed version, the last few stay.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format import payload
from checkpoint_manager._format.note_keys import PROGRESS
from checkpoint_manager._format.notes import ProgressNote, read_progress
from checkpoint_manager._operations.save import Draft
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, PayloadError

if TYPE_CHECKING:
    from checkpoint_manager._format.codecs import Codecs
    from checkpoint_manager._format.embedded import Embedded, OpenContents
    from checkpoint_manager._operations.load import Loaded
    from checkpoint_manager.stages.pacing import Pace
    from checkpoint_manager.stages.run import Run
    from checkpoint_manager.stages.runner import Runner

_LOG = logging.getLogger("checkpoint_manager")
_MOST_HELD = 8
_IMMUTABLE = {type(None), bool, int, float, str}
MOST_USELESS, _MOST_USELESS_BYTES = 16, 1024 * 1024
"""The number and the total size of older versions that may wait for their deletion."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state between two items.

    Attributes:
        data: The state, encoded.
        done: After how many items.
        complete: Nothing is left to loop over.
        embedded: Copies of its arrays, frames and tensors, if they are not in the data and not saved.
        contents: Where these are read from, if they are not in the data.
    """

    data: bytes | bytearray = field(repr=False)
    done: int = 0
    complete: bool = False
    embedded: Embedded | None = field(default=None, repr=False)
    contents: OpenContents | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """The length of the state, with its arrays, in bytes."""
        return len(self.data) + (self.contents.size if self.contents is not None else 0)

    @property
    def position(self) -> tuple[int, bool]:
        """How far the loop was: the position of a later state is greater."""
        return self.done, self.complete


def snapshot_of(state: object, codecs: Codecs, stage: str, what: str, done: int = 0, *, complete: bool = False) -> Snapshot:
    """Return a copy of a state.

    Raises:
        PayloadError: It can't be saved. The error calls it ``what``.
    """
    data, embedded, _ = payload.encode(state, codecs, stage=stage, what=what)
    if embedded is None:
        return Snapshot(data, done, complete)
    held = embedded.hold()
    return Snapshot(held.data(), done, complete, held, held)


class ProgressLog:
    """The progress of one run.

    Attributes:
        reached: The last encoded state, saved or not.
        kept: The ``progress`` versions of this run that are there, ascending.
    """

    _held: tuple[object, int] | None = None
    """The state after the last item, where holding it costs nothing, and the number of items done then."""

    def __init__(self, runner: Runner, run: Run, total: int | None, pace: Pace) -> None:
        self._runner = runner
        self._run = run
        self._total = total
        self._pace = pace

    def begin(self, initial: Snapshot, loaded: Loaded | None, *, is_longer: bool = False) -> None:
        """Start from a version, or from the beginning.

        Args:
            initial: The state at the beginning.
            loaded: The version; None: from the beginning.
            is_longer: The version is of fewer items than there are now, and is left to the run of those.
        """
        self.reached = initial
        self.kept: list[int] = []
        progress = None if loaded is None else read_progress(loaded.entry.metadata)
        if loaded is not None and progress is not None:
            is_complete = progress.complete and not is_longer
            self.reached = Snapshot(loaded.data, progress.done, is_complete, contents=loaded.contents)
            self.kept = [] if is_longer else [*progress.before, loaded.version]
        self._saved = self.reached.position
        self._pace.begin(self.reached.done, time.monotonic())

    @property
    def done(self) -> int:
        """The number of items done in the newest state that could be saved now."""
        return self.reached.done if self._held is None else max(self.reached.done, self._held[1])

    def ending(self, done: int) -> dict[str, Any]:
        """Return what the completed version says of the loop: after how many items it ended."""
        return {PROGRESS: ProgressNote(done, self._total, complete=True).as_metadata()}

    def after_item(self, state: object, done: int) -> bool:
        """Copy the state after an item, if due, and return whether it should be saved now.

        Raises:
            PayloadError: The state can't be saved.
        """
        now = time.monotonic()
        is_save_due = self._pace.is_save_due(done, now)
        if is_save_due or self._pace.is_copy_due(now):
            self.copy(state, done)
        elif (held := _held(state)) is not None:
            self._held = held[0], done
        return is_save_due

    def copy(self, state: object, done: int, *, complete: bool = False) -> None:
        """Copy the state as it is after so many items.

        Raises:
            PayloadError: It can't be saved.
        """
        started = time.thread_time()  # the copy's own time: what other threads and processes took does not count
        self.reached = snapshot_of(state, self._runner.codecs, self._run.stage, "state", done, complete=complete)
        self._pace.copied(time.thread_time() - started, time.monotonic())

    def save(self) -> None:
        """Save the newest state if it is ahead of the saved one. A failure does not end the loop; the next save tries again."""
        if self._held is not None and self._held[1] > self.reached.done:
            with contextlib.suppress(PayloadError):  # the loop ends for another reason, and the last copy is still there
                self.copy(*self._held)
        reached, stage, started = self.reached, self._run.stage, time.monotonic()
        if reached.position <= self._saved:
            return
        progress = ProgressNote(reached.done, self._total, reached.complete, tuple(self.kept))
        metadata = {**self._run.notes(), PROGRESS: progress.as_metadata()}
        try:
            version = self._runner.save(stage, Draft(bytes(reached.data), metadata, "progress", embedded=reached.embedded))
        except CheckpointError as error:
            _LOG.warning("%s: the progress could not be saved, and the loop continues: %s", printable(stage), error)
        else:
            self._saved = reached.position
            self.kept = [*self.kept, version]
            useless, needed = self.kept[:-2], self.kept[-2:]
            if len(useless) >= MOST_USELESS or len(useless) * reached.size >= _MOST_USELESS_BYTES:
                self.kept = self._runner.delete_progress(self._run, useless) + needed
        now = time.monotonic()
        self._pace.saved(reached.done, now - started, now)


def _held(state: object) -> tuple[object] | None:
    """Return the state in a form that the next item can't change, if that takes next to no time; otherwise None."""
    if type(state) in _IMMUTABLE:
        return (state,)
    if type(state) is dict and len(state) <= _MOST_HELD and _IMMUTABLE.issuperset(map(type, state.values())):
        return (state.copy(),)
    if type(state) is list and len(state) <= _MOST_HELD and _IMMUTABLE.issuperset(map(type, state)):
        return (state.copy(),)
    return None
