"""Cuts the power at each step of a scenario, builds what may be left of the disk, and opens it.

``python -m tests.powercut.run [--limit N] [--sqlite] [SCENARIO …]`` prints a line for each; the limit is that of the states for
each step.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import random
import shutil
import signal
import stat
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager import CheckpointManager, Retention
from checkpoint_manager._filesystem import files
from checkpoint_manager._format import attachment, payload
from checkpoint_manager._operations import auto_prune as trimming
from checkpoint_manager._store import history
from checkpoint_manager.backends.local import LocalBackend, attachments, folders, pending
from checkpoint_manager.backends.sqlite import forks
from tests.concurrency.writer import digest
from tests.faults.host import in_child
from tests.faults.strace import CHANGING, Call, calls
from tests.powercut.disk import Disk, Tree, build
from tests.powercut.recording import MARK, OPTIONS, Mark, Step, read

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Durability

LONG = "a very long name " * 15
TWO_BLOCKS = "x" * 6000
LOCK_TIMEOUT = 1.0
SCHEME = ""
"""What the location of a store begins with: nothing, or that of SQLite."""
DEFAULT_LIMIT = 400


def tell(kind: str, stage: str, version: int, data: object = None) -> None:
    """Leave a mark in the recording: what the power cut must not take back from here on."""
    text = orjson.dumps([kind, stage, version, digest(data)])
    with contextlib.suppress(FileNotFoundError):
        os.stat(MARK + text.hex())


def store_at(root: str) -> str:
    """Return the location of a recording's store."""
    return f"{SCHEME}{root}/project/some/store"


def opened(root: str, durability: Durability = "full", retention: Retention | None = None) -> CheckpointManager:
    """Open the store of a recording with the user's own key file."""
    os.environ["HOME"] = f"{root}/home"
    return CheckpointManager(store_at(root), lock_timeout=LOCK_TIMEOUT, durability=durability, retention=retention)


def save(cm: CheckpointManager, stage: str, data: object) -> None:
    """Save, and tell so."""
    tell("saved", stage, cm.save_checkpoint(stage, data).number, data)


def pipeline(root: str) -> None:
    """What most programs do."""
    cm = opened(root)
    save(cm, "train", 1)
    save(cm, "train", TWO_BLOCKS)
    save(cm, "clean", {"rows": 3})
    cm = opened(root)
    data = [cm.load_checkpoint("train"), 1]
    tell("saved", "train", cm.update_checkpoint("train", lambda _: data).number, data)
    tell("saved", "train", cm.restore_checkpoint("train", 1).number, 1)
    cleared = cm.clear_checkpoint("clean")
    tell("saved", "clean", cleared.number if cleared else 0, None)


def deletion(root: str) -> None:
    """Versions are deleted, and others saved; the last durable head is one below what is deleted."""
    cm = opened(root)
    for number in range(1, 3):
        save(cm, "train", number)
    save(cm, "clean", 1)  # the first save of a stage syncs the directory of the heads
    for number in range(3, 6):
        save(cm, "train", number)
    cm.delete_versions("train", [3, 4])
    tell("deleted", "train", 3)
    tell("deleted", "train", 4)
    save(cm, "train", 6)
    cm.delete_versions("train", [1])
    tell("deleted", "train", 1)


def whole_deletion(root: str) -> None:
    """A stage is deleted whole, and saved to again."""
    cm = opened(root)
    for number in range(1, 3):
        save(cm, "train", number)
    for version in cm.delete_stage("train"):
        tell("deleted", "train", version)
    save(cm, "train", 4)


def keeping(root: str) -> None:
    """Versions are tagged and pruned, by hand and after saves; what is kept is never taken back."""
    cm = opened(root)
    for number in range(1, 4):
        save(cm, "train", number)
    cm.tag("train", 1, "good")
    tell("tagged", "train", 1)
    cm.prune(Retention(keep_last=1))
    tell("deleted", "train", 2)
    trimming._ENOUGH = 2
    cm = opened(root, retention=Retention(keep_last=1))
    for number in range(4, 6):
        tell("saved", "train", cm.save_checkpoint("train", number).number, number)


