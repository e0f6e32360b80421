"""What the library logs, and how each line comes about: as in :mod:`tests.cli.situations`, provoked for real."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoint_manager import CheckpointManager, KeyFile, LockTimeoutError, Pipelines, Retention
from checkpoint_manager._lazy_log import MOST_LOGGED
from checkpoint_manager._operations import auto_prune
from checkpoint_manager.stages.display import LogLines
from tests.cli.situations import damage, older_keyring, opened, put_back, run_twice_at_once, save_as_another_user, version
from tests.taking_away import leave_the_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager.models import OnRollback


@dataclass(frozen=True)
class Line:
    """One line of the log.

    Attributes:
        where: The module that logs it.
        says: The beginning of its format.
        act: Provokes it, in a folder with a store.
        level: Its level.
        follow: The commands that it names, in order.
    """

    where: str
    says: str
    act: Callable[[Path], object]
    level: str = "INFO"
    follow: tuple[str, ...] = ()


KEY = bytes(range(32))


def _older(folder: Path, **options: Any) -> CheckpointManager:
    with put_back(folder):
        return CheckpointManager(folder / "checkpoints", **options)


def _removed_state(folder: Path) -> None:
    cm = opened(folder)
    shutil.rmtree(Path.home() / ".local/state")
    cm.save_checkpoint("train", 4)


def _lost_attachment(folder: Path) -> bool:
    cm = opened(folder)
    cm.save_checkpoint("train", attachments={"w": b"content"})
    (segment,) = (folder / "checkpoints").rglob("*.segment")
    segment.unlink()
    return cm.has_checkpoint("train")


def _rolled_back_tags(folder: Path) -> CheckpointManager:
    cm = opened(folder)
    cm.tag("train", 1, "good")
    record = folder / "checkpoints" / "history" / "train" / "tags"
    before = record.read_bytes()
    cm.tag("train", 2, "better")
    record.write_bytes(before)
    return CheckpointManager(folder / "checkpoints", on_rollback="warn")


def _rolled_back_gaps(folder: Path, on_rollback: OnRollback = "warn") -> CheckpointManager:
    cm = opened(folder)
    cm.delete_versions("train", [1])
    record = folder / "checkpoints" / "history" / "train" / "gaps"
    before = record.read_bytes()
    cm.delete_versions("train", [2])
    record.write_bytes(before)
    return CheckpointManager(folder / "checkpoints", on_rollback=on_rollback)


def _damaged(folder: Path, name: str, stage: str = "train") -> CheckpointManager:
    place = folder / "checkpoints" / "history" / stage / name
    place.unlink(missing_ok=True)
    place.write_bytes(b"damaged")
    return opened(folder)


def _missing(folder: Path, number: int = 2) -> CheckpointManager:
    version(folder, "train", number).unlink()
    return opened(folder)


def _damaged_newest(folder: Path) -> CheckpointManager:
    damage(version(folder, "train", 3))
    return opened(folder)


def _find_among_damaged(folder: Path) -> object:
    return list(_damaged_newest(folder).find(status="completed"))


def _many_damaged(folder: Path) -> CheckpointManager:
    cm = CheckpointManager(folder / "checkpoints", durability="relaxed")
    for number in range(4, MOST_LOGGED + 10):
        cm.save_checkpoint("train", number)
    opened(folder).load_checkpoint("train")
    for number in range(1, MOST_LOGGED + 5):
        damage(version(folder, "train", number))
    return opened(folder)


def _thousands_missing(folder: Path) -> list[object]:
    cm = CheckpointManager(folder / "checkpoints", durability="relaxed")
    for number in range(4, 1010):
        cm.save_checkpoint("train", number)
    opened(folder).load_checkpoint("train")  # which is what this user has seen last
    for number in range(2, 1009):
        version(folder, "train", number).unlink()
    return list(opened(folder).history("train"))


def _head_in_the_way(folder: Path) -> object:
    head = folder / "checkpoints" / "train.checkpoint"
    head.unlink()
    head.mkdir()
    return opened(folder).save_checkpoint("train", 4)


def _ahead_of_its_time(folder: Path) -> object:
    """Save with a clock that is many years ahead, and then with one that is right."""
    program = """
import datetime
from checkpoint_manager import CheckpointManager
from checkpoint_manager._operations import save

class Ahead(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz).replace(year=2090)

