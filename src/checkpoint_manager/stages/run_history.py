"""The report of a run from the versions that its processes saved, whichever process asks for it.

A call that reused a result saved nothing, and so is not in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format.notes import read_failure, read_note, read_run
from checkpoint_manager._operations import lineage
from checkpoint_manager._store import listing
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, CheckpointNotFoundError
from checkpoint_manager.stages.report import Outcome, RunReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.stages.report import What


def latest_run(store: Store) -> str:
    """Return the id of the run that saved last, of those that saved the newest version of a stage; empty if there is none."""
    newest: list[tuple[str, str]] = []
    for stage in store.stages():
        for _, entry in _entries(store, stage):
            if (run := read_run(entry.metadata)) is not None:
                newest.append((entry.created_at.isoformat(), run.id))
                break
    return max(newest)[1] if newest else ""


def report_of(store: Store, run_id: str) -> RunReport:
    """Return the outcomes of a run in the order in which they were saved, from the metadata of all versions.

    A stage that can't be read is passed over.

    Raises:
        CheckpointNotFoundError: No stage has a version of this run.
    """
    found = [saved for stage in store.stages() for saved in _saved(store, stage, run_id)]
    if not found:
        message = f"no version in {store.backend.location} was saved by the run {printable(run_id)}"
        raise CheckpointNotFoundError(message, hint="Look up its id in the metadata of a version, under @run")
    found.sort(key=lambda outcome: outcome.ended_at)
    stages = sorted({outcome.stage for outcome in found})
    return RunReport(tuple(found), lineage.stale(store, stages), run_id)


def _saved(store: Store, stage: str, run_id: str) -> Iterator[Outcome]:
    """Yield the outcomes of a run in one stage, newest first."""
    ended: set[str] = set()  # the calls that a newer version is an outcome of
    for number, entry in _entries(store, stage):
        run, note = read_run(entry.metadata), read_note(entry.metadata)
        if run is None or run.id != run_id or note is None or entry.restored_from is not None:
            continue
        what = _what(entry, is_ended=note.digest in ended, is_within=note.within is not None)
        ended |= {note.digest}
        if what is not None:
            yield Outcome(stage, what, number, run.seconds, run.why, _process(entry), entry.created_at)


def _what(entry: Entry, *, is_ended: bool, is_within: bool) -> What | None:
    if entry.status == "progress":  # only the last one of a loop tells how it ended; one in a function ends with that
        return None if is_ended or is_within else "stopped"
    failure = read_failure(entry.metadata)
    if entry.status == "failed":
        return "retried" if failure is not None and is_ended and failure.attempt < failure.attempts else "failed"
    return "ran" if entry.status == "completed" else None


def _process(entry: Entry) -> str:
    return f"{entry.origin.pid} on {entry.origin.host}"


def _entries(store: Store, stage: str) -> Iterator[tuple[int, Entry]]:
    try:
        with store.session(stage) as session:
            for version, entry, *_ in listing.walk(store, stage, session):
                if entry is not None:
                    yield version, entry
    except CheckpointError:  # told by whatever reads that stage for itself
        return
