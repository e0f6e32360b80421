"""What happened in a directory: every call with its times and its result, and what the store holds at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.concurrency.writer import digest

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager
    from tests.concurrency.program import Op, Program

NEVER = float("inf")


@dataclass(frozen=True)
class Event:
    """One call.

    Attributes:
        by: Writer, thread, and the call's place in it.
        op: What was called.
        invoked: When it began, in nanoseconds.
        returned: When it ended; :data:`NEVER` if its process was killed first.
        result: What came of it; None if it never returned.
    """

    by: tuple[int, int, int]
    op: Op
    invoked: float
    returned: float = NEVER
    result: dict[str, Any] | None = None

    @property
    def pending(self) -> bool:
        """Whether it never returned: it may have happened or not."""
        return self.result is None

    @property
    def error(self) -> str | None:
        """The name of the error it raised."""
        return None if self.result is None else self.result.get("error")

    @property
    def appended(self) -> int | None:
        """The number of the version that it was told to have written."""
        if self.result is None or self.error or self.op.kind not in APPENDING:
            return None
        return self.result["version"]


APPENDING = {"save", "expect", "update", "restore", "clear"}


@dataclass(frozen=True)
class Stored:
    """One version as it is found at the end."""

    version: int
    status: str
    pid: int
    digest: str
    by: tuple[int, int, int] | None = None
    saw: tuple[int, int, int] | None = None
    restored_from: int | None = None
    created_at: float = 0.0


@dataclass(frozen=True)
class Record:
    """All that is known of one run.

    Attributes:
        events: The calls.
        pids: Which process was which writer; which ones, where the system gave its number out again.
        stored: The versions of each stage, oldest first.
        problems: What ``verify`` and ``repair`` had to say at the end.
    """

    events: list[Event]
    pids: dict[int, set[int]] = field(default_factory=dict)
    stored: dict[str, list[Stored]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def events_of(program: Program, told: list[dict[str, Any]]) -> list[Event]:
    """Return what the writers of a program told as events."""
    return [
        Event(
            (each["writer"], each["thread"], each["index"]),
            program.writers[each["writer"]].threads[each["thread"]][each["index"]],
            each["invoked"],
            each.get("returned", NEVER),
            each.get("result"),
        )
        for each in told
    ]


def stored_in(cm: CheckpointManager) -> dict[str, list[Stored]]:
    """Return everything a store holds."""
    return {stage: [_stored(cm, stage, version) for version in reversed(cm.history(stage))] for stage in cm.stages()}


def _stored(cm: CheckpointManager, stage: str, version: Any) -> Stored:
    data = cm.load_checkpoint(stage, version.number)
    by, saw = (None, None) if data is None else (tuple(data["by"]), data["saw"] and tuple(data["saw"]))
    moment = version.created_at.timestamp()
    where = (version.number, version.status, version.origin.pid)
    return Stored(*where, digest(data), by, saw, version.restored_from, moment)


def as_schedule(record: Record) -> str:
    """Return a record as people read it: a line for each call, in the order in which they began."""
    if not record.events:
        return "nothing happened"
    start = min(event.invoked for event in record.events)
    lines = ["  began     ended  writer.thread  call"]
    for event in sorted(record.events, key=lambda event: event.invoked):
        ended = "  killed" if event.pending else f"{(event.returned - start) / 1e6:8.3f}"
        op, writer = event.op, f"{event.by[0]}.{event.by[1]}"
        what = f"{op.kind} {op.stage} {op.argument}"
        lines.append(f"{(event.invoked - start) / 1e6:7.3f}  {ended}  {writer:>13}  {what:<20} -> {event.result}")
    for stage, versions in record.stored.items():
        held = (f"{each.version} {each.status} by {each.by}" for each in versions)
        lines.append(f"at the end, {stage}: " + "; ".join(held))
    return "\n".join(lines)
