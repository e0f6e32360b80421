"""The shipped contract, run against every backend of this library."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.testing import BackendContract

if TYPE_CHECKING:
    from pathlib import Path


class TestLocal(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "a" / "store")


class TestLocalRelaxed(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "store", durability="relaxed")


class TestMemory(BackendContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()
