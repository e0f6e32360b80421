"""The library itself: as it is best installed, without its extra ``fast``, and relaxed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import KEY, AbsentError, Contender
from checkpoint_manager import CheckpointManager, CheckpointNotFoundError
from checkpoint_manager._format import payload

if TYPE_CHECKING:
    from pathlib import Path

    from checkpoint_manager.models import Durability

OURS = "checkpoint_manager"
RELAXED = "checkpoint_manager, relaxed"
PLAIN = "checkpoint_manager, without fast"
VARIANTS = frozenset({RELAXED, PLAIN})
"""Not in each comparison."""


class Ours(Contender):
    name = OURS
    kind = "ours"

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder, durable=durable)
        self.durability: Durability = "full" if durable else "relaxed"
        self.manager = CheckpointManager(folder / "store", key=KEY, durability=self.durability)

    @property
    def setting(self) -> str:
        return f'durability="{self.durability}", ' + ("extra fast" if _has_fast() else "without the extra fast")

    def save(self, stage: str, value: Any) -> int:
        return self.manager.save_checkpoint(stage, value).number

    def load(self, stage: str, version: int | None = None) -> Any:
        try:
            return self.manager.load_checkpoint(stage, version)
        except CheckpointNotFoundError:
            return None

    def has(self, stage: str) -> bool:
        return self.manager.has_checkpoint(stage)

    def history(self, stage: str) -> int:
        return len(self.manager.history(stage))


class Relaxed(Ours):
    name = RELAXED
    lacks = frozenset({"sync"})

    def __init__(self, folder: Path, *, durable: bool = False) -> None:  # noqa: ARG002  # it never is
        super().__init__(folder, durable=False)


class Plain(Ours):
    """As it is without ``ormsgpack``: taking turns in one process with the one that has it, it is told that there is none."""

    name = PLAIN

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        if not _has_fast():
            raise AbsentError(f"ormsgpack is not installed: it is the same as {OURS}")
        super().__init__(folder, durable=durable)

    @property
    def setting(self) -> str:
        return f'durability="{self.durability}", without the extra fast'

    def save(self, stage: str, value: Any) -> int:
        there = payload._pack  # noqa: SLF001
        payload._pack = lambda: None  # type: ignore[assignment]  # noqa: SLF001
        try:
            return super().save(stage, value)
        finally:
            payload._pack = there  # noqa: SLF001


def _has_fast() -> bool:
    return importlib.util.find_spec("ormsgpack") is not None