def attaching(root: str) -> None:
    """Contents are attached, referred to again, restored and deleted: no version ever lacks one."""
    cm = opened(root)
    cm.save_checkpoint("train", 1, attachments={"w": io.BytesIO(b"w" * 6000), "v": io.BytesIO(b"v")})
    tell("saved", "train", 1, 1)
    cm.save_checkpoint("train", 2, attachments={"w": cm.get_checkpoint("train").attachments["w"]})
    tell("saved", "train", 2, 2)
    cm.delete_versions("train", [1])
    tell("deleted", "train", 1)
    cm.save_checkpoint("train", 3)
    tell("saved", "train", cm.restore_checkpoint("train", 2).number, 2)
    cm.delete_versions("train", [2])
    tell("deleted", "train", 2)


def attached_save(root: str) -> None:
    """One more version, with an attachment."""
    opened(root).save_checkpoint("train", 2, attachments={"w": io.BytesIO(b"w" * 6000)})


def rotation(root: str) -> None:
    """The key is exchanged."""
    cm = opened(root)
    save(cm, "train", 1)
    save(cm, "train", 2)
    save(cm, "clean", 1)
    cm.keys.rotate()
    save(cm, "train", 3)


def relaxed_rotation(root: str) -> None:
    """The key is exchanged by a process that leaves its saves to the operating system: what was durable stays so."""
    cm = opened(root)
    save(cm, "train", 1)
    save(cm, "train", 2)
    save(cm, "clean", 1)
    cm = CheckpointManager(store_at(root), lock_timeout=LOCK_TIMEOUT, durability="relaxed")
    cm.keys.rotate()


def repair(root: str) -> None:
    """A damaged version is moved aside."""
    cm = opened(root)
    save(cm, "train", 1)
    save(cm, "train", 2)
    tell("damaged", "train", 1)
    path = Path(root) / "project" / "some" / "store" / "history" / "train" / "000000000001.checkpoint"
    with path.open("r+b") as file:
        file.write(b"damaged")
        file.flush()
        os.fsync(file.fileno())
    cm.repair()
    tell("set aside", "train", 1)


def tell_all(cm: CheckpointManager, stage: str) -> None:
    """Tell that all versions of a stage are there to stay: something durable was built on them."""
    for version in cm.history(stage):
        tell("saved", stage, version.number, cm.load_checkpoint(stage, version.number))


def relaxed_saves(root: str) -> None:
    """Saves of a relaxed store may be lost, and the next process goes on with what is left, without an alarm."""
    tell("relaxed", "train", 0)
    cm = opened(root, "relaxed")
    for number in range(1, 4):
        cm.save_checkpoint("train", number)
    cm = opened(root, "relaxed")
    cm.load_checkpoint("train")
    cm.update_checkpoint("train", lambda data: data + 1)
    cm.clear_checkpoint("train")


def relaxed_saves_later(root: str) -> None:
    """What was seen is on the disk. Of the saves since then, any may be lost and a later one kept, without an alarm."""
    cm = opened(root)
    save(cm, "train", 1)
    save(cm, "train", 2)
    for place, _, names in os.walk(f"{root}/home"):
        for path in (place, *(f"{place}/{name}" for name in names)):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    tell("relaxed", "train", 0)
    for _ in range(2):
        cm = opened(root, "relaxed")
        cm.save_checkpoint("train", "a")
        cm.save_checkpoint("train", "b")


def relaxed_deletion(root: str) -> None:
    """What remains after a deletion in a relaxed store is durable."""
    tell("relaxed", "train", 0)
    cm = opened(root, "relaxed")
    for number in range(1, 5):
        cm.save_checkpoint("train", number)
    cm.delete_versions("train", [1, 3])
    tell_all(cm, "train")
    tell("deleted", "train", 1)
    tell("deleted", "train", 3)
    cm.save_checkpoint("train", 5)
    for version in cm.delete_stage("train"):
        tell("deleted", "train", version)
    cm.save_checkpoint("train", 7)


