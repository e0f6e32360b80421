"""What is known of the stages of a store at a moment: the values that pages show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from checkpoint_manager.dashboard.order import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from checkpoint_manager import Running, Version
    from checkpoint_manager._format.notes import FailureNote, ProgressNote

State: TypeAlias = Literal[
    "done",
    "stale",
    "running",
    "stopped",
    "failed",
    "cleared",
    "damaged",
    "rolled back",
    "unreadable",
    "never run",
    "unknown",
]

ATTENTION: tuple[State, ...] = ("rolled back", "damaged", "unreadable", "failed", "stopped", "stale")
"""The states that somebody should look at, the worst first."""
ORDER: tuple[State, ...] = (*ATTENTION, "running", "cleared", "never run", "unknown", "done")
"""All states, in the order in which pages count them."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is known of one stage.

    Attributes:
        stage: Its name.
        state: Its state.
        version: Its newest version, or None if that does not open.
        number: The number of that version, as far as it is known.
        problem: What is wrong with it, as a sentence.
        began: When its first version was saved, which gives the order of the pipeline.
        seconds: How long its newest version took to make.
        saved: How far its loop was when its newest version was saved.
        run: What runs of it now, in whatever process; None if nothing does.
        failure: Why it failed.
        stale: Why it is out of date; empty if it is not.
        inputs: The stages whose results it was made of, as far as its newest versions tell.
        defined: The stages that its program defines, in their order, if it has never run.
    """

    stage: str
    state: State
    version: Version | None = None
    number: int | None = None
    problem: str = ""
    began: datetime | None = None
    seconds: float | None = None
    saved: ProgressNote | None = None
    run: Running | None = None
    failure: FailureNote | None = None
    stale: str = ""
    inputs: frozenset[str] = frozenset()
    defined: tuple[str, ...] = ()

    @property
    def at(self) -> datetime | None:
        """When its newest version was saved."""
        return None if self.version is None else self.version.created_at

    @property
    def progress(self) -> tuple[int, int | None] | None:
        """How many items are done, and of how many: of the loop that runs, or else of the one that was saved."""
        if self.run is not None:
            return None if self.run.done is None else (self.run.done, self.run.total)
        return None if self.saved is None else (self.saved.done, self.saved.total)

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should look at it."""
        return self.state in ATTENTION


def state_of(version: Version) -> State:
    """Return the state that a version records for its stage."""
    return _STATES[version.status]


def shown_state(version: Version) -> str:
    """Return the state of a version in a list. One saved in the middle of a loop is progress, even if the stage has stopped."""
    return version.status if version.status in {"progress", "missing"} else state_of(version)


_STATES: dict[str, State] = {
    "completed": "done",
    "progress": "stopped",
    "failed": "failed",
    "cleared": "cleared",
    "damaged": "damaged",
    "missing": "damaged",
}


@dataclass(frozen=True, slots=True)
class Overview:
    """What is known of a store's stages at a moment.

    Attributes:
        cells: The stages that were looked at, by name.
        names: The names of all of them; until all were looked at, deleted and planted ones may be among them.
        is_complete: Whether all were looked at.
        order: The names of most of them in the order of the pipeline.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    names: Sequence[str] = ()
    is_complete: bool = False
    order: Sequence[str] = ()

    @property
    def total(self) -> int:
        """How many stages there are."""
        return len(self.cells) if self.is_complete else max(len(self.names), len(self.cells))

    @property
    def counts(self) -> list[tuple[State, int]]:
        """How many stages have each state, the worst first."""
        counts = Counter(cell.state for cell in self.cells.values())
        return [(state, counts[state]) for state in ORDER if counts[state]]

    def in_order(self) -> Sequence[str]:
        """Return the names of all stages in the order of the pipeline; until all were looked at, sorted by name."""
        if self.is_complete:
            return [cell.stage for cell in self.known_in_order()]
        return sorted({*self.names, *self.cells}) if self.cells.keys() - set(self.names) else self.names

    def known_in_order(self) -> list[Cell]:
        """Return the stages that were looked at, and those that have never run, in the order of the pipeline."""
        known = [self.cells[stage] for stage in self.order if stage in self.cells]
        if len(known) == len(self.cells):
            return known
        new = {stage: self.cells[stage] for stage in self.cells.keys() - set(self.order)}  # since all were looked at
        return known + [new[stage] for stage in in_order(new)]
