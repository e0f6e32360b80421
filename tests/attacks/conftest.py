"""A small store, and the powers of someone who may write to its directory but has no key."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(range(32))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two stages of three versions each, and a deleted version."""
    directory = tmp_path / "store"
    cm = CheckpointManager(directory, key=KEY)
    for stage in ("clean", "train"):
        for number in range(1, 5):
            cm.save_checkpoint(stage, {"stage": stage, "number": number}, metadata={"run": "a7"})
        cm.delete_versions(stage, [1])
    return directory


@pytest.fixture
def opened(store: Path) -> Callable[..., CheckpointManager]:
    """Open the store as its owner does in a new process; ``forgetful``: as a user who has never seen it."""

    def make(*, forgetful: bool = False, key: Any = KEY, directory: Path | None = None) -> CheckpointManager:
        if forgetful:
            state = Path(os.environ["HOME"]) / ".local" / "state" / "checkpoint_manager"
            for memory in state.rglob("*"):
                if memory.is_file():
                    memory.unlink()
        return CheckpointManager(directory or store, key=key, lock_timeout=0.2)

    return make


@pytest.fixture
def become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Become another user: one with a home, and so with a memory, of its own."""

    def become_user(name: str) -> None:
        (tmp_path / "homes" / name).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("HOME", str(tmp_path / "homes" / name))

    return become_user


@pytest.fixture
def version_file(store: Path) -> Callable[[str, int], Path]:
    return lambda stage, version: store / "history" / stage / f"{version:012d}.checkpoint"


@pytest.fixture
def edit_keyring(store: Path) -> Callable[[Callable[[Any], object]], None]:
    """Change the keyring as an attacker would: the checksum, which anyone can compute, is made to fit."""

    def edit(change: Callable[[Any], object]) -> None:
        path = store / "keyring.json"
        fields = orjson.loads(path.read_bytes())
        change(fields)
        write_keyring(path, fields)

    return edit


def write_keyring(path: Path, fields: dict[str, Any]) -> None:
    content = {name: value for name, value in fields.items() if name != "checksum"}
    checksum = hashlib.sha256(orjson.dumps(content)).hexdigest()
    path.unlink()
    path.write_bytes(orjson.dumps(content | {"checksum": checksum}) + b"\n")
