"""Delete the versions that a policy does not keep; :mod:`checkpoint_manager.retention` decides which.

The plan is made and carried out under the stage's lock. If it is killed in between, the versions recorded as deleted count as
that, and the next pruning removes what is left of them.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager import retention
from checkpoint_manager._arguments import wrong
from checkpoint_manager._format.notes import read_group
from checkpoint_manager._operations import delete, tag
from checkpoint_manager._store import listing
from checkpoint_manager._store.waits import Waits
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.retention import PrunePlan, Retention

if TYPE_CHECKING:
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Version

_LOG = logging.getLogger("checkpoint_manager")


def check_policy(policy: object) -> None:
    """Raise unless the policy is a :class:`Retention`: a caller might pass a number instead."""
    if not isinstance(policy, Retention):
        raise wrong("the retention policy", policy, "a Retention")


def prune(store: Store, policy: Retention, stage: str | None, *, dry_run: bool, reason: str | None = None) -> PrunePlan:
    """Delete what a policy does not keep of one stage, or of all, and return the plan; with ``dry_run``, only return it.

    Raises:
        CheckpointNotFoundError: There is no such stage.
        IntegrityError, RollbackError: The record of tags or deletions can't be trusted. Nothing of that stage is deleted.
    """
    stages = store.stages() if stage is None else [stage]
    for name in stages:  # report a stage that vanished before anything is deleted
        if stage is None:
            store.history.look(name)
        else:
            store.history.existing(name)
    now, waits = datetime.now(UTC), Waits(store)
    plans = [
        _dry_run(store, policy, name, now) if dry_run else _prune(store, policy, name, now, waits, reason) for name in stages
    ]
    return PrunePlan(tuple(decision for plan in plans for decision in plan.decisions))


def _dry_run(store: Store, policy: Retention, stage: str, now: datetime) -> PrunePlan:
    with store.session(stage) as session:
        return _plan(store, policy, stage, now, session)


def _prune(store: Store, policy: Retention, stage: str, now: datetime, waits: Waits, reason: str | None) -> PrunePlan:
    with waits.lock(stage) as lock, waits.session(stage, lock) as session:
        plan = _plan(store, policy, stage, now, session)
        dropped = sorted(version.number for version in plan.dropped)
        if dropped:
            store.flush(stage, session)  # before anything that is durable is changed
            tags = tag.certain(store, stage)
            tag.untag_locked(store, stage, [name for number in dropped for name in tags.of(number)])
            delete.drop(store, stage, dropped, session)
            tag.note_deletion_locked(store, stage, dropped, reason)
        delete.remove_leftovers(store, stage, session)
        return plan


def _plan(store: Store, policy: Retention, stage: str, now: datetime, session: Session) -> PrunePlan:
    tags = tag.certain(store, stage)
    named = {name: tagged.version for name, tagged in tags.named.items()}
    return retention.plan(policy, _sound_history(store, stage, session), named, now, read_group)


def _sound_history(store: Store, stage: str, session: Session) -> list[Version]:
    """Return the versions that open, newest first, after reading the data of the newest completed one.

    Older versions may be deleted because that one exists, so it must be whole, and its metadata alone does not show that.
    """
    versions = [entry.as_version(stage, number) for number, entry in listing.entries(store, stage, session)]
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
