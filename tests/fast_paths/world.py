"""One of two worlds that the same is done to, and what can be seen of it, in words that both have in common."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, Retention
from checkpoint_manager._format.digest import sha256
from checkpoint_manager._operations import auto_prune, load, status
from checkpoint_manager._store.first_look import first_look
from tests.fast_paths.attacker import Attacker
from tests.fast_paths.program import STAGES, Op, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KEY = bytes(range(32))
USERS = (0, 0, 1, 0)
"""Whose each manager is."""
ELSEWHERE = 3
"""The manager of a copy."""
MUCH = 100_000
"""More characters than a first look reads at once; three times as many are more than a save writes at once, too."""


class World:
    """A store, its users and an attacker.

    Args:
        root: An empty folder for all of it.
        program: What will be done.
        is_general: The general ways decide everything.

    Attributes:
        taken: How often each fast path had an answer.
    """

    def __init__(self, root: Path, program: Program, *, is_general: bool) -> None:
        self._root = root
        self._program = program
        self._is_general = is_general
        self._managers: dict[int, CheckpointManager] = {}
        self._states = [root / f"state {user}" for user in range(2)]
        self._tokens: dict[str, str] = {}
        self._log: list[str] = []
        self._saves = 0
        self.taken = Counter[str]()
        self.store = root / "store"
        aside = root / "aside"
        aside.mkdir()
        self._attacker = Attacker(self.store, self._states, aside)

    # What is done

    def do(self, op: Op) -> tuple[object, ...]:
        """Do it, and return what was answered and logged, and what there is afterwards."""
        answer: object = None
        self._log.clear()
        with self._as_user(USERS[op.who]), logged_to(self._log):
            call = getattr(self, f"_{op.kind.replace(' ', '_').replace(',', '')}", None)
            if call is None:
                self._attacker.attack(op.kind, op.stage, USERS[op.who], op.number)
            else:
                answer = self._answer(lambda: call(self._manager(op.who), STAGES[op.stage], op))
        return answer, self._told(self._log), self.stored(), self.seen()

    def judged(self) -> list[object]:
        """Return what each user finds in the end, with a new manager."""
        found: list[object] = []
        for user in range(len(self._states)):
            self._log.clear()
            with self._as_user(user), logged_to(self._log):
                cm = self._answer(self._opened)
                if isinstance(cm, CheckpointManager):
                    found += [self._answer(look, cm, stage) for stage in STAGES for look in (_load, _history)]
                    found.append(self._answer(self._verify, cm))
            found += [self._told(self._log), self.stored(), self.seen()]
        return found

    def _answer(self, call: Callable[..., object], *arguments: object) -> object:
        try:
            return call(*arguments)
        except CheckpointError as error:
            fields = {name: value for name, value in vars(error).items() if isinstance(value, str | int | None)}
            return type(error).__name__, self._told([str(error), *(f"{name}: {value}" for name, value in fields.items())])

    @contextmanager
    def _as_user(self, user: int) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(self._states[user]))
            for module in (load, status):
                patch.setattr(module, "first_look", self._watched(first_look))
            patch.setattr(auto_prune, "_ENOUGH", 2)
            yield

    def _manager(self, who: int) -> CheckpointManager:
        if who not in self._managers:
            self._managers[who] = self._opened(who)
        return self._managers[who]

    def _opened(self, who: int = 0) -> CheckpointManager:
        place = self.store
        if who == ELSEWHERE and (copy := self._root / "copy").exists():
            place = copy
        kind = self._program.second if who == 1 else "alike"
        cm = CheckpointManager(
            place,
            key=KEY,
            lock_timeout=3,
            durability="relaxed" if kind == "relaxed" else "full",
            retention=Retention(keep_last=2) if kind == "pruning" else None,
            on_rollback=self._program.on_rollback,
        )
        for owner, name in ((cm._store.backend, "session_after"), (cm._store.verified, "recall")):
            setattr(owner, name, self._watched(getattr(owner, name)))
        return cm

    def _watched(self, fast_path: Callable[..., object]) -> Callable[..., object]:
        """Return a fast path that has no answer in a general world, and whose answers are counted in the other one."""

        def watched(*arguments: object) -> object:
            answer = None if self._is_general else fast_path(*arguments)
            self.taken[fast_path.__name__] += answer is not None
            return answer

        return watched

    # The calls

    def _save(self, cm: CheckpointManager, stage: str, op: Op) -> int:
        self._saves += 1
        return cm.save_checkpoint(stage, self._saves).number

    def _save_much(self, cm: CheckpointManager, stage: str, op: Op) -> int:
        return cm.save_checkpoint(stage, "x" * MUCH * (3 if op.number % 2 else 1)).number

    def _expect(self, cm: CheckpointManager, stage: str, op: Op) -> int:
        return cm.save_checkpoint(stage, "expected", expected_version=op.number).number

    def _update(self, cm: CheckpointManager, stage: str, op: Op) -> int:
        return cm.update_checkpoint(stage, lambda present: [op.number, str(present)[:100]]).number

    def _load(self, cm: CheckpointManager, stage: str, op: Op) -> Any:
        return _load(cm, stage)

    def _load_version(self, cm: CheckpointManager, stage: str, op: Op) -> Any:
        return cm.load_checkpoint(stage, op.number)

    def _has(self, cm: CheckpointManager, stage: str, op: Op) -> bool:
        return cm.has_checkpoint(stage)

    def _status(self, cm: CheckpointManager, stage: str, op: Op) -> list[object]:
        found = cm.status(verified=bool(op.number % 2))
        return [(each.stage, each.newest and (each.newest.number, each.newest.status)) for each in found]

    def _history(self, cm: CheckpointManager, stage: str, op: Op) -> list[object]:
        return _history(cm, stage)

    def _restore(self, cm: CheckpointManager, stage: str, op: Op) -> int:
        return cm.restore_checkpoint(stage, op.number).number

    def _clear(self, cm: CheckpointManager, stage: str, op: Op) -> int | None:
        cleared = cm.clear_checkpoint(stage)
        return cleared and cleared.number

    def _clear_all(self, cm: CheckpointManager, stage: str, op: Op) -> list[object]:
        return [(each.stage, each.number) for each in cm.clear_checkpoints()]

    def _delete(self, cm: CheckpointManager, stage: str, op: Op) -> object:
        return cm.delete_versions(stage, [op.number])

    def _delete_stage(self, cm: CheckpointManager, stage: str, op: Op) -> list[int]:
        return cm.delete_stage(stage)

    def _prune(self, cm: CheckpointManager, stage: str, op: Op) -> list[object]:
        return [(each.stage, each.number) for each in cm.prune(Retention(keep_last=1 + op.number)).dropped]

    def _tag(self, cm: CheckpointManager, stage: str, op: Op) -> int:
        return cm.tag(stage, op.number, "good", force=True).number

    def _rotate(self, cm: CheckpointManager, stage: str, op: Op) -> None:
        cm.keys.rotate()

    def _verify(self, cm: CheckpointManager, *_: object) -> list[str]:
        return self._told([str(each) for each in cm.verify().problems])

    def _repair(self, cm: CheckpointManager, stage: str, op: Op) -> list[str]:
        return self._told([str(each) for each in cm.repair()])

    def _accept(self, cm: CheckpointManager, stage: str, op: Op) -> list[object]:
        return [(each.stage, each.number) for each in cm.accept_rollback(stage if op.number % 2 else None)]

    def _reopen(self, _: CheckpointManager, stage: str, op: Op) -> None:
        self._managers[op.who] = self._opened(op.who)

    def _save_and_be_refused(self, cm: CheckpointManager, stage: str, op: Op) -> object:
        """Save, while the system refuses one of the steps."""
        calls = itertools.count()
        step = ("link", "rename", "write", "fsync")[op.number % 4]
        call = getattr(os, step)

        def refused(*arguments: Any, **named: Any) -> Any:
            if next(calls) == op.number // 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, step, refused)
            return self._answer(self._save, cm, stage, op)

    def _save_and_others_meanwhile(self, cm: CheckpointManager, stage: str, op: Op) -> list[object]:
        """Save, and let another manager do something at the link that makes a version, with another file as its lock."""
        others: list[object] = []
        other, link, is_before = self._opened(), os.link, op.number % 2  # it has not opened the lock's file yet
        what = (self._rotate, self._save, self._delete)[op.number // 2]
        is_first = iter([True])

        def linked(*arguments: Any, **named: Any) -> None:
            is_now = str(arguments[1]).endswith(".checkpoint") and next(is_first, False)
            if is_now and is_before:
                act()
            link(*arguments, **named)
            if is_now and not is_before:
                act()

        def act() -> None:
            self._attacker.replace_lock(stage)
            with ThreadPoolExecutor(1) as threads:
                task = Op("delete", op.stage, number=1)
                others.append(threads.submit(self._answer, what, other, stage, task).result())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.link", linked)
            return [self._answer(self._save, cm, stage, op), others]

    # What can be seen

    def stored(self) -> list[object]:
        """Return what there is in the store's directory: which names lead to one file, and which files are alike."""
        return self._tree(self.store)

    def seen(self) -> list[object]:
        """Return what the users have seen."""
        return [sorted((name, self._text(path)) for name, path in self._files(state)) for state in self._states]

    def _tree(self, place: Path) -> list[object]:
        names: dict[tuple[int, int], str] = {}
        found: list[object] = []
        for name, path in self._files(place):
            if name.endswith(".pending") and os.path.exists(
                f"{os.path.dirname(path)}/{os.path.basename(path)[:12]}.checkpoint"
            ):
                continue  # left until the next save, or none because the version was written in another way
            status = os.stat(path)
            first = names.setdefault((status.st_dev, status.st_ino), name)
            found.append((name, first if first != name else self._token([sha256(_content(path))])))
        return found

    def _files(self, place: Path) -> list[tuple[str, str]]:
        """Return the files in a folder, and their names in words."""
        start = len(str(place)) + 1
        paths = [f"{folder}/{name}" for folder, _, names in os.walk(place) for name in names]
        paths.sort(key=lambda path: (_RANDOM.sub(_known, path[start:]), os.stat(path).st_mtime_ns, path))
        return [(self._told([path[start:]])[0], path) for path in paths]

    def _text(self, path: str) -> str:
        line = _content(path).partition(b"\n")[0]  # behind it may stand the state in which a save has left a stage
        return self._told([line.decode("utf-8", "replace")])[0]

    def _told(self, lines: list[str]) -> list[str]:
        """Return lines with words in the place of what is random, each word for one thing."""
        place = str(self._root)
        return [_RANDOM.sub(self._token, _WAITED.sub("… s", line.replace(place, "…"))) for line in lines]

    def _token(self, random: Sequence[str | Any]) -> str:
        return _known(random) or self._tokens.setdefault(random[0], f"<{len(self._tokens)}>")


_WAITED = re.compile(r"[0-9]+\.[0-9]+ s\b")
_RANDOM = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{8}|(?!0{8})[0-9a-f]{16,})(?![0-9a-f])")
_STAGE_FILES = {sha256(stage.encode())[:40] for stage in STAGES}


def _known(random: Sequence[str | Any]) -> str:
    """Return what looks random, if it is a name that both worlds have; otherwise nothing."""
    return random[0] if random[0] in _STAGE_FILES else ""


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _load(cm: CheckpointManager, stage: str) -> Any:
    return str(cm.load_checkpoint(stage))[:100]


def _history(cm: CheckpointManager, stage: str) -> list[object]:
    return [(each.number, each.status, each.restored_from) for each in cm.history(stage)]


@contextmanager
def logged_to(lines: list[str]) -> Iterator[None]:
    """Collect what the library logs as a warning or an error."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname}: {record.getMessage()}")

    logger, handler = logging.getLogger("checkpoint_manager"), Collector(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
