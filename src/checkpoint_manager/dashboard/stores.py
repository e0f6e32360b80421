"""What is known of the stores that are shown: the state of each stage, without any data.

Nothing is read until somebody asks for a page. The names of the stages are listed first, and a page looks at the stages that it
shows. The others are looked at in a thread, stage by stage, while no page is being made; until that is done, pages say how many
stages they know. A version never changes, so only the newest number of a stage is asked for again.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager._format.notes import never_run, read_failure, read_inputs, read_progress, read_run
from checkpoint_manager.dashboard import background, hints, plans, unexpected
from checkpoint_manager.dashboard.cell import Cell, state_of
from checkpoint_manager.dashboard.order import in_order
from checkpoint_manager.dashboard.overview import Overview
from checkpoint_manager.dashboard.pace import PACE
from checkpoint_manager.dashboard.plans import Plans
from checkpoint_manager.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    FormatError,
    IntegrityError,
    LockTimeoutError,
    RollbackError,
)
from checkpoint_manager.reports import VerificationReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from checkpoint_manager import CheckpointManager, Progress, Reason, Retention, Running, Version
    from checkpoint_manager.dashboard.cell import State
    from checkpoint_manager.dashboard.plans import Goal, RestorePlan, RetentionPlan

_TROUBLE: tuple[tuple[type[CheckpointError], State], ...] = (
    (RollbackError, "rolled back"),
    (IntegrityError, "damaged"),
    (FormatError, "unreadable"),
)
WAIT_SECONDS = 0.12
"""How long a page waits for what is not known yet, of all stores; it then says how far the look has come."""
_LOOKS_PER_SECOND = 1000
"""How many stages are looked at in a second, about. A page waits only if all can be looked at in time."""
_MOST_LOOKED_BACK = 20
"""How many versions of a stage are searched for one that records its inputs."""
_FEW_VERSIONS = 1000
"""How many versions are verified on the way to data that is read for a page."""
_MOST_AT_ONCE = 4
"""How many histories of a store are verified at once before data is read. If the place does not answer, none of them ends."""
_SHARE = 0.1
"""The share of a processor that looking again and again may take."""


class Report(NamedTuple):
    """What a verification found, and when it ended; ``problem`` says why it could not."""

    at: datetime
    found: VerificationReport
    problem: str = ""


class Check(NamedTuple):
    """One thing that was looked at in the set-up of a store, as the doctor of the command line tells it."""

    topic: str
    state: str
    found: str
    next: str


class Checks(NamedTuple):
    """What a look at the set-up of a store found, and when."""

    at: datetime
    found: list[Check]


class _Reading(NamedTuple):
    """The part of a stage's history that was verified, or is being verified, so that its data can be read."""

    newest: int
    lowest: int
    job: background.Job[None]


@dataclass(slots=True)
class Verification:
    """How far a verification is."""

    began: datetime
    done: int = 0
    total: int = 0


