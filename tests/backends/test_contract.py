"""The shipped contract, run against every backend of this library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.backends.stage_names import to_filename
from checkpoint_manager.testing import BackendContract, MaintenanceContract

if TYPE_CHECKING:
    from checkpoint_manager.backends.base import Backend


def folder_of(backend: Backend, stage: str) -> Path:
    return Path(backend.location) / "history" / to_filename(stage)


class LocalBackDoor(MaintenanceContract):
    """The contract as a backend in a directory is asked to keep it."""

    def read_behind(self, backend: Backend, stage: str, version: int) -> bytes | None:
        path = folder_of(backend, stage) / f"{version:012d}.checkpoint"
        return path.read_bytes() if path.exists() else None

    def write_behind(self, backend: Backend, stage: str, version: int, data: bytes) -> None:
        """As a version appears: under its name all at once. One beyond a gap comes with the head removed before."""
        folder = folder_of(backend, stage)
        name = f"{version:012d}.checkpoint"
        if version > 1 and not (folder / f"{version - 1:012d}.checkpoint").exists():
            (Path(backend.location) / f"{to_filename(stage)}.checkpoint").unlink(missing_ok=True)
        (folder / "written").write_bytes(data)
        (folder / "written").rename(folder / name)

    def leave_behind(self, backend: Backend, stage: str) -> None:
        (folder_of(backend, stage) / ".0123456789abcdef.tmp").touch(mode=0o600)


class TestLocal(LocalBackDoor):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "a" / "store")


class TestLocalRelaxed(LocalBackDoor):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "store", durability="relaxed")


class MemoryBackDoor(BackendContract):
    """The contract as a backend in memory is asked to keep it."""

    def read_behind(self, backend: Backend, stage: str, version: int) -> bytes | None:
        assert isinstance(backend, MemoryBackend)
        return backend._versions.get(stage, {}).get(version)

    def write_behind(self, backend: Backend, stage: str, version: int, data: bytes) -> None:
        assert isinstance(backend, MemoryBackend)
        backend._versions[stage][version] = data


class TestMemory(MemoryBackDoor):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()