def relaxed_pruning(root: str) -> None:
    """Pruning, after saves of a relaxed store and by hand in a store that is not, makes durable first what it keeps."""
    tell("relaxed", "train", 0)
    trimming._ENOUGH = 2
    cm = opened(root, "relaxed", Retention(keep_last=1))
    for number in range(1, 5):
        cm.save_checkpoint("train", number)
    full = opened(root)
    full.prune(Retention(keep_last=1))
    tell_all(full, "train")
    cm.save_checkpoint("train", 5)


def rotation_of_relaxed_saves(root: str) -> None:
    """A rotation of a relaxed store makes durable what it seals again before the old key goes."""
    tell("relaxed", "train", 0)
    cm = opened(root, "relaxed")
    for number in range(1, 3):
        cm.save_checkpoint("train", number)
    cm.keys.rotate()
    tell_all(cm, "train")
    cm.save_checkpoint("train", 3)


def relaxed_then_full(root: str) -> None:
    """A save that is durable is not built on what is not."""
    tell("relaxed", "train", 0)
    cm = opened(root, "relaxed")
    for number in range(1, 3):
        cm.save_checkpoint("train", number)
    full = opened(root)
    save(full, "train", 3)
    tell_all(full, "train")
    tell("saved", "train", full.restore_checkpoint("train", 1).number, 1)


def relaxed_tags(root: str) -> None:
    """A version that was given a name is there to stay, with its name."""
    tell("relaxed", "train", 0)
    cm = opened(root, "relaxed")
    for number in range(1, 4):
        cm.save_checkpoint("train", number)
    cm.tag("train", 2, "good")
    tell_all(cm, "train")
    tell("tagged", "train", 2)
    cm.save_checkpoint("train", 4)


def relaxed_export(root: str) -> None:
    """What a bundle holds is there to stay: the store does not go on from an older version than its copy."""
    tell("relaxed", "train", 0)
    cm = opened(root, "relaxed")
    for number in range(1, 4):
        cm.save_checkpoint("train", number)
    cm.export_bundle(io.BytesIO(), key=bytes(32))
    tell_all(cm, "train")
    cm.save_checkpoint("train", 4)


def relaxed_import(root: str) -> None:
    """What was imported is there to stay."""
    tell("relaxed", "train", 0)
    bundle = io.BytesIO()
    source = CheckpointManager("memory:")
    for number in range(1, 6):
        source.save_checkpoint("train", number)
    source.tag("train", 4, "good")
    source.delete_versions("train", [1, 3])
    source.export_bundle(bundle, key=bytes(32))
    cm = opened(root, "relaxed")
    bundle.seek(0)
    cm.import_bundle(bundle, key=bytes(32))
    tell_all(cm, "train")
    tell("tagged", "train", 4)
    cm.save_checkpoint("train", 6)


def relaxed_stages(root: str) -> None:
    """A loop and a function of a relaxed store may be lost, and the next process goes on without an alarm."""
    tell("relaxed", "train", 0)
    cm = opened(root, "relaxed")
    with cm.loop("train", [1, 2, 3], initial=[], every_items=1, bar=False) as loop:
        for item in loop:
            loop.state.append(item)
    cm.stage("count")(len)([1])
    cm.restore_checkpoint("train", "latest")


def sizes(root: str) -> None:
    """Large versions, which have no pending name, between small ones; the last one is checked while the disk takes it."""
    pending.MAX_BYTES = len(TWO_BLOCKS)
    payload._AHEAD_BYTES, payload._SLICE = len(TWO_BLOCKS), 1
    cm = opened(root)
    save(cm, "train", 1)
    save(cm, "train", 2)
    save(cm, "train", TWO_BLOCKS)
    save(cm, "train", 4)
    cm.delete_versions("train", [3])
    tell("deleted", "train", 3)
    save(cm, "train", [[1], [TWO_BLOCKS]])


