"""The files of an adapter's stage, which the judge ``agent-memory-integrity`` edits behind the store's back."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from tests.judge.test_agent_memory_integrity import Directory

if TYPE_CHECKING:
    from pathlib import Path

    from checkpoint_manager import CheckpointManager


class Files(Directory):
    """The files of the stages of ``train`` and ``other``.

    Attributes:
        prefix: What the names of the stages begin with.
    """

    prefix = ""

    @abstractmethod
    def save(self, cm: CheckpointManager, name: str, number: int) -> None:
        """Save something under a name by way of the adapter."""

    def _save(self, stage: str, n: int) -> None:
        assert self.cm is not None
        for number in range(n):
            self.save(self.cm, stage, number)

    def _read(self, stage: str) -> Any:
        return super()._read(f"{self.prefix}%2f{stage}")

    def _record(self, stage: str, path: Path) -> Any:
        return super()._record(stage.rpartition("%2f")[2], path)

    def _path(self, number: int) -> Path:
        return self.root / "history" / f"{self.prefix}%2ftrain" / f"{number:012}.checkpoint"

    def _follow(self) -> None:
        head = self.root / f"{self.prefix}%2ftrain.checkpoint"
        head.unlink(missing_ok=True)
        os.link(max(self._path(1).parent.glob("*.checkpoint")), head)
