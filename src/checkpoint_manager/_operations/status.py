"""The state of each stage, for those who watch a pipeline: from metadata alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._operations import lineage, select
from checkpoint_manager._operations.running import running
from checkpoint_manager.errors import CheckpointError, LockTimeoutError
from checkpoint_manager.reports import StageStatus

if TYPE_CHECKING:
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.reports import Running


def status(store: Store, prefix: str) -> list[StageStatus]:
    """Return the state of each stage whose name begins with ``prefix``, by name."""
    active: dict[str, list[Running]] = {}
    for each in running(store):
        active.setdefault(each.stage, []).append(each)
    stages = store.stages()
    stale = lineage.stale(store, stages)
    names = sorted(stage for stage in {*stages, *active} if stage.startswith(prefix))
    return [_of(store, name, tuple(active.get(name, ())), stale.get(name), is_new=name not in stages) for name in names]


def _of(store: Store, stage: str, active: tuple[Running, ...], stale: str | None, *, is_new: bool) -> StageStatus:
    if is_new:
        return StageStatus(stage, running=active)
    try:
        number = select.newest(store, stage)
        newest = store.history.entry(stage, number).as_version(stage, number)
    except LockTimeoutError:
        raise
    except CheckpointError as error:  # one stage's trouble does not hide the others
        return StageStatus(stage, running=active, stale=stale, error=error)
    return StageStatus(stage, newest, active, stale)