def full_then_relaxed(root: str) -> None:
    """Saves that need not be durable do not stand above one whose own name is not durable."""
    cm = opened(root)
    save(cm, "train", 1)
    save(cm, "train", 2)
    tell("relaxed", "train", 0)
    opened(root, "relaxed").save_checkpoint("train", 3)


def long_name(root: str) -> None:
    """A stage whose name is no file's name."""
    cm = opened(root)
    save(cm, LONG, 1)
    save(cm, LONG, 2)


def first_save(root: str) -> None:
    """A new stage, in a store that is there."""
    opened(root).save_checkpoint("train", 1)


def another_save(root: str) -> None:
    """One more version."""
    opened(root).save_checkpoint("train", 2)


def taking_over(root: str) -> None:
    """The next process: it looks what is there, and goes on."""
    cm = opened(root)
    for version in cm.history("train")[:1]:
        tell("saved", "train", version.number, cm.load_checkpoint("train"))
    save(cm, "train", "taken over")


SCENARIOS: dict[str, tuple[Callable[[str], None], ...]] = {
    "pipeline": (pipeline,),
    "deletion": (deletion,),
    "whole deletion": (whole_deletion,),
    "rotation": (rotation,),
    "relaxed rotation": (relaxed_rotation,),
    "repair": (repair,),
    "attaching": (attaching,),
    "keeping": (keeping,),
    "long name": (long_name,),
    "sizes": (sizes,),
    "full then relaxed": (full_then_relaxed,),
    "relaxed saves": (relaxed_saves,),
    "relaxed saves later": (relaxed_saves_later,),
    "relaxed deletion": (relaxed_deletion,),
    "relaxed pruning": (relaxed_pruning,),
    "rotation of relaxed saves": (rotation_of_relaxed_saves,),
    "relaxed then full": (relaxed_then_full,),
    "relaxed tags": (relaxed_tags,),
    "relaxed export": (relaxed_export,),
    "relaxed import": (relaxed_import,),
    "relaxed stages": (relaxed_stages,),
}
KILLED: dict[str, tuple[Callable[[str], None], ...]] = {
    "killed first save": (first_save, taking_over),
    "killed save": (first_save, another_save, taking_over),
    "killed attaching": (first_save, attached_save, taking_over),
}
"""The last but one is killed at each call that changes files, in turn, and the last one comes along."""


OF_A_DATABASE = (
    *("pipeline", "deletion", "whole deletion", "rotation", "attaching", "keeping", "long name"),
    *("killed first save", "killed save"),
)
"""The scenarios that are no matter of a directory alone."""


# Libraries that break a promise, to show that it is seen


def _no_sync_of(is_kind: Callable[[int], bool]) -> None:
    sync = files.sync
    files.FSYNC_IS_ENOUGH = False  # pending files are synced by `files.sync`, too
    files.sync = lambda descriptor: None if is_kind(os.fstat(descriptor).st_mode) else sync(descriptor)


def no_sync_of_files() -> None:
    """A version is given its name without having been synced."""
    _no_sync_of(stat.S_ISREG)


def no_sync_of_directories() -> None:
    """A version's name is not made durable."""
    _no_sync_of(stat.S_ISDIR)


def name_before_sync() -> None:
    """The name of a large version comes first, and the sync after it."""
    pending.MAX_BYTES = 0
    write, publish = files.write_new, files.publish

    def write_only(name: str, directory: int, pieces: Any, *, durable: bool) -> os.stat_result:
        return write(name, directory, pieces, durable=False)

    def publish_and_sync(temporary: str, name: str, directory: int) -> None:
        publish(temporary, name, directory)
        with files.OpenFile(name, directory) as file:
            files.sync(file.descriptor)

    files.write_new, files.publish = write_only, publish_and_sync


def own_name_before_sync() -> None:
    """The own name of a small version comes first, and the syncs after it."""
    publish = pending.publish

    def early(version: int, content: Any, temporary: str, folder: int, durable: Any) -> Any:
        sync, delayed = os.fsync, []
        os.fsync = lambda descriptor: delayed.append(os.dup(descriptor))  # type: ignore[assignment, arg-type]
        try:
            return publish(version, content, temporary, folder, durable)
        finally:
            os.fsync = sync
            for descriptor in delayed:
                os.fsync(descriptor)
                os.close(descriptor)

    pending.publish = early


