"""A store, and a folder, of another user of this host."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

OTHER = 65_534
COMMANDS = ("status", "list", "log train", "show train", "has train", "save train -", "verify", "repair --yes", "key list")

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")


@contextlib.contextmanager
def acting_as(user: int, home: Path) -> Iterator[None]:
    """Act as another user, who has a home of his own and is not above the rules of the file system."""
    for path in (home, *home.rglob("*")):
        os.chown(path, user, user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def reachable(tmp_path: Path, home: Path) -> Iterator[Path]:
    """Let other users reach this test's folder."""
    modes = {parent: parent.stat().st_mode for parent in (tmp_path, *tmp_path.parents)}
    for parent, mode in modes.items():
        if mode & 0o005 != 0o005:
            parent.chmod(mode | 0o055)
    yield tmp_path
    for parent, mode in modes.items():
        if parent.stat().st_mode != mode:
            parent.chmod(mode)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("mode", [0o700, 0o755], ids=["closed", "readable"])
def test_the_store_of_another_user_is_an_error_of_the_system(
    command: str, mode: int, cli: Cli, store: Path, home: Path, reachable: Path
) -> None:
    cli(*command.split())  # loads what the command needs
    cli("save", "nowhere")
    store.chmod(mode)
    with acting_as(OTHER, home):
        result = cli(*command.split())
    assert result.code == 20
    assert result.out == ""
    assert str(store) in result.err or "store at checkpoints" in result.err
    assert "Give this user access" in result.err or "Run this as root" in result.err


def test_a_folder_of_another_user_can_not_become_a_store(cli: Cli, store: Path, home: Path, reachable: Path) -> None:
    (reachable / "theirs").mkdir(mode=0o755)
    cli("init", "--store", "loads")
    with acting_as(OTHER, home):
        result = cli("init", "--store", "theirs")
    assert result.code == 20
    assert "theirs" in result.err
    assert list((reachable / "theirs").iterdir()) == []
