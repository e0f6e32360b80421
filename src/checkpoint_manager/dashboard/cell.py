"""What is known of one stage at a moment, and the states that pages show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
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
    "unreadable": "unreadable",
    "missing": "damaged",
}
