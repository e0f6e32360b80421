"""What runs now: the notices of all runs whose lock is held, of whatever process."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections import Counter
from typing import TYPE_CHECKING

from checkpoint_manager._format import notes, run_notice
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._operations import select
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.errors import CheckpointError, StageNameError
from checkpoint_manager.models import Origin
from checkpoint_manager.reports import Running

if TYPE_CHECKING:
    from checkpoint_manager._format.run_notice import RunNotice
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import HeldRun

_LOG = logging.getLogger("checkpoint_manager")
_NOTICE = run_notice.RECORD
_NAME = re.compile(r"[0-9a-f]{32}")


def seal_notice(store: Store, notice: RunNotice) -> bytes:
    """Return a notice sealed under the key that is active now; errors as in :meth:`Store.refresh_keys`."""
    store.refresh_keys()
    key_id, key = store.keyring.active
    return _NOTICE.seal(key_id, key, store.keyring.store_id, "", run_notice.encode(notice))


def running(store: Store) -> list[Running]:
    """Return the runs whose lock is held, sorted by stage, and within a stage by when they began.

    Of a run without a notice that opens, only the stage is known, and only if the stage has a version: anyone who may write to
    the store can hold a lock of any name.
    """
    held = store.backend.held_runs()
    if not held:
        return []
    store.refresh_keys()
    found = [_told(store, run) for run in held]
    known = set(store.stages()) if any(each is not None and each.started_at is None for each in found) else set()
    shown = [each for each in found if each is not None and (each.started_at is not None or each.stage in known)]
    stages = Counter(each.stage for each in shown)
    reached = [_as_far_as_saved(store, each) if stages[each.stage] == 1 else each for each in shown]
    return sorted(reached, key=lambda each: (each.stage, each.started_at is None, each.started_at or 0))


def _as_far_as_saved(store: Store, run: Running) -> Running:
    """Return a run with what the newest version says, if its loop saved that after it told how far it is."""
    if run.done is None or run.updated_at is None:
        return run
    try:
        number = select.newest(store, run.stage)
        entry = store.history.entry(run.stage, number)
    except CheckpointError:  # there is none yet, or it can't be read: those who load it are told
        return run
    version = entry.as_version(run.stage, number)
    reached = notes.read_progress(version.metadata) if version.status == "progress" else None
    if reached is None or version.created_at is None or version.created_at < run.updated_at:
        return run
    return dataclasses.replace(run, done=reached.done, updated_at=version.created_at)


def _told(store: Store, run: HeldRun) -> Running | None:
    """Return what a run tells; without a notice that opens, only its stage, if that is known.

    None: it is not the run of a function or loop, but the upload of an attachment, whose lock has another name.
    """
    if _NAME.fullmatch(run.name) is None:
        return None
    try:
        key = store.keyring.key(_NOTICE.key_of(run.notice))
        if key is None:
            raise BrokenError("is sealed under a key that the keyring does not have")
        notice = run_notice.decode(_NOTICE.open(key, store.keyring.store_id, "", run.notice))
        if notice.name != run.name or run.stage not in {"", notice.stage} or validate(notice.stage) != notice.stage:
            raise BrokenError("is of another run")
    except (BrokenError, StageNameError) as error:
        _LOG.debug("The notice of a run of stage %r %s", run.stage, error)
        return Running(run.stage) if run.stage else None
    return Running(
        notice.stage,
        started_at=notice.started_at,
        updated_at=notice.updated_at,
        origin=Origin(*notice.origin),
        run_id=notice.run,
        done=notice.done,
        total=notice.total,
        resumed_from=notice.resumed,
        stages=notice.stages,
    )
