"""Deleting what a policy does not keep, with the whole history in view. What is kept is decided in :mod:`.retention`.

The plan is made and carried out under the stage's lock. Killed in between, the versions that are recorded as deleted count as
that, and the next pruning removes what is left of them.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager import retention
from checkpoint_manager._format.notes import read_group
from checkpoint_manager._operations import delete, tag
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.retention import PrunePlan, Retention

if TYPE_CHECKING:
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Version

_LOG = logging.getLogger("checkpoint_manager")


def check_policy(policy: object) -> None:
    """Refuse what is not a policy: a number, say, in place of ``Retention(keep_last=5)``."""
    if not isinstance(policy, Retention):
        raise TypeError(f"a retention policy must be a Retention, not {type(policy).__name__}")


def prune(store: Store, policy: Retention, stage: str | None, *, dry_run: bool) -> PrunePlan:
    """Delete what a policy does not keep, of one stage or of all, and return the plan; ``dry_run``: only that.

    Raises:
        CheckpointNotFoundError: There is no such stage.
        IntegrityError, RollbackError: It can't be told what is tagged or deleted. Nothing of that stage is deleted.
    """
    stages = store.stages() if stage is None else [stage]
    for name in stages:  # a stage that vanished is told before anything is deleted
        if store.history.look(name).number == 0 and stage is not None:
            raise store.history.absent(name, 0, 0)
    now = datetime.now(UTC)
    plans = [_dry_run(store, policy, name, now) if dry_run else _prune(store, policy, name, now) for name in stages]
    return PrunePlan(tuple(decision for plan in plans for decision in plan.decisions))


def _dry_run(store: Store, policy: Retention, stage: str, now: datetime) -> PrunePlan:
    with store.session(stage) as session:
        return _plan(store, policy, stage, now, session)


def _prune(store: Store, policy: Retention, stage: str, now: datetime) -> PrunePlan:
    with store.lock(stage) as lock, store.session(stage, lock) as session:
        plan = _plan(store, policy, stage, now, session)
        dropped = sorted(version.number for version in plan.dropped)
        if dropped:
            store.flush(stage, session)  # before anything that is durable is changed
            tags = tag.certain(store, stage)
            tag.untag_locked(store, stage, [name for number in dropped for name in tags.of(number)])
            delete.drop(store, stage, dropped, session)
        delete.remove_leftovers(store, stage, session)
        return plan


def _plan(store: Store, policy: Retention, stage: str, now: datetime, session: Session) -> PrunePlan:
    tags = tag.certain(store, stage)
    named = {name: tagged.version for name, tagged in tags.named.items()}
    return retention.plan(policy, _sound_history(store, stage, session), named, now, read_group)


def _sound_history(store: Store, stage: str, session: Session) -> list[Version]:
    """Return the history without what does not open. Of the newest completed version the data is read, too.

    Older ones may go because that one is there, so it must be whole, and not only say so.
    """
    versions = [entry.as_version(stage, number) for number, entry in store.history.entries(stage, session)]
    for version in [version for version in versions if version.status == "completed"]:
        try:
            store.load(stage, version.number, session)
            break
        except VersionAbsentError:  # deleted meanwhile, or never there in a plan that takes no lock
            versions.remove(version)
        except IntegrityError as error:
            _LOG.error("%s", error)  # the message says all; a traceback would not help
            versions.remove(version)
    return versions
