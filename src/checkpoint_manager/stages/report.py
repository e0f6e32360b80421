"""The outcomes of the calls of stages, for the log and the final report."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from checkpoint_manager._text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

What: TypeAlias = Literal["reused", "ran", "unsaved", "failed", "retried", "stopped"]
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one run.

    Attributes:
        stage: The stage.
        what: ``reused``; ``ran``; ``unsaved``: it ran, and its result could not be saved; ``failed``: it raised an exception;
            ``retried``: it raised one, and was called again; or ``stopped``: it was ended by Ctrl-C or SIGTERM, its task was
            cancelled, or a loop was left by ``break``.
        version: The version that was reused or saved; None if none was saved.
        seconds: How long the function ran, or how long it took to load the result.
        why: Why no version could be reused; empty if one was.
        process: The process that it ran in, in a report over several.
        ended_at: When it ended, by the clock of its host, in UTC.
    """

    stage: str
    what: What
    version: int | None
    seconds: float
    why: str = ""
    process: str = ""
    ended_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class RunReport:
    """The outcomes of runs, in the order of their ends. As text, one line each.

    Attributes:
        outcomes: The outcomes.
        stale: The stages among them that are stale, each with the reason.
        run: The run, in a report over all its processes. Results that were reused are not in it.
    """

    outcomes: tuple[Outcome, ...] = ()
    stale: Mapping[str, str] = field(default_factory=dict)
    run: str = ""

    @property
    def reused(self) -> tuple[Outcome, ...]:
        """The calls that were answered by a stored result."""
        return tuple(outcome for outcome in self.outcomes if outcome.what == "reused")

    @property
    def ran(self) -> tuple[Outcome, ...]:
        """The runs whose result was saved."""
        return tuple(outcome for outcome in self.outcomes if outcome.what == "ran")

    @property
    def unsaved(self) -> tuple[Outcome, ...]:
        """The runs whose result could not be saved."""
        return tuple(outcome for outcome in self.outcomes if outcome.what == "unsaved")

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The runs that raised an exception."""
        return tuple(outcome for outcome in self.outcomes if outcome.what == "failed")

    @property
    def retried(self) -> tuple[Outcome, ...]:
        """The attempts that raised an exception, and were followed by another one."""
        return tuple(outcome for outcome in self.outcomes if outcome.what == "retried")

    @property
    def stopped(self) -> tuple[Outcome, ...]:
        """The runs that were interrupted, and the loops that were left before their last item."""
        return tuple(outcome for outcome in self.outcomes if outcome.what == "stopped")

    def _repr_pretty_(self, printer: Any, is_cycle: bool) -> None:  # noqa: ANN401, FBT001  # as IPython calls it
        """Show the report in a notebook as :func:`print` does."""
        printer.text("…" if is_cycle else str(self))

    def __str__(self) -> str:
        """Return a line for each run, with aligned columns, and a line with the counts."""
        width = max((len(printable(outcome.stage)) for outcome in self.outcomes), default=0)
        lines = [
            f"{printable(each.stage):<{width}}  {each.what:<7}  {duration(each.seconds):>8}"
            + (f"  version {each.version}" if each.version else "")
            + (f"  process {printable(each.process)}" if each.process else "")
            + (f"  ({each.why})" if each.why else "")
            for each in self.outcomes
        ]
        lines += [f"{printable(stage)} is stale: {why}" for stage, why in self.stale.items()]
        counts = "" if self.run else f"{len(self.reused)} reused, "
        counts += f"{len(self.ran)} ran, {len(self.failed)} failed"
        counts += f", {len(self.unsaved)} not saved" if self.unsaved else ""
        counts += f", {len(self.retried)} retried" if self.retried else ""
        counts += f", {len(self.stopped)} stopped" if self.stopped else ""
        return "\n".join([*lines, counts])


def duration(seconds: float) -> str:
    """Return a duration as text."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def ago(moment: datetime) -> str:
    """Return an age as text."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    length, unit = next(((length, unit) for length, unit in _UNITS if seconds >= length), (1, "s"))
    return f"{seconds // length} {unit} ago"
