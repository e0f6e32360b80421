"""Who else may read, change or replace what is this user's own."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager._filesystem.permissions import (
    exposed_parent,
    make_private_directories,
    others_may_write,
)

if TYPE_CHECKING:
    from pathlib import Path


def group(monkeypatch: pytest.MonkeyPatch, name: str, members: list[str], *, primary: bool = True) -> None:
    """Let this user be "alice", and the group of each file be one of this name with these members."""
    user = SimpleNamespace(pw_name="alice", pw_gid=os.getegid() if primary else os.getegid() + 1)
    monkeypatch.setattr("pwd.getpwuid", lambda _: user)
    monkeypatch.setattr("grp.getgrgid", lambda _: SimpleNamespace(gr_name=name, gr_mem=members))


def test_a_group_of_ones_own_is_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many systems make a group for each user and let it write, which is no reason for a warning."""
    tmp_path.chmod(0o770)
    group(monkeypatch, "alice", [])
    assert not others_may_write(tmp_path.stat())
    group(monkeypatch, "alice", ["alice"])
    assert not others_may_write(tmp_path.stat())


@pytest.mark.parametrize(("name", "members", "primary"), [("alice", ["bob"], True), ("users", [], True), ("alice", [], False)])
def test_a_shared_group_is_someone_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, members: list[str], primary: bool
) -> None:
    tmp_path.chmod(0o770)
    group(monkeypatch, name, members, primary=primary)
    assert others_may_write(tmp_path.stat())


def test_an_unknown_group_is_someone_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> object:
        raise KeyError("getgrgid(): gid not found")

    tmp_path.chmod(0o770)
    monkeypatch.setattr("grp.getgrgid", unknown)
    assert others_may_write(tmp_path.stat())


def test_the_nearest_folder_that_others_may_write_to_is_found_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "open" / "closed").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open" / "closed")
    assert exposed_parent(str(tmp_path / "link" / "file")) == str(tmp_path / "open")
    assert exposed_parent(str(tmp_path / "open")) == ""


def test_a_file_in_the_way_is_told_and_nothing_is_made_over_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        make_private_directories(str(tmp_path / "file" / "below"))