def no_adoption() -> None:
    """A pending version is left where it is."""
    pending.adopt = lambda *_: []


def torn_ones_adopted() -> None:
    """Any pending file is adopted."""
    pending._is_whole = lambda *_: True


def linked_above_a_pending_one() -> None:
    """A version is adopted, and so appears, above one whose own name is not durable."""
    take_over = pending._take_over

    def hasty(name: str, folder: int) -> bool:
        sync = files.sync
        files.sync = lambda descriptor: None if stat.S_ISDIR(os.fstat(descriptor).st_mode) else sync(descriptor)
        try:
            return take_over(name, folder)
        finally:
            files.sync = sync

    pending._take_over = hasty


def pending_names_removed_at_once() -> None:
    """The pending name goes when the version has its own name, before that is durable."""
    publish = pending.publish

    def eager(version: int, content: Any, temporary: str, folder: int, durable: Any) -> Any:
        name, status = publish(version, content, temporary, folder, durable)
        os.unlink(name, dir_fd=folder)
        return name, status

    pending.publish = eager


def no_sync_of_the_database() -> None:
    """SQLite leaves its files to the operating system."""

    def execute(connection: forks.Connection, sql: str, *arguments: Any) -> sqlite3.Cursor:
        return super(forks.Connection, connection).execute(sql.replace("synchronous = FULL", "synchronous = OFF"), *arguments)

    forks.Connection.execute = execute  # type: ignore[method-assign]


def large_above_a_pending_one() -> None:
    """A large version appears before the own name of the one below it is durable."""
    append = LocalBackend._append_large

    def careless(self: Any, stage: str, version: int, pieces: Any, found: Any, folder: int, *, durable: bool) -> Any:
        sync, write = files.sync, files.write_new
        left = [1]  # the first sync of the folder is left out

        def write_then_skip(*args: Any, **options: Any) -> Any:
            status = write(*args, **options)
            files.sync = lambda descriptor: left.pop() and None if left else sync(descriptor)
            return status

        files.write_new = write_then_skip
        try:
            return append(self, stage, version, pieces, found, folder, durable=durable)
        finally:
            files.sync, files.write_new = sync, write

    LocalBackend._append_large = careless  # type: ignore[method-assign]


def no_sync_of_parents() -> None:
    """A new directory's own name is not made durable."""
    files.sync_directory = lambda _: None
    folders.sync_stage_names = lambda _: None


def no_sync_of_segments() -> None:
    """A version refers to an attachment whose content was not synced."""
    write = files.write_new

    def write_new(name: str, directory: int, pieces: Any, *, durable: bool) -> os.stat_result:
        return write(name, directory, pieces, durable=durable and not name.endswith(".segment"))

    files.write_new = write_new


def version_before_its_attachments() -> None:
    """The names of an attachment's segments are not made durable."""
    attachments.files = SimpleNamespace(**{**vars(files), "sync": lambda _: None})  # type: ignore[assignment]


def show_before_it_is_durable() -> None:
    """A reader is shown what its writer, which was killed, had not yet made durable, and it is remembered."""
    pending.MAX_BYTES = 0  # a small version is durable before it has its name
    look = history.History.look

    def careless(self: history.History, stage: str, session: Session | None = None, *, exact: bool = False) -> history.Look:
        return look(self, stage, session, exact=exact)._replace(durable=True)

    history.History.look = careless  # type: ignore[method-assign]


MUTANTS = {
    each.__name__: each
    for each in (
        no_sync_of_files,
        no_sync_of_directories,
        name_before_sync,
        own_name_before_sync,
        no_sync_of_parents,
        no_sync_of_segments,
        version_before_its_attachments,
        show_before_it_is_durable,
        no_adoption,
        torn_ones_adopted,
        linked_above_a_pending_one,
        pending_names_removed_at_once,
        large_above_a_pending_one,
        no_sync_of_the_database,
    )
}
RECOVERING = {"no_adoption", "torn_ones_adopted"}
"""Those that break what happens after the power cut."""


