"""The library itself: as it is installed, relaxed, and in its SQLite backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import KEY, Contender
from checkpoint_manager import CheckpointManager, CheckpointNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from checkpoint_manager.models import Durability

OURS = "checkpoint_manager"
RELAXED = "checkpoint_manager, relaxed"
IN_SQLITE = "checkpoint_manager in SQLite"
VARIANTS = frozenset({RELAXED, IN_SQLITE})
"""Not in each comparison."""


class Ours(Contender):
    name = OURS
    kind = "ours"

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder, durable=durable)
        self.durability: Durability = "full" if durable else "relaxed"
        self.manager = CheckpointManager(self.place(folder), key=KEY, durability=self.durability)

    @staticmethod
    def place(folder: Path) -> Path | str:
        """Return where the store is."""
        return folder / "store"

    @property
    def setting(self) -> str:
        return f'durability="{self.durability}"'

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


class InSqlite(Ours):
    name = IN_SQLITE

    def __init__(self, folder: Path, *, durable: bool = True) -> None:  # noqa: ARG002  # a database is always durable
        super().__init__(folder)

    @staticmethod
    def place(folder: Path) -> Path | str:
        return f"sqlite:///{folder}/store.sqlite"

    @property
    def setting(self) -> str:
        return "journal_mode=wal synchronous=FULL"

    def close(self) -> None:
        self.manager.close()
