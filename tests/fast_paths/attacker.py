"""What someone can do who writes to the directory of a store, or to what a user has seen, and has no key.

Each step depends on nothing but what is there, so that it does the same to two directories that are alike. Where there is
nothing to do it to, it does nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from checkpoint_manager._format.digest import sha256
from tests.fast_paths.program import STAGES
from tests.taking_away import leave_the_head, take_away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GARBAGE = b"nothing that opens"


class Attacker:
    """Changes a store behind the library's back.

    Args:
        store: The store's directory.
        states: The state directories of its users.
        aside: A folder for what is kept.
    """

    def __init__(self, store: Path, states: list[Path], aside: Path) -> None:
        self._store = store
        self._states = states
        self._aside = aside

    def attack(self, kind: str, stage: int, who: int, number: int) -> None:
        """Make one step; see :class:`tests.fast_paths.program.Op`."""
        with contextlib.suppress(FileNotFoundError):
            step: Callable[..., None] = getattr(self, f"_{kind.replace(' ', '_')}")
            step(STAGES[stage], self._states[who % len(self._states)], number)

    # Of versions

    def _folder(self, stage: str) -> Path:
        return self._store / "history" / stage

    def _versions(self, stage: str) -> list[Path]:
        """Return the files of the versions of a stage, newest first."""
        return sorted(self._folder(stage).glob("*.checkpoint"), reverse=True)

    def _chosen(self, stage: str, number: int) -> Path:
        versions = self._versions(stage)
        if not versions:
            raise FileNotFoundError
        return versions[number % len(versions)]

    def _head(self, stage: str) -> Path:
        return self._store / f"{stage}.checkpoint"

    def _take_the_newest_away(self, stage: str, _: Path, __: int) -> None:
        take_away(self._chosen(stage, 0))

    def _leave_its_head(self, stage: str, _: Path, __: int) -> None:
        leave_the_head(self._chosen(stage, 0))

    def _remove_a_version(self, stage: str, _: Path, number: int) -> None:
        self._chosen(stage, number).unlink()

    def _remove_the_head(self, stage: str, _: Path, __: int) -> None:
        self._head(stage).unlink()

    def _put_an_older_head_back(self, stage: str, _: Path, number: int) -> None:
        version = self._chosen(stage, 1 + number)
        self._head(stage).unlink(missing_ok=True)
        os.link(version, self._head(stage))

    def _copy_the_head(self, stage: str, _: Path, __: int) -> None:
        _rewrite(self._head(stage), self._head(stage).read_bytes(), in_place=False)

    def _exchange_two_versions(self, stage: str, _: Path, number: int) -> None:
        one, other, between = self._chosen(stage, 0), self._chosen(stage, 1 + number), self._store / "between"
        if one != other:
            one.rename(between)
            other.rename(one)
            between.rename(other)

    def _write_a_version_over_another(self, stage: str, _: Path, number: int) -> None:
        _rewrite(self._chosen(stage, 0), self._chosen(stage, 1 + number // 2).read_bytes(), in_place=bool(number % 2))

    def _damage_a_version(self, stage: str, _: Path, number: int) -> None:
        _damage(self._chosen(stage, number // 2), in_place=bool(number % 2))

    def _cut_a_version(self, stage: str, _: Path, number: int) -> None:
        os.truncate(self._chosen(stage, number), 100)

    def _plant_a_version(self, stage: str, _: Path, number: int) -> None:
        (self._folder(stage) / f"{self._newest(stage) + 1 + number:012d}.checkpoint").write_bytes(GARBAGE)

    def _plant_a_pending_version(self, stage: str, _: Path, number: int) -> None:
        content = self._chosen(stage, 0).read_bytes() if number % 2 else GARBAGE
        name = f"{self._newest(stage) + 1:012d}.{sha256(content if number < 3 else b'torn')}.pending"
        (self._folder(stage) / name).write_bytes(content)

    def _plant_a_temporary_file(self, stage: str, _: Path, number: int) -> None:
        (self._folder(stage) / f".{self._newest(stage) + 1 + number:016d}.tmp").write_bytes(GARBAGE)

    def _newest(self, stage: str) -> int:
        return max((int(version.stem) for version in self._versions(stage)), default=0)

    # Of records, folders and locks

    def _damage_the_deletions(self, stage: str, _: Path, number: int) -> None:
        _damage(self._folder(stage) / "gaps", in_place=bool(number % 2))

    def _remove_the_deletions(self, stage: str, _: Path, __: int) -> None:
        (self._folder(stage) / "gaps").unlink()

    def _plant_deletions(self, stage: str, _: Path, number: int) -> None:
        _rewrite(self._folder(stage) / "gaps", GARBAGE, in_place=bool(number % 2))

    def _exchange_the_folder_for_a_copy(self, stage: str, _: Path, __: int) -> None:
        folder, before = self._folder(stage), self._store / "before"
        folder.rename(before)
        copy_tree(before, folder)
        shutil.rmtree(before)

    def _exchange_the_folders(self, _: str, __: Path, ___: int) -> None:
        one, other, between = self._folder(STAGES[0]), self._folder(STAGES[1]), self._store / "between"
        if one.exists() and other.exists():
            one.rename(between)
            other.rename(one)
            between.rename(other)

    def _remove_the_folder(self, stage: str, _: Path, __: int) -> None:
        shutil.rmtree(self._folder(stage))

    def _set_the_history_aside(self, _: str, __: Path, ___: int) -> None:
        aside = self._aside / "history"
        if not aside.exists():
            (self._store / "history").rename(aside)
            copy_tree(aside, self._store / "history")

    def _put_what_was_aside_back(self, _: str, __: Path, ___: int) -> None:
        aside = self._aside / "history"
        if aside.exists():
            shutil.rmtree(self._store / "history", ignore_errors=True)
            aside.rename(self._store / "history")

    def _replace_the_lock_file(self, stage: str, _: Path, __: int) -> None:
        self.replace_lock(stage)

    def replace_lock(self, stage: str) -> None:
        """Put another file in the place of a stage's lock, of which the other writers do not know."""
        (self._store / ".locks" / f"{stage}.lock").unlink(missing_ok=True)

    def _remove_the_locks(self, _: str, __: Path, ___: int) -> None:
        shutil.rmtree(self._store / ".locks")

    def _damage_the_keyring(self, _: str, __: Path, number: int) -> None:
        _damage(self._store / "keyring.json", in_place=bool(number % 2))

    def _remove_the_keyring(self, _: str, __: Path, ___: int) -> None:
        (self._store / "keyring.json").unlink()

    # Of what a user has seen

    def _lines(self, stage: str, state: Path) -> Iterator[Path]:
        yield from sorted(state.glob(f"checkpoint_manager/*/{sha256(stage.encode())[:40]}"))

    def _remove_the_line(self, stage: str, state: Path, __: int) -> None:
        for line in self._lines(stage, state):
            line.unlink()

    def _damage_the_line(self, stage: str, state: Path, number: int) -> None:
        for line in self._lines(stage, state):
            _rewrite(line, GARBAGE, in_place=bool(number % 2))

    def _exchange_the_lines(self, _: str, state: Path, __: int) -> None:
        for one, other in zip(*(self._lines(stage, state) for stage in STAGES), strict=False):
            lines = one.read_bytes(), other.read_bytes()
            _rewrite(one, lines[1], in_place=True)  # a file with another name would stay open as what it was
            _rewrite(other, lines[0], in_place=True)

    # What was there before

    def _keep(self, _: str, __: Path, ___: int) -> None:
        kept = self._aside / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir()
        copy_tree(self._store, kept / "store")
        for number, state in enumerate(self._states):
            if state.exists():
                copy_tree(state, kept / str(number))

    def _kept(self, name: str) -> Path:
        return self._aside / "kept" / name

    def _put_all_back(self, _: str, __: Path, ___: int) -> None:
        _replace_tree(self._kept("store"), self._store)

    def _put_the_history_back(self, _: str, __: Path, ___: int) -> None:
        _replace_tree(self._kept("store") / "history", self._store / "history")

    def _put_the_folder_back(self, stage: str, _: Path, number: int) -> None:
        kept = self._kept("store") / "history" / stage
        if number % 2:
            _replace_tree(kept, self._folder(stage))
            return
        for file in [*sorted(self._folder(stage).iterdir())]:
            if file.is_file() and not (kept / file.name).exists():
                file.unlink()
        for file in sorted(kept.iterdir()):
            if file.is_file():
                _rewrite(self._folder(stage) / file.name, file.read_bytes(), in_place=number >= 2)

    def _put_the_deletions_back(self, stage: str, _: Path, number: int) -> None:
        kept = self._kept("store") / "history" / stage / "gaps"
        _rewrite(self._folder(stage) / "gaps", kept.read_bytes(), in_place=bool(number % 2))

    def _put_the_tags_back(self, stage: str, _: Path, number: int) -> None:
        kept = self._kept("store") / "history" / stage / "tags"
        _rewrite(self._folder(stage) / "tags", kept.read_bytes(), in_place=bool(number % 2))

    def _put_the_keyring_back(self, _: str, __: Path, number: int) -> None:
        kept = self._kept("store") / "keyring.json"
        _rewrite(self._store / "keyring.json", kept.read_bytes(), in_place=bool(number % 2))

    def _put_the_line_back(self, stage: str, state: Path, number: int) -> None:
        kept = self._kept(str(self._states.index(state)))
        for line in self._lines(stage, kept):
            _rewrite(state / line.relative_to(kept), line.read_bytes(), in_place=bool(number % 2))

    def _put_the_lines_back(self, _: str, state: Path, __: int) -> None:
        _replace_tree(self._kept(str(self._states.index(state))), state)

    def _make_a_copy_of_the_store(self, _: str, __: Path, ___: int) -> None:
        copy = self._store.with_name("copy")
        if not copy.exists():
            copy_tree(self._store, copy)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder, and keep files with several names what they are."""
    links: dict[int, str] = {}

    def copy(file: str, to: str) -> None:
        status = os.stat(file)
        first = links.setdefault(status.st_ino, to)
        if first == to:
            shutil.copyfile(file, to)
            os.chmod(to, 0o600)
        else:
            os.link(first, to)

    shutil.copytree(source, target, copy_function=copy)


def _replace_tree(source: Path, target: Path) -> None:
    if not source.exists():
        raise FileNotFoundError
    shutil.rmtree(target, ignore_errors=True)
    copy_tree(source, target)


def _damage(file: Path, *, in_place: bool) -> None:
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    _rewrite(file, bytes(content), in_place=in_place)


def _rewrite(file: Path, content: bytes, *, in_place: bool) -> None:
    """Write another content to a file, or put another file in its place."""
    if not in_place:
        file.unlink(missing_ok=True)
    file.write_bytes(content)
    file.chmod(0o600)