# The power cut


@dataclass
class Result:
    """What came of a scenario."""

    steps: int = 0
    states: int = 0
    problems: list[str] = field(default_factory=list)


def recordings(
    name: str, place: Path, mutant: str | None, dice: random.Random, kills: int | None
) -> Iterator[tuple[str, list[Step]]]:
    """Yield the steps of a scenario; of one with a kill, once for each call at which the one is killed, or some of them."""
    parts = (SCENARIOS | KILLED)[name]
    _, steps, made = _record(place, parts[:-1] if name in KILLED else parts, mutant)
    if name in SCENARIOS:
        yield name, steps
        return
    for call in made if kills is None else dice.sample(made, min(kills, len(made))):
        before, steps, _ = _record(place, parts[:-1], mutant, call)
        yield f"{name} at {call.name} {call.ordinal}", [*before, *steps, *_record(place, parts[-1:], mutant, anew=False)[1]]


def _record(
    place: Path, parts: tuple[Callable[[str], None], ...], mutant: str | None, call: Call | None = None, *, anew: bool = True
) -> tuple[list[Step], list[Step], list[Call]]:
    """Run processes one after the other; return the steps of all but the last, those of the last, and its calls."""
    root, log = place / "disk", place / "log"
    if anew:
        shutil.rmtree(root, ignore_errors=True)
        for folder in ("home", "project"):
            (root / folder).mkdir(parents=True)
    before: list[Step] = []
    steps: list[Step] = []
    for part in parts:
        before += steps
        killed = call is not None and part is parts[-1]
        options = ("-e", call.injection("signal=KILL")) if call is not None and killed else ()
        code, said = in_child(lambda part=part: _play(part, str(root), mutant), log, *OPTIONS, *options)  # type: ignore[misc]
        assert (code, said) == ((-signal.SIGKILL, None) if killed else (0, None)), said
        steps = read(log, str(root))
    return before, steps, calls(log, CHANGING)


def _play(part: Callable[[str], None], root: str, mutant: str | None) -> None:
    if mutant is not None:
        MUTANTS[mutant]()
    part(root)


def cut_everywhere(
    name: str,
    limit: int,
    seed: int,
    mutant: str | None = None,
    *,
    scheme: str = "",
    moments: int | None = None,
    kills: int | None = None,
    after: Sequence[str] | None = None,
    until: str | None = None,
) -> Result:
    """Cut the power after each step of a scenario, and look at what may be left.

    Args:
        name: The scenario.
        limit: The most states for each step.
        seed: For the same states again.
        mutant: How the library is broken.
        scheme: What the location of the store begins with.
        moments: Cut it only after so many steps of each recording.
        kills: Kill the process, in a scenario with a kill, only at so many calls.
        after: Cut it only after steps of these kinds.
        until: Stop at the first problem that contains this.
    """
    global SCHEME  # noqa: PLW0603  # scenarios are functions of a path
    SCHEME = scheme
    if mutant in RECOVERING:
        MUTANTS[mutant]()
    result = Result()
    dice = random.Random(seed)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory(dir=memory) as mount:
        for title, steps in recordings(name, Path(place), mutant, dice, kills):
            fit = [number for number, step in enumerate(steps, 1) if after is None or type(step).__name__ in after]
            chosen = set(fit if moments is None else dice.sample(fit, min(moments, len(fit))))
            seen: set[tuple[Tree, int]] = set()
            disk = Disk(str(Path(place) / "disk"), tuple(f"{place}/disk/{folder}" for folder in ("home", "project")))
            for number, step in enumerate(steps, 1):
                disk.take(step)
                if number not in chosen:
                    continue
                result.steps += 1
                for tree in disk.after_a_power_cut(limit, dice):
                    if (tree, len(disk.marks)) not in seen:
                        seen.add((tree, len(disk.marks)))
                        result.states += 1
                        found = _look(tree, Path(mount) / "disk", disk.marks)
                        what = step if isinstance(step, Mark) else str(step)[:150]
                        result.problems += [f"{title}, power cut after step {number} ({what}): {each}" for each in found]
                        if until and any(until in each for each in found):
                            return result
    return result


