"""The slots that open a store, as they may be shown, and where a change of its key stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One way to open the store, as ``cm.keys.list()`` shows it: nothing in it is secret.

    Attributes:
        slot: The slot's id, to name it in ``cm.keys.remove``.
        kind: ``key-file`` or ``passphrase``.
        label: What the owner called it, or the empty string.
        created_at: When it was added, aware, in UTC.
        current: True for the slot that this manager itself opened the store with.
    """

    slot: str
    kind: Literal["key-file", "passphrase"]
    label: str
    created_at: datetime
    current: bool = False


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """Where a key rotation stands; given to its callback after each version.

    Attributes:
        stage: The stage just worked on.
        done: Versions looked at so far.
        total: Versions there are to look at, as counted at the start of the run.
    """

    stage: str
    done: int
    total: int


OnRotation: TypeAlias = "Callable[[RotationProgress], None]"
