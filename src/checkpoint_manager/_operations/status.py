"""The state of each stage, for those who watch a pipeline. Each stage is opened once, however much is asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format import notes, payload
from checkpoint_manager._format.note_keys import DELETED
from checkpoint_manager._operations import lineage
from checkpoint_manager._operations.load import newest_of_any_kind
from checkpoint_manager._operations.running import running
from checkpoint_manager._store import attachments
from checkpoint_manager._store.first_look import first_look
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, Hint, IntegrityError, LockTimeoutError
from checkpoint_manager.reports import Progress, StageStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.reports import OnProgress, Running


def status(store: Store, prefix: str, progress: OnProgress | None = None, *, verified: bool = False) -> list[StageStatus]:
    """Return the state of each stage whose name begins with ``prefix``, by name.

    Args:
        store: The store.
        prefix: What the names begin with.
        progress: Called after each stage.
        verified: Read and verify the data of the newest version, too.
    """
    active: dict[str, list[Running]] = {}
    for each in running(store):
        active.setdefault(each.stage, []).append(each)
    seen, others = store.candidates(prefix)
    found: dict[str, StageStatus | None] = {}
    for stage in (*seen, *others):
        found[stage] = _look_at(store, stage, verified=verified)
        if progress is not None:
            progress(Progress(len(found), len(seen) + len(others), "stages", stage))

    def opens(stage: str) -> bool:
        look = found[stage]
        return look is None or look.newest is not None or store.history.is_authentic(stage)

    shown = {stage: look for stage in (*seen, *store.authentic(others, opens)) if (look := found[stage]) is not None}
    stale = lineage.stale(store, shown, {stage: look.newest for stage, look in shown.items() if look.newest is not None})
    never_run = _never_run(store, [run for runs in active.values() for run in runs], shown)
    new = {stage: StageStatus(stage) for stage in (*active, *never_run) if stage not in shown and stage.startswith(prefix)}
    errors = {stage: _error(store, look) for stage, look in shown.items() if look.newest is None}
    return [
        StageStatus(stage, look.newest, tuple(active.get(stage, ())), stale.get(stage), errors.get(stage))
        for stage, look in sorted({**shown, **new}.items())
    ]


def _never_run(store: Store, active: Iterable[Running], shown: Mapping[str, StageStatus]) -> list[str]:
    """Return the stages that programs have defined and that have no version; those that were deleted are left out."""
    told = [(run.started_at, run.stages) for run in active if run.started_at is not None]
    for newest in (look.newest for look in shown.values()):
        run = None if newest is None else notes.read_run(newest.metadata)
        if run is not None and newest is not None and newest.created_at is not None:
            told.append((newest.created_at, run.stages))
    return [stage for stage in notes.never_run(told, shown) if not _was_there(store, stage)]


def _was_there(store: Store, stage: str) -> bool:
    try:
        return store.history.look(stage).number > 0
    except CheckpointError:  # it was, and something is wrong with it
        return True


def _look_at(store: Store, stage: str, *, verified: bool) -> StageStatus | None:
    """Return a stage with its newest version, if it has one, or with the error of reading it; None: it was deleted."""
    try:
        looked = None if stage in store.history.tips else first_look(store, stage)
        if looked is not None:
            number, (found, data, *_) = looked
            if DELETED not in found.metadata and not (verified and found.attachments):
                if verified:
                    payload.form(data)  # as _verified does
                return StageStatus(stage, found.as_version(stage, number))
        with store.session(stage) as session:
            number, entry = (_verified if verified else _read)(store, stage, session)
            if entry is None:
                return StageStatus(stage)
            if DELETED in entry.metadata and store.history.is_deleted(stage, session):
                return None
        return StageStatus(stage, entry.as_version(stage, number))
    except LockTimeoutError:
        raise
    except CheckpointError as error:  # one stage's trouble does not hide the others
        return StageStatus(stage, error=_without_frames(error))


def _without_frames(error: CheckpointError) -> CheckpointError:
    """Return an error without the frames of its tracebacks: those of many stages would keep all that was read in memory."""
    for each in (error, error.__cause__, error.__context__):
        if each is not None:
            each.__traceback__ = None
    return error


def _read(store: Store, stage: str, session: Session) -> tuple[int, Entry | None]:
    number = store.history.look(stage, session).number
    return number, store.history.entry(stage, number, session) if number else None


def _verified(store: Store, stage: str, session: Session | None = None) -> tuple[int, Entry | None]:
    loaded = newest_of_any_kind(store, stage, session)
    if loaded is None:
        return 0, None
    payload.form(loaded.data)  # as JSON: the codecs that its values may need are those of another program
    for each in loaded.entry.attachments:
        if not attachments.is_there(store, stage, each):
            if attachments.was_replaced(store, stage, loaded.version):  # since it was opened
                return _verified(store, stage)
            where = f"version {loaded.version} of stage {printable(stage)} in {store.backend.location}"
            message = f"{where} has lost {attachments.described(each)}"
            raise IntegrityError(message, hint=Hint.PUT_IT_BACK, stage=stage, version=loaded.version)
    return loaded.version, loaded.entry


def _error(store: Store, look: StageStatus) -> CheckpointError:
    return look.error or store.history.absent(look.stage, 0, 0)  # it was seen, and is gone