def _look(tree: Tree, root: Path, marks: list[str]) -> list[str]:
    build(tree, root)
    try:
        return problems_of(str(root), marks)
    finally:
        shutil.rmtree(root)


def problems_of(root: str, marks: list[str]) -> list[str]:
    """Return what is wrong with the store below ``root`` after a power cut, given what had been told before it."""
    told = [orjson.loads(mark) for mark in marks]
    try:
        return _problems(root, told)
    except Exception as error:  # whatever it is, a user would meet it
        return [f"{type(error).__name__}: {error}"]


def _problems(root: str, marks: list[tuple[str, str, int, str]]) -> list[str]:
    cm = opened(root)
    told = {kind: {(stage, version) for each, stage, version, _ in marks if each == kind} for kind, *_ in marks}
    deleted, damaged = told.get("deleted", set()), told.get("damaged", set())
    saved = {(stage, version): data for kind, stage, version, data in marks if kind == "saved"}
    problems = [
        f"verify: {each}"
        for each in cm.verify().problems
        if each.state not in {"leftover", "unfinished"}
        and (each.stage, each.version) not in damaged
        # what a relaxed store was not asked to keep may be lost, and then it shows as that; it is never a rollback
        and not ("relaxed" in told and each.state in {"damaged", "missing"} and (each.stage, each.version) not in saved)
    ]
    for (stage, version), data in saved.items():
        if (stage, version) in deleted | damaged:
            continue
        if version in {each.number for each in cm.history(stage)}:
            if digest(cm.load_checkpoint(stage, version)) != data:
                problems.append(f"version {version} of {stage} is another one")
        elif not _may_be_deleted(cm, stage, version):
            problems.append(f"version {version} of {stage} is lost")
    for stage, version in deleted:
        if version in {each.number for each in cm.history(stage)}:
            problems.append(f"version {version} of {stage} is back")
    for stage, version in told.get("tagged", set()):
        if version not in cm.tags(stage).values():
            problems.append(f"the tag of version {version} of {stage} is lost")
    if "set aside" in told and not list((Path(root) / "project").rglob("damaged/*")):
        problems.append("what was set aside is lost")
    for stage in {stage for stage, _ in saved} or {"train"}:
        above = max((version for name, version in saved if name == stage), default=0)
        number = cm.save_checkpoint(stage, "next").number
        if number <= above or cm.load_checkpoint(stage) != "next":
            problems.append(f"the next save of {stage} became version {number}, after version {above}")
    return problems


def _may_be_deleted(cm: CheckpointManager, stage: str, version: int) -> bool:
    """Whether its deletion was under way: the record of it is written before anyone is told."""
    try:
        cm.load_checkpoint(stage, version)
    except LookupError as error:
        return "was deleted" in str(error)
    return False


def prepare() -> None:
    """Set this process up for scenarios."""
    logging.disable()
    attachment.SEGMENT_BYTES = 4096


def main() -> int:
    """Run scenarios by hand."""
    prepare()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="for the same states again")
    parser.add_argument("--mutant", choices=MUTANTS)
    parser.add_argument("--sqlite", action="store_true", help="of a database, which has no relaxed saves")
    parser.add_argument("scenario", nargs="*")
    asked = parser.parse_args()
    failed = False
    scheme = "sqlite:///" if asked.sqlite else ""
    for name in asked.scenario or (OF_A_DATABASE if asked.sqlite else [*SCENARIOS, *KILLED]):
        result = cut_everywhere(name, asked.limit, asked.seed, asked.mutant, scheme=scheme)
        failed = failed or bool(result.problems)
        counts = f"{result.steps:5} steps  {result.states:6} states  {len(result.problems)} problems"
        print(f"{name:<26} {counts}  seed {asked.seed}", flush=True)
        for problem in result.problems[:20]:
            print(f"    {problem}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
