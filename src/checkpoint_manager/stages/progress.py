"""Keeping how far a loop is: copies of its state between two items, saved as ``progress`` versions.

A ``progress`` version's data is the state after a whole number of items. Its metadata has, beside the note of what it is the
progress of, under ``@progress`` an object of these fields:

==========  ============================================================================================================
done        the number of items that the state is the state after
total       how many there are, or null
complete    true: nothing is left to loop over
before      the numbers of the ``progress`` versions of the same run that were there before it, ascending
==========  ============================================================================================================

**What becomes of them.** A loop of a week saves some ten thousand times. So when a version is durable, the run deletes those
of its own that it makes useless, all but the one before it: should the newest one's data be damaged, the loop goes on from
that. As a deletion syncs more often than a save, small ones wait until they are sixteen. When the completed version is
durable, all go. Only versions that say themselves, authenticated, that they are ``progress`` are ever deleted, by their
number, which is never used again. Killed between saving and deleting, the resumed run deletes them; killed after the completed
version, those few stay, for ``delete_versions``.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format import payload
from checkpoint_manager._operations.save import Draft
from checkpoint_manager.errors import CheckpointError
from checkpoint_manager.models import display
from checkpoint_manager.stages.lookup import NOTE, PROGRESS

if TYPE_CHECKING:
    from checkpoint_manager._operations.load import Loaded
    from checkpoint_manager.stages.pacing import Pace
    from checkpoint_manager.stages.runner import Call, Runner

_LOG = logging.getLogger("checkpoint_manager")
MOST_USELESS, _MOST_USELESS_BYTES = 16, 1024 * 1024
"""What may lie there beside the two newest versions until it is deleted."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state between two items.

    Attributes:
        data: The state as JSON.
        done: After how many items.
        complete: Nothing is left to loop over.
    """

    data: bytes | bytearray = field(repr=False)
    done: int = 0
    complete: bool = False

    @property
    def position(self) -> tuple[int, bool]:
        """Tells whether another one is further."""
        return self.done, self.complete


class ProgressLog:
    """Keeps the progress of one run.

    Attributes:
        reached: The last copy of the state, saved or not.
        kept: The ``progress`` versions of this run that are there, ascending.
    """

    def __init__(self, runner: Runner, call: Call, total: int | None, pace: Pace) -> None:
        self._runner = runner
        self._call = call
        self._total = total
        self._pace = pace

    def begin(self, initial: bytes, loaded: Loaded | None) -> None:
        """Start from a ``progress`` version, or from the beginning."""
        self.reached = Snapshot(initial)
        self.kept: list[int] = []
        if loaded is not None:
            progress = loaded.entry.metadata[PROGRESS]
            self.reached = Snapshot(loaded.data, progress["done"], progress["complete"])
            self.kept = [*progress["before"], loaded.version]
        self._saved = self.reached.position
        self._pace.begin(self.reached.done, time.monotonic())

    def after_item(self, state: object, done: int) -> None:
        """Copy and save the state after an item, if that is due.

        Raises:
            PayloadError: The state can't be kept as JSON.
        """
        now = time.monotonic()
        if self._pace.is_save_due(done, now):
            self.copy(state, done)
            self.save()
        elif self._pace.is_copy_due(now):
            self.copy(state, done)

    def copy(self, state: object, done: int, *, complete: bool = False) -> None:
        """Copy the state as it is after so many items.

        Raises:
            PayloadError: It can't be kept as JSON.
        """
        started = time.thread_time()  # of computing: that others took the processor makes a copy no dearer
        self.reached = Snapshot(payload.encode(state, stage=self._call.stage, what="state"), done, complete)
        self._pace.copied(time.thread_time() - started, time.monotonic())

    def save(self) -> None:
        """Save the last copy, if it is further than what is saved. If that fails, the loop goes on: it is tried again."""
        reached, stage, started = self.reached, self._call.stage, time.monotonic()
        if reached.position <= self._saved:
            return
        progress = {"done": reached.done, "total": self._total, "complete": reached.complete, "before": self.kept}
        metadata: dict[str, Any] = {NOTE: self._call.note, PROGRESS: progress}
        try:
            version = self._runner.save(stage, Draft(bytes(reached.data), metadata, "progress"))
        except CheckpointError as error:
            _LOG.warning("%s: the progress could not be saved, and it goes on without: %s", display(stage), error)
        else:
            self._saved = reached.position
            self.kept = [*self.kept, version]
            useless, needed = self.kept[:-2], self.kept[-2:]
            if len(useless) >= MOST_USELESS or len(useless) * len(reached.data) >= _MOST_USELESS_BYTES:
                self.kept = self._runner.remove_progress(stage, useless) + needed
        now = time.monotonic()
        self._pace.saved(reached.done, now - started, now)
