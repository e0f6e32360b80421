"""Retention plans of a store: one is made at a time, in a thread of its own, and the newest few are kept.

A plan is identified by a digest of what it would do. A page shows a part of a plan that is kept, and pruning deletes what the
plan that was shown says; the plan is not made again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager.dashboard import unexpected
from checkpoint_manager.errors import CheckpointError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager import CheckpointManager, PrunePlan
    from checkpoint_manager.retention import Retention

_MOST_KEPT = 4
_READY_SECONDS = 30.0
"""How long a plan that is ready waits to be asked for."""


class Plan(NamedTuple):
    """What a policy would delete.

    Attributes:
        policy: The policy.
        stage: The stage that it is for; empty: all.
        decisions: What is kept and what is not.
        newest: The newest version that each stage had before.
        digest: Identifies it.
    """

    policy: Retention
    stage: str
    decisions: PrunePlan
    newest: dict[str, int]
    digest: str

    def dropped(self) -> dict[str, list[int]]:
        """Return the numbers of the versions to delete, by stage."""
        found: dict[str, list[int]] = {}
        for version in self.decisions.dropped:
            found.setdefault(version.stage, []).append(version.number)
        return found


@dataclass(slots=True)
class _Making:
    """A plan that is being made, or is ready and was not asked for yet."""

    policy: Retention
    stage: str
    is_ready: threading.Event = field(default_factory=threading.Event)
    ready_at: float = 0.0
    plan: Plan | None = None
    error: CheckpointError | None = None

    def serves(self, policy: Retention, stage: str) -> bool:
        """Return whether it is the plan that is asked for, and not too old."""
        is_old = self.is_ready.is_set() and time.monotonic() - self.ready_at > _READY_SECONDS
        return (self.policy, self.stage) == (policy, stage) and not is_old


class Plans:
    """The plans of one store.

    Args:
        store: Returns the store.
    """

    def __init__(self, store: Callable[[], CheckpointManager]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._making: _Making | None = None
        self._kept: dict[str, Plan] = {}

    def kept(self, digest: str) -> Plan | None:
        """Return a plan that was made, if it is still kept."""
        return self._kept.get(digest)

    def make(self, policy: Retention, stage: str, wait: float) -> Plan | None:
        """Return the plan of a policy for a stage, or for all; None: it is not ready, or another one is being made.

        Args:
            policy: The policy.
            stage: The stage; empty: all.
            wait: How long to wait for it, in seconds.

        Raises:
            CheckpointError: It can't be made.
        """
        with self._lock:
            making = self._making
            if making is None or (making.is_ready.is_set() and not making.serves(policy, stage)):
                making = self._making = _Making(policy, stage)
                threading.Thread(target=self._make, args=(making,), name="plan", daemon=True).start()
        if (making.policy, making.stage) != (policy, stage) or not making.is_ready.wait(wait):
            return None
        with self._lock:
            if self._making is making:
                self._making = None
        if making.error is not None:
            raise making.error
        return making.plan

    def _make(self, making: _Making) -> None:
        try:
            making.plan = plan = _made(self._store(), making.policy, making.stage)
            with self._lock:
                self._kept[plan.digest] = plan
                while len(self._kept) > _MOST_KEPT:
                    del self._kept[next(iter(self._kept))]
        except CheckpointError as error:
            making.error = error
        except Exception as error:  # noqa: BLE001  # nothing of it reaches a page
            unexpected.log("A plan", error)
            making.error = CheckpointError(unexpected.TOLD)
        finally:
            making.ready_at = time.monotonic()
            making.is_ready.set()


def _made(cm: CheckpointManager, policy: Retention, stage: str) -> Plan:
    newest = {name: newest_number(cm, name) for name in ([stage] if stage else cm.stages())}
    decisions = cm.prune(policy, stage or None, dry_run=True)
    told = [f"{policy} {stage}", *(f"{each.stage} {each.number} {newest.get(each.stage)}" for each in decisions.dropped)]
    digest = hashlib.sha256("\0".join(told).encode(errors="surrogatepass")).hexdigest()
    return Plan(policy, stage, decisions, newest, digest)


def newest_number(cm: CheckpointManager, stage: str) -> int:
    """Return the number of the newest version of a stage, whether it opens or not."""
    try:
        return cm.get_version(stage).number
    except IntegrityError as error:
        if error.version is None:
            raise
        return error.version