class ShownStore:
    """One store of the dashboard.

    Args:
        location: Where it is, without a password.
        open_store: Opens it; called once, when something of it is asked for.

    Attributes:
        id: Identifies it in addresses; the same at each start.
        name: What it is called on pages: the last part of its location, and more of it where several stores are called that.
        retention_plans: What policies would delete.
        restore_plans: What taking its pipeline back would do.
        report: What its last verification by this dashboard found; None if there was none.
        verification: The verification that runs; None if none does.
        reasons: Why tags were given or removed and versions deleted, by stage, as far as the stages were looked at.
        checks: What the last look at its set-up found; None if there was none.
    """

    def __init__(self, location: str, open_store: Callable[[], CheckpointManager]) -> None:
        self.location = location
        self.id = hashlib.sha256(location.encode(errors="surrogatepass")).hexdigest()[:10]
        self.name = location
        self.report: Report | None = None
        self.verification: Verification | None = None
        self.checks: Checks | None = None
        self.retention_plans: Plans[tuple[Retention, str], RetentionPlan] = Plans(
            lambda asked: plans.plan_retention(self.cm, *asked)
        )
        self.restore_plans: Plans[Goal, RestorePlan] = Plans(lambda goal: plans.plan_restore(self.cm, goal))
        self._open_store = open_store
        self._opening = threading.Lock()
        self._cm: CheckpointManager | None = None
        self._cells: dict[str, Cell] = {}
        self.reasons: dict[str, list[Reason]] = {}
        self._names: Sequence[str] = ()
        self._order: list[str] = []
        self._told: dict[tuple[str, ...], datetime] = {}
        self._deleted: frozenset[str] = frozenset()
        self._complete_at: float | None = None
        self._sweep: threading.Thread | None = None
        self._readings: dict[str, _Reading] = {}
        self._took = self._cost = self._listed_until = 0.0
        self.problem = ""

    @property
    def cm(self) -> CheckpointManager:
        """The store, opened.

        Raises:
            CheckpointError: It can't be opened.
        """
        with self._opening:
            if self._cm is None:
                self._cm = self._open_store()
            return self._cm

    def hint_of(self, error: CheckpointError) -> str:
        """Return the hint of an error, as pages show it."""
        return hints.hint_of(error, self.location)

    def explain(self, error: CheckpointError) -> str:
        """Return the message and the hint of an error, as pages show them."""
        hint = self.hint_of(error)
        return f"{error.message}. {hint}" if hint else error.message

    # All stages

    def overview(self, wait: float | None = None) -> Overview:
        """Return what is known of all stages, and look at them again if that is old.

        Args:
            wait: How long to wait for what is not known yet, in seconds; None: ``WAIT_SECONDS``.

        Raises:
            CheckpointError: The store can't be opened or listed.
        """
        wait = WAIT_SECONDS if wait is None else wait
        if self._complete_at is None and time.monotonic() >= self._listed_until:
            cost = time.thread_time()
            self._names = self.cm.stages(checked=False)
            self._listed_until = time.monotonic() + (time.thread_time() - cost) / _SHARE
        self.cm  # noqa: B018  # raises if it can't be opened
        self._begin_sweep(wait)
        is_quick = len(self._names) < wait * _LOOKS_PER_SECOND if self._complete_at is None else self._took < wait
        if self._sweep is not None and is_quick:
            with PACE.waiting():
                self._sweep.join(wait)
        if self.problem:
            raise CheckpointError(self.problem)
        return Overview(self._with_others(dict(self._cells)), self._names, self._complete_at is not None, self._order)

    def _with_others(self, cells: dict[str, Cell]) -> dict[str, Cell]:
        """Return what is known of stages, with what runs now, and with those that have never run."""
        runs = self.cm.running()
        for run in reversed(runs):  # of several runs of a stage, the one that began first is shown
            cells[run.stage] = _with_run(cells.get(run.stage, Cell(run.stage, "unknown", began=run.started_at)), run)
        told = [(run.started_at, run.stages) for run in runs if run.started_at is not None]
        told += [(when, stages) for stages, when in self._told.items()]
        never = never_run(told, cells).items()
        return cells | {stage: Cell(stage, "never run", defined=by) for stage, by in never if stage not in self._deleted}

    def _begin_sweep(self, wait: float) -> None:
        """Look at all stages in a thread, unless one does already. One that takes longer than ``wait`` is not repeated soon."""
        with self._opening:
            if self._sweep is not None and self._sweep.is_alive():
                return
            age = None if self._complete_at is None else time.monotonic() - self._complete_at
            is_due = age is None or self._took < wait or age > self._cost / _SHARE
            if is_due:
                self._sweep = background.start(f"look at {self.id}", self._look_at_all)

    def _look_at_all(self) -> None:
        began, cost = time.monotonic(), time.thread_time()
        try:
            for name in self.cm.stages(checked=False):
                PACE.give_way()
                with contextlib.suppress(CheckpointNotFoundError):  # deleted, now or before
                    self.look_at_versions(name)
                with contextlib.suppress(CheckpointError):  # told by a verification
                    self.reasons[name] = self.cm.reasons(name)
            names = self.cm.stages()  # quick by now, and names those whose files are gone, too
            for name in set(names) - self._cells.keys():
                with contextlib.suppress(CheckpointNotFoundError):
                    self.look_at_versions(name)
            for name in self._cells.keys() - set(names):
                del self._cells[name]
            self.reasons = {name: reasons for name, reasons in self.reasons.items() if reasons and name in self._cells}
            self._mark_stale()
            self._look_for_others()
            self._names = names
            self.problem = ""
        except CheckpointError as error:
            self.problem = self.explain(error)
        except Exception as error:  # noqa: BLE001  # the next look may find more
            unexpected.log("A look at all stages", error)
            self.problem = unexpected.TOLD
        finally:
            self._took, self._cost = time.monotonic() - began, time.thread_time() - cost
            self._complete_at = time.monotonic()

    def _look_for_others(self) -> None:
        """Find the stages that have never run, and the order of all."""
        told: dict[tuple[str, ...], datetime] = {}
        for cell in self._cells.values():
            run = None if cell.version is None else read_run(cell.version.metadata)
            if run is not None and run.stages and cell.at is not None:
                told[run.stages] = max(cell.at, told.get(run.stages, cell.at))
        self._told, self._deleted = told, frozenset()
        cells = self._with_others(dict(self._cells))
        self._deleted = frozenset(name for name, cell in cells.items() if cell.state == "never run" and self._was_there(name))
        self._order = in_order({name: cell for name, cell in cells.items() if name not in self._deleted})

    def _was_there(self, stage: str) -> bool:
        try:
            return self.cm.get_version(stage).number > 0
        except CheckpointError as error:  # it was deleted, or can't be read
            return error.version is not None

    def _mark_stale(self) -> None:
        stale = self.cm.stale_stages([name for name, cell in self._cells.items() if cell.inputs])
        for name, cell in list(self._cells.items()):
            why = stale.get(name, "")
            if cell.stale != why:
                self._cells[name] = replace(cell, stale=why, state=_with_staleness(cell, why))

    def names(self) -> Sequence[str]:
        """Return the names of the stages; until all were looked at, deleted and planted ones may be among them."""
        return self.overview().names

    @property
    def is_complete(self) -> bool:
        """Whether all stages were looked at."""
        return self._complete_at is not None

    def known(self) -> list[Cell]:
        """Return what is known of all stages now, without looking again."""
        return list(self._cells.values())

    def made_of(self, stage: str) -> list[str]:
        """Return the stages that were made of a stage's results, directly or not, the nearest first, as far as that is known.

        Cleared stages are not listed.
        """
        cells: dict[str, Cell] = {}
        with contextlib.suppress(CheckpointError):  # told where all stages are
            cells = self.overview().cells
        following: dict[str, list[str]] = {}
        for name in sorted(name for name, cell in cells.items() if cell.inputs):
            for source in cells[name].inputs:
                following.setdefault(source, []).append(name)
        found, waiting = {stage: None}, deque([stage])
        while waiting:
            more = [name for name in following.get(waiting.popleft(), []) if name not in found]
            found |= dict.fromkeys(more)
            waiting += more
        return [name for name in found if name != stage and cells[name].state != "cleared"]

    # Upkeep

    def begin_verification(self, *, quick: bool) -> bool:
        """Verify the store in a thread, unless one does already; return whether it began."""
        with self._opening:
            if self.verification is not None:
                return False
            self.verification = Verification(datetime.now(UTC))
        background.start(f"verify {self.id}", lambda: self._verify(quick=quick))
        return True

    def _verify(self, *, quick: bool) -> None:
        def step(progress: Progress) -> None:
            PACE.give_way()
            if self.verification is not None:
                self.verification.done, self.verification.total = progress.done, progress.total

        found, problem = VerificationReport(), ""
        try:
            found = self.cm.verify(quick=quick, progress=step)
        except CheckpointError as error:
            problem = self.explain(error)
        except Exception as error:  # noqa: BLE001  # nothing of it reaches a page
            unexpected.log("A verification", error)
            problem = unexpected.TOLD
        finally:
            self.report = Report(datetime.now(UTC), found, problem)
            self.verification = None

    def checked(self, checks: Iterable[Check]) -> None:
        """Keep what a look at the set-up finds."""
        self.checks = Checks(datetime.now(UTC), list(checks))

    # One stage

    def look(self, stage: str) -> Cell:
        """Return what is known of a stage, after looking whether it runs or has a newer version.

        Raises:
            CheckpointNotFoundError: There is no such stage, and no program has defined one.
        """
        run = next(iter(self.cm.running(stage)), None)
        try:
            cell = self.look_at_versions(stage)
        except CheckpointNotFoundError:
            known = None if run is not None else self.overview().cells.get(stage)
            if run is None and (known is None or known.state != "never run"):
                raise
            cell = known or Cell(stage, "unknown")
        return cell if run is None else _with_run(cell, run)

    def can_read(self, stage: str, number: int) -> bool:
        """Return whether the data of a version can be read without a long wait; False: not yet.

        Data is read after the versions above it were found to lead back to it. Where they are many, this takes too long for a
        page. So it is first done in the background, and then remembered by the opened store.
        """
        newest = plans.newest_number(self.cm, stage)
        with self._opening:
            known = self._readings.get(stage)
            is_near = known is not None and number >= known.lowest and newest <= known.newest + _FEW_VERSIONS
            if known is None or (known.job.age is not None and not is_near):
                if sum(each.job.age is None for each in self._readings.values()) >= _MOST_AT_ONCE:
                    return False
                job = background.Job("A look at a history", lambda: self._read(stage, number))
                known = self._readings[stage] = _Reading(newest, number, job)
        return known.job.wait(WAIT_SECONDS) and known.lowest <= number

    def _read(self, stage: str, number: int) -> None:
        """Read the data of a version, and keep none of it: the manager remembers that the history was verified."""
        self.cm.get_json(stage, number)

    def look_again(self, names: Iterable[str], known: Mapping[str, Cell], seconds: float) -> list[Cell]:
        """Return what is known of some stages after looking whether they have newer versions. Deleted ones are left out.

        Args:
            names: Their names.
            known: What was known of them before. It is returned for those that there is no time to look at.
            seconds: How much time there is.
        """
        found: list[Cell] = []
        until = time.monotonic() + seconds
        for name in names:
            before = known.get(name, Cell(name, "unknown"))
            try:
                cell = self.look_at_versions(name) if time.monotonic() < until else before
            except CheckpointNotFoundError:
                if before.run is not None or before.state == "never run":
                    found.append(before)
            else:
                found.append(cell if before.run is None else _with_run(cell, before.run))
        return found

    def older(self, stage: str, below: int, most: int) -> Iterator[Version]:
        """Yield the versions of a stage below a number, newest first. They are read some at a time."""
        while True:
            found = list(itertools.islice(self.cm.iter_history(stage, below=below), most))
            yield from found
            if len(found) < most:
                return
            below = found[-1].number

    def look_at_versions(self, stage: str) -> Cell:
        """Return what is known of a stage, whether it runs or not, after looking whether it has a newer version.

        Raises:
            CheckpointNotFoundError: There is no such stage.
        """
        known = self._cells.get(stage)
        try:
            version = self.cm.get_version(stage)
        except (CheckpointNotFoundError, LockTimeoutError):
            raise
        except CheckpointError as error:
            state: State = next((state for kind, state in _TROUBLE if isinstance(error, kind)), "unreadable")
            cell = Cell(stage, state, None, error.version, self.explain(error))
            if known is not None:
                cell = replace(cell, began=known.began, inputs=known.inputs)
        else:
            if known is not None and known.version == version:
                return known
            cell = self._cell(version, known)
        self._cells[stage] = cell
        return cell

    def _cell(self, version: Version, known: Cell | None) -> Cell:
        run = read_run(version.metadata)
        began = known.began if known is not None and known.began is not None else self._first_saved(version)
        cell = Cell(
            version.stage,
            state_of(version),
            version,
            version.number,
            began=began,
            seconds=None if run is None else run.seconds,
            saved=read_progress(version.metadata) if version.status == "progress" else None,
            failure=read_failure(version.metadata),
            stale="" if known is None else known.stale,
            inputs=self._inputs(version, known),
        )
        return replace(cell, state=_with_staleness(cell, cell.stale))

    def _inputs(self, version: Version, known: Cell | None) -> frozenset[str]:
        """Return the stages that a stage was made of: since it was cleared, or before if it is cleared now."""
        inputs = frozenset(each.stage for each in read_inputs(version.metadata))
        if known is not None and known.number is not None:
            is_begun_again = known.state == "cleared" and version.status != "cleared"
            return inputs if is_begun_again else inputs | known.inputs
        if version.status in {"failed", "cleared"}:
            with contextlib.suppress(CheckpointError):  # told where its versions are
                before = itertools.islice(self.cm.iter_history(version.stage, below=version.number), _MOST_LOOKED_BACK)
                made = next((each for each in before if each.status == "completed"), version)
                return frozenset(each.stage for each in read_inputs(made.metadata))
        return inputs

    def _first_saved(self, newest: Version) -> datetime | None:
        if newest.number > 1:
            try:
                return self.cm.get_version(newest.stage, 1).created_at
            except CheckpointError:  # deleted, or in trouble, which is told where its versions are
                pass
        return newest.created_at


def _with_staleness(cell: Cell, why: str) -> State:
    if cell.state in {"done", "stale"}:
        return "stale" if why else "done"
    return cell.state


def _with_run(cell: Cell, run: Running) -> Cell:
    return replace(cell, state="running", run=run)


def stores_by_id(stores: Iterable[ShownStore]) -> dict[str, ShownStore]:
    """Return stores by their ids, and name them so that they can be told apart."""
    found = {store.id: store for store in stores}
    steps = {store: [step for step in store.location.split("/") if step] or [store.location] for store in found.values()}
    ends = Counter("/".join(parts[-many:]) for parts in steps.values() for many in range(1, len(parts) + 1))
    for store, parts in steps.items():
        tails = ("/".join(parts[-many:]) for many in range(1, len(parts) + 1))
        store.name = next((tail for tail in tails if ends[tail] == 1), store.location)
    return found