save.datetime = Ahead
CheckpointManager("checkpoints").save_checkpoint("train", 4)
"""
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True)
    return opened(folder).save_checkpoint("train", 5)


def _planted_folder(folder: Path) -> object:
    (folder / "checkpoints" / "history" / "planted").mkdir(mode=0o700)
    (folder / "checkpoints" / "history" / "planted" / "000000000001.checkpoint").write_bytes(b"planted")
    return opened(folder).stages()


def _planted_folders(folder: Path) -> object:
    for number in range(MOST_LOGGED + 5):
        (folder / "checkpoints" / "history" / str(number)).mkdir(mode=0o700)
        (folder / "checkpoints" / "history" / str(number) / "000000000001.checkpoint").write_bytes(b"planted")
    return opened(folder).stages()


def _key_file(folder: Path) -> Path:
    return next(Path.home().rglob("default.key"))


def _readable_key(folder: Path) -> object:
    _key_file(folder).chmod(0o644)
    return opened(folder)


def _replaceable_key(folder: Path) -> object:
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    key = shutil.copy(_key_file(folder), shared / "key")
    Path(key).chmod(0o600)
    return CheckpointManager(folder / "checkpoints", key=KeyFile(str(key)))


def _with_state(folder: Path, state: Path) -> object:
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(state)
    try:
        return opened(folder).load_checkpoint("train")
    finally:
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before


def _exposed_state(folder: Path) -> object:
    (folder / "shared").mkdir()
    (folder / "shared").chmod(0o777)
    return _with_state(folder, folder / "shared" / "state")


def _no_state(folder: Path) -> object:
    (folder / "file").write_text("")
    return _with_state(folder, folder / "file" / "state")


def _first_store(folder: Path) -> object:
    _key_file(folder).unlink()
    return CheckpointManager(folder / "new")


def _emptied(folder: Path) -> object:
    opened(folder)
    shutil.rmtree(folder / "checkpoints")
    return opened(folder)


def _shared_store(folder: Path) -> object:
    (folder / "checkpoints").chmod(0o777)
    return opened(folder)


def _not_pruned(folder: Path) -> None:
    _damaged(folder, "tags")
    _pruned_after_a_save(folder)


def _pruned_after_a_save(folder: Path) -> None:
    cm = CheckpointManager(folder / "checkpoints", retention=Retention(keep_last=1))
    for number in range(auto_prune._ENOUGH + 3):
        cm.save_checkpoint("train", number)


def _restore_what_was_deleted(folder: Path) -> object:
    cm = opened(folder)
    moment = cm.history("train")[1].created_at
    cm.delete_versions("train", [1, 2])
    return cm.restore_pipeline(at=moment)


def _import(folder: Path) -> object:
    opened(folder).export_bundle(folder / "bundle", key=KEY)
    return CheckpointManager(folder / "elsewhere").import_bundle(folder / "bundle", key=KEY)


def _import_what_was_deleted(folder: Path) -> object:
    cm = opened(folder)
    cm.export_bundle(folder / "bundle", key=KEY)
    cm.delete_stage("train")
    return cm.import_bundle(folder / "bundle", key=KEY)


def _scan_a_deep_folder(folder: Path) -> None:
    folder.joinpath(*"abcdefghij").mkdir(parents=True)
    Pipelines.scan(folder / "a")


def _untag(folder: Path) -> None:
    opened(folder).tag("train", 1, "good")
    opened(folder).untag("train", "good")


def _remove_a_slot(folder: Path) -> None:
    opened(folder).keys.remove(opened(folder).keys.add(KEY).slot)


def _older_keyring(folder: Path) -> object:
    with older_keyring(folder):
        return CheckpointManager(folder / "checkpoints", on_rollback="warn")


def _prune_damaged_data(folder: Path) -> object:
    """Damage the data of the newest version alone: its metadata opens."""
    newest = version(folder, "train", 3)
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    return opened(folder).prune(Retention(keep_last=1))


def _accept_another_history(folder: Path) -> object:
    """Accept that another version 4 is in the place of the one that was seen."""
    shutil.copytree(folder / "checkpoints", folder / "before")
    opened(folder).save_checkpoint("train", "seen")
    shutil.rmtree(folder / "checkpoints")
    (folder / "before").rename(folder / "checkpoints")
    save_as_another_user(folder)
    return opened(folder).accept_rollback()


def _stopped(folder: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        opened(folder).stage("stop")(lambda: signal.raise_signal(signal.SIGINT))()


def _changing_its_argument(folder: Path) -> None:
    opened(folder).stage("total")(list.pop)([1, 2])


def _failing(folder: Path) -> object:
    def fails() -> int:
        raise ValueError("no")

    try:
        return opened(folder).stage(fails)()
    except ValueError as error:
        return error


def _failing_in_a_broken_store(folder: Path) -> object:
    def fails() -> int:
        _break(folder)
        raise ValueError("no")

    try:
        return opened(folder).stage(fails)()
    except ValueError as error:
        return error


def _break(folder: Path) -> None:
    shutil.move(folder / "checkpoints" / "history", folder / "moved")
    (folder / "checkpoints" / "history").write_text("")


def _mend(folder: Path) -> None:
    (folder / "checkpoints" / "history").unlink()
    shutil.move(folder / "moved", folder / "checkpoints" / "history")


def _wait_for_another(folder: Path) -> object:
    try:
        return run_twice_at_once(folder, wait=1.0)
    except LockTimeoutError as error:
        return error


def double(x: int) -> int:
    return 2 * x


def _twice(folder: Path) -> object:
    cm = opened(folder)
    stage = cm.stage("double")(double)
    return stage(1), stage(2), stage(1), cm.load_checkpoint("double")


def _decoded_no_more(folder: Path) -> object:
    bases = iter([10, 1, 10])  # there is no number of base 1
    stage = opened(folder).stage("number", encode=str, decode=lambda text: int(text, next(bases)))(lambda: 5)
    return stage(), stage()


def _changed_code(folder: Path) -> object:
    def first(x: int) -> int:
        return x

    def second(x: int) -> int:
        return x + 1

    second.__qualname__ = first.__qualname__
    second.__code__ = second.__code__.replace(co_name="first", co_qualname=first.__qualname__)
    opened(folder).stage("f")(first)(1)
    return opened(folder).stage("f")(second)(1)


def _half_a_loop(folder: Path, *, items: int = 5, initial: list[int] | None = None) -> object:
    try:
        with opened(folder).loop("sum", range(items), initial=initial or [], every_items=1) as loop:
            for item in loop:
                if item == 3:
                    raise ValueError("no")
                loop.state.append(item)
    except ValueError as error:
        return error
    return loop.state


def _left_loop(folder: Path) -> None:
    with opened(folder).loop("sum", range(5), initial=[]) as loop:
        for _ in loop:
            break


def _other_items(folder: Path) -> object:
    _half_a_loop(folder)
    return _half_a_loop(folder, items=3, initial=[7])


def _loop_in_a_broken_store(folder: Path) -> None:
    with opened(folder).loop("sum", range(5), initial=[], every_items=1) as loop:
        for item in loop:
            loop.state.append(item)
            if item == 1:
                _break(folder)
            if item == 4:
                _mend(folder)


def _damaged_result(folder: Path) -> object:
    cm = opened(folder)
    cm.stage("double")(double)(1)
    damage(version(folder, "double", 1))
    return opened(folder).stage("double")(double)(1)


def _damaged_result_below(folder: Path) -> object:
    stage = opened(folder).stage("double")(double)
    stage(1), stage(2), stage(3)
    damage(version(folder, "double", 2))
    return opened(folder).stage("double")(double)(1)


def _result_without_code(folder: Path) -> object:
    opened(folder).stage("double", code=False)(double)(1)
    return opened(folder).stage("double")(double)(1)


def _calls_what_can_not_be_seen(folder: Path) -> object:
    def calls(x: int) -> int:
        return len(_OPAQUE.__name__) + x

    return opened(folder).stage("calls")(calls)(1)


_OPAQUE = type("Opaque", (), {})


def _slow_loop(folder: Path) -> None:
    ticks = iter((0.0, 11.0))
    LogLines("sum", 0, 100, clock=lambda: next(ticks)).update(50)


ACCEPT = ("repair --accept-rollback --yes",)
REPAIR = ("verify", "repair --yes")

LINES = [
    Line(
        "_operations/accept_rollback.py",
        "Rollback accepted: stage %s goes on as version",
        lambda folder: _older(folder, on_rollback="warn").accept_rollback(),
        "WARNING",
    ),
    Line(
        "_operations/accept_rollback.py",
        "Rollback accepted: stage %s, version %d is the newest",
        _accept_another_history,
        "WARNING",
    ),
    Line(
        "_operations/accept_rollback.py",
        "Rollback accepted: the deletions",
        lambda folder: _rolled_back_gaps(folder).accept_rollback(),
        "WARNING",
    ),
    Line(
        "_operations/accept_rollback.py",
        "Rollback accepted: stage %s goes on without",
        lambda f: _missing(f).accept_rollback(),
        "WARNING",
    ),
    Line("_operations/accept_rollback.py", "%s", lambda folder: _damaged(folder, "gaps").accept_rollback(), "ERROR", REPAIR),
    Line("_operations/auto_prune.py", "Versions pruned: %s %s", _pruned_after_a_save),
    Line("_operations/auto_prune.py", "Stage %s was saved", _not_pruned, "WARNING"),
    Line("_operations/find.py", "%s of %s can't be read", _find_among_damaged, "ERROR", REPAIR),
    Line("_operations/load.py", "%s", lambda folder: _damaged_newest(folder).has_checkpoint("train"), "ERROR", REPAIR),
    Line("_operations/load.py", "%s has lost %s", _lost_attachment, "ERROR"),
    Line("_operations/prune.py", "%s", _prune_damaged_data, "ERROR", REPAIR),
    Line("_operations/repair.py", "Set aside: version", lambda folder: _damaged_newest(folder).repair()),
    Line("_operations/repair.py", "Set aside: %d more", lambda folder: _many_damaged(folder).repair()),
    Line(
        "_operations/repair.py",
        "Not repaired",
        lambda folder: _rolled_back_gaps(folder, on_rollback="raise").repair(),
        "WARNING",
        ACCEPT,
    ),
    Line("_operations/restore.py", "Stage %s is cleared", _restore_what_was_deleted, "WARNING"),
    Line("_operations/save.py", "Stage %s: the clock says", _ahead_of_its_time, "WARNING"),
    Line("_operations/tag.py", "%s", lambda folder: _rolled_back_tags(folder).tags("train"), "WARNING"),
    Line("_operations/import_bundle.py", "Stage %s was deleted from", _import_what_was_deleted, "WARNING"),
    Line(
        "_operations/tag.py",
        "Rollback accepted: the tags",
        lambda folder: _rolled_back_tags(folder).accept_rollback(),
        "WARNING",
    ),
    Line("_store/history.py", "%s", lambda folder: _older(folder, on_rollback="warn").load_checkpoint("train"), "WARNING"),
    Line("_store/listing.py", "%s", lambda folder: _missing(folder).get_version("train", at="0s"), "ERROR"),
    Line(
        "_store/listing.py",
        "%d more versions",
        lambda folder: (_thousands_missing(folder), opened(folder).get_version("train", at="0s")),
        "ERROR",
    ),
    Line(
        "_store/history.py",
        "%s was gone from the history",
        lambda folder: (leave_the_head(version(folder, "train", 3)), opened(folder).load_checkpoint("train")),
        "WARNING",
    ),
    Line("_store/listing.py", "versions %d to %d", _thousands_missing, "ERROR"),
    Line("_store/key_sources.py", "The %s %s can be read", _readable_key, "WARNING"),
    Line("_store/key_sources.py", "The %s %s can be replaced", _replaceable_key, "WARNING"),
    Line("_store/last_seen.py", "Others may replace", _exposed_state, "WARNING"),
    Line("_store/last_seen.py", "What was seen of this store can't", _no_state, "WARNING"),
    Line("_store/last_seen.py", "What was seen of this store was removed", _removed_state, "WARNING"),
    Line("_store/open_keyring.py", "A new key was made", _first_store, "WARNING"),
    Line("_store/open_keyring.py", "%s", _older_keyring, "WARNING"),
    Line("_store/open_keyring.py", "The store %s", _emptied, "WARNING"),
    Line("_store/store.py", "Not counted as a stage", _planted_folder, "ERROR", REPAIR),
    Line("_store/store.py", "Not counted as stages", _planted_folders, "ERROR", REPAIR),
    Line("_store/sealed_store.py", "%s", lambda folder: _rolled_back_gaps(folder).history("train"), "WARNING"),
    Line("backends/local/backend.py", "Stage %s is saved, but the head", _head_in_the_way, "WARNING"),
    Line("keys.py", "Key slot added", lambda folder: opened(folder).keys.add(KEY)),
    Line("keys.py", "Key slot removed", _remove_a_slot),
    Line("keys.py", "Key rotated", lambda folder: opened(folder).keys.rotate()),
    Line("manager.py", "Checkpoint saved", lambda folder: opened(folder).save_checkpoint("train", 4)),
    Line("manager.py", "Checkpoint restored", lambda folder: opened(folder).restore_checkpoint("train", 1)),
    Line("manager.py", "Pipeline restored", lambda folder: opened(folder).restore_pipeline(at="0s")),
    Line("pipelines.py", "Pipelines restored", lambda folder: Pipelines([opened(folder)]).restore(at="0s")),
    Line("_store/scan.py", "Not looked through for stores, as it lies too deep", _scan_a_deep_folder, "WARNING"),
    Line("manager.py", "Checkpoint cleared", lambda folder: opened(folder).clear_checkpoint("train")),
    Line("manager.py", "All checkpoints cleared.", lambda folder: opened(folder).clear_checkpoints()),
    Line("manager.py", "Version tagged", lambda folder: opened(folder).tag("train", 1, "good")),
    Line("manager.py", "Pipeline tagged", lambda folder: opened(folder).tag_pipeline("good")),
    Line("manager.py", "Tag removed", _untag),
    Line("manager.py", "Versions deleted", lambda folder: opened(folder).delete_versions("train", [1])),
    Line("manager.py", "Stage deleted", lambda folder: opened(folder).delete_stage("train")),
    Line("manager.py", "Versions pruned", lambda folder: opened(folder).prune(Retention(keep_last=1))),
    Line("manager.py", "Bundle exported", lambda folder: opened(folder).export_bundle(folder / "bundle", key=KEY)),
    Line("manager.py", "Bundle imported", _import),
    Line("manager.py", "Store copied", lambda folder: opened(folder).copy_to(folder / "copy")),
    Line("_store/store.py", "%s", _shared_store, "WARNING"),
    Line("manager.py", "Stage %s: version %d is the newest", _twice, "WARNING"),
    Line("stages/display.py", "%s: %s done", _slow_loop),
    Line("stages/lookup.py", "%s", _damaged_result, "ERROR", REPAIR),
    Line("stages/lookup.py", "%s: it may have been a cleared version", _damaged_result_below, "ERROR", REPAIR),
    Line("stages/loop.py", "%s: continues after", lambda folder: (_half_a_loop(folder), _half_a_loop(folder))),
    Line("stages/loop.py", "%s: left after", _left_loop),
    Line("stages/loop.py", "%s: %s after", _half_a_loop),
    Line("stages/loop.py", "%s: starts from the beginning", _other_items, "WARNING"),
    Line("stages/progress.py", "%s: the progress could not be saved", _loop_in_a_broken_store, "WARNING"),
    Line("stages/runner.py", "%s: reused version", _twice),
    Line("stages/runner.py", "%s: ran in", _twice),
    Line("stages/runner.py", "%s: failed after", _failing),
    Line("stages/runner.py", "%s: stopped after", _stopped),
    Line("stages/runner.py", "%s: the argument %s was changed while it ran", _changing_its_argument, "WARNING"),
    Line("stages/runner.py", "%s: waits for", _wait_for_another),
    Line("stages/runner.py", "%s: runs again", _changed_code),
    Line("stages/runner.py", "%s: %s, so it runs again", _decoded_no_more, "WARNING"),
    Line("stages/runner.py", "%s: version %d was saved without its code", _result_without_code, "WARNING"),
    Line("stages/runner.py", "%s: its code is compared", _calls_what_can_not_be_seen),
    Line("stages/runner.py", "%s: failed, and that", _failing_in_a_broken_store, "WARNING"),
]
NOT_PROVOKED = {
    ("integrations/prefect.py", "The result %s is not %s"): "needs Prefect: tests/integrations",
    ("integrations/langgraph/saver.py", "Stage %s was saved, and could not be pruned"): "needs LangGraph: tests/integrations",
    ("dashboard/guard.py", "A request ended with an error"): "needs a request that meets a bug",
    ("dashboard/unexpected.py", "%s ended with an error"): "needs a bug: tests/dashboard",
    ("_store/scan.py", "Not looked through for stores: %s"): "needs a folder that vanishes: tests/test_pipelines.py",
    ("stages/runner.py", "%s: superseded progress is left"): "debug",
    ("backends/postgres/lock.py", "The lock of the run of"): "needs a server that ends a connection",
    (
        "_store/index.py",
        "The record of what is indexed in",
    ): "needs a server, and its administrator: tests/operations/test_index.py",
    ("_store/index.py", "The index of"): "needs a server: tests/operations/test_index.py",
    ("_operations/choose_index.py", "Indexed: "): "needs a server: tests/operations/test_index.py",
    ("stages/runner.py", "%s: waits for %s, which runs it and started this process"): "needs a process that the stage starts",
}
