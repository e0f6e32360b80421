"""Everything that writes to a store, each with a store to begin with: what the faults are tried on."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import shutil
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoint_manager import CheckpointManager, Retention, _format, _operations, _store, stages
from checkpoint_manager._operations import auto_prune as trimming
from tests.concurrency.writer import digest

if TYPE_CHECKING:
    from collections.abc import Callable

for package in (_format, _operations, _store, stages):  # what is loaded when it is asked for: not while calls are counted
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name)
for name in ("checkpoint_manager.keys", "resource"):
    importlib.import_module(name)

LOCK_TIMEOUT = 0.3
scheme: ContextVar[str] = ContextVar("scheme", default="")
"""What locations begin with: nothing for a directory, or ``sqlite:///``."""
LEFT_OVER = f".{0:016x}.tmp"
LONG = "a very long name " * 15
SECOND_KEY = bytes(range(32))
FIVE_MEGABYTES = {"rows": ["0123456789abcdef" * 64] * 5000}


@dataclass(frozen=True)
class Operation:
    """One way to write.

    Attributes:
        name: What it is called in reports.
        act: Does it. Gets the manager, or None where ``opens``; and the store's directory.
        prepare: Makes the store that it begins with; None: there is none yet.
        opens: Opening the store is part of it.
        mends: The store it begins with is damaged.
        goes_on: It goes on where the system refuses something that it can do without, so it is only killed.
        is_stage: It runs a stage, which can be run again.
        rotates: Until it is done again, an interrupted one is found unfinished.
        tidies: It ends with something that may fail without failing it: what was to go may still be there.
        clears: It clears the stage first: so it may be left when this is interrupted.
        stage: What it writes to, above all.
    """

    name: str
    act: Callable[[CheckpointManager, str], object]
    prepare: Callable[[CheckpointManager, Path], object] | None
    opens: bool = False
    mends: bool = False
    goes_on: bool = False
    is_stage: bool = False
    rotates: bool = False
    tidies: bool = False
    clears: bool = False
    stage: str = "train"


def located(directory: str) -> str:
    """Return the location of a store that stands, or whose database stands, at a path."""
    return f"{scheme.get()}{directory}"


def opened(directory: str) -> CheckpointManager:
    """Open a store as all of them do: with the user's own key file."""
    return CheckpointManager(located(directory), lock_timeout=LOCK_TIMEOUT)


def three_versions(cm: CheckpointManager, _: Path) -> None:
    for number in range(1, 4):
        cm.save_checkpoint("train", {"epoch": number})
    for number in range(1, 3):
        cm.save_checkpoint("clean", number, metadata={"run": "a"})


def _attached_versions(cm: CheckpointManager, store: Path) -> None:
    three_versions(cm, store)
    cm.save_checkpoint("train", {"epoch": 4}, attachments={"w": b"w" * 6000})
    cm.save_checkpoint("train", {"epoch": 5})


def _tagged_versions(cm: CheckpointManager, store: Path) -> None:
    three_versions(cm, store)
    cm.tag("train", 1, "good")
    cm.tag("clean", 1, "good")


def _many_versions(cm: CheckpointManager, store: Path) -> None:
    _tagged_versions(cm, store)
    for number in range(4, 12):
        cm.save_checkpoint("train", {"epoch": number})


def _save_with_retention(_: CheckpointManager, directory: str) -> None:
    trimming._ENOUGH = 4
    retention = Retention(keep_last=3)
    CheckpointManager(located(directory), lock_timeout=LOCK_TIMEOUT, retention=retention).save_checkpoint(
        "train", {"epoch": 12}
    )


def _saves_in_turn(cm: CheckpointManager, directory: str) -> None:
    other = opened(directory)
    for number in range(4, 8):
        (other if number % 2 else cm).save_checkpoint("train", {"epoch": number})


def _damage(cm: CheckpointManager, store: Path) -> None:
    three_versions(cm, store)
    cm.delete_versions("train", [1])
    for path, content in (
        (store / "history" / "train" / "000000000003.checkpoint", b"damaged"),
        (store / "history" / "clean" / LEFT_OVER, b"left over"),
    ):
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    (store / "clean.checkpoint").unlink()


def _put_back(cm: CheckpointManager, store: Path) -> None:
    three_versions(cm, store)
    copy = store.with_name("copy")
    shutil.copytree(store, copy)
    cm.save_checkpoint("train", {"epoch": 4})
    shutil.rmtree(store)
    copy.rename(store)


def _long_ago(cm: CheckpointManager, _: Path) -> None:
    for stage in ("clean", "train", "moment"):
        cm.save_checkpoint(stage, {"epoch": 1})
    cm.save_checkpoint("train", {"epoch": 2})
    cm.clear_checkpoint("clean")
    cm.save_checkpoint("new", 1)


def _begun_loop(cm: CheckpointManager, store: Path) -> None:
    three_versions(cm, store)
    with contextlib.suppress(KeyError):
        _loop(cm, every_items=1, until=3)


def _loop(cm: CheckpointManager, *, every_items: int | None = None, until: int = -1) -> None:
    """Loop with a state so large that useless progress is deleted at once."""
    with cm.loop("train", range(5), initial="x" * 2**20, every_items=every_items) as progress:
        for item in progress:
            if item == until:
                raise KeyError(item)
            progress.state += str(item)


def _step_of_a_loop(cm: CheckpointManager, _: str) -> None:
    with contextlib.suppress(KeyError):
        _loop(cm, every_items=1, until=4)


def _export(cm: CheckpointManager, directory: str) -> None:
    """What an earlier attempt left is a whole bundle, or nothing."""
    path = Path(directory).with_name("bundle")
    if os.path.exists(path):  # this look may be the call that is refused, too: it answers then, and does not raise
        assert cm.import_bundle(path, key=SECOND_KEY, dry_run=True).versions == 5
    cm.export_bundle(path, key=SECOND_KEY, overwrite=True)


def _bundle_from_elsewhere(cm: CheckpointManager, store: Path) -> None:
    """A bundle that continues one stage beyond a gap, knows of another one what this store does, brings a third, and tags."""
    three_versions(cm, store)
    bundle = store.with_name("bundle")
    cm.export_bundle(bundle, key=SECOND_KEY)
    other = opened(str(store.with_name("elsewhere")))
    other.import_bundle(bundle, key=SECOND_KEY)
    for number in range(4, 8):
        other.save_checkpoint("train", {"epoch": number})
        other.save_checkpoint("new", number)
    other.delete_versions("train", [4, 5])
    other.delete_versions("new", [1, 3])
    other.tag("train", 2, "good")
    other.tag("clean", 1, "good")
    other.export_bundle(bundle, key=SECOND_KEY, overwrite=True)


def _saved_to_be_copied(cm: CheckpointManager, store: Path) -> None:
    _tagged_versions(cm, store)
    cm.save_checkpoint("train", {"epoch": 4}, attachments={"w": b"w" * 6000})
    cm.delete_versions("train", [2])


def _copy(cm: CheckpointManager, directory: str) -> None:
    """What an earlier attempt left is finished, and is whole then."""
    copy = str(Path(directory).with_name("copy"))
    cm.copy_to(located(copy), key=SECOND_KEY)
    there = CheckpointManager(located(copy), key=SECOND_KEY, lock_timeout=LOCK_TIMEOUT)
    assert snapshot(there) == snapshot(cm)
    assert there.tags("train") == {"good": 1}


def _two_slots(cm: CheckpointManager, store: Path) -> None:
    _attached_versions(cm, store)
    cm.keys.add(SECOND_KEY, label="second")
    cm.tag("train", 1, "good")
    cm.delete_versions("train", [2])


def _drop_a_slot(cm: CheckpointManager, _: str) -> None:
    """An earlier attempt may have dropped it."""
    cm.keys.rotate(drop=[each.label for each in cm.keys.list() if each.label == "second"])


def _bundle_with_attachments(cm: CheckpointManager, store: Path) -> None:
    three_versions(cm, store)
    bundle = store.with_name("bundle")
    cm.export_bundle(bundle, key=SECOND_KEY)
    other = opened(str(store.with_name("elsewhere")))
    other.import_bundle(bundle, key=SECOND_KEY)
    other.save_checkpoint("train", {"epoch": 4}, attachments={"w": b"w" * 6000})
    other.save_checkpoint("new", 1, attachments={"w": b"w" * 600, "v": b"v"})
    other.export_bundle(bundle, key=SECOND_KEY, overwrite=True)


def _relaxed(cm: CheckpointManager, directory: str) -> None:
    """The pruning makes durable what it builds on."""
    relaxed = CheckpointManager(located(directory), lock_timeout=LOCK_TIMEOUT, durability="relaxed")
    for epoch in (4, 5):
        relaxed.save_checkpoint("train", {"epoch": epoch})
    cm.prune(Retention(keep_last=2))


def _save_to_several(cm: CheckpointManager, _: str) -> None:
    cm.save_checkpoints({"train": {"epoch": 4}, "new": {"epoch": 1}}, atomic=bool(scheme.get()))


def _damage_to_records(cm: CheckpointManager, store: Path) -> None:
    _tagged_versions(cm, store)
    cm.save_checkpoint("train", {"epoch": 4}, attachments={"w": b"w" * 6000})
    cm.save_checkpoint("clean", 3)
    planted = store / "history" / "train" / "attachments" / ("0" * 32)
    shutil.copytree(next((store / "history" / "train" / "attachments").iterdir()), planted)
    (store / "history" / "clean" / "tags").unlink()
    (store / "history" / "clean" / "tags").write_bytes(b"damaged")
    for path in (*(store / "history" / "clean").glob("*3.checkpoint"),):
        path.unlink()


def _removed_in_the_middle(cm: CheckpointManager, store: Path) -> None:
    _tagged_versions(cm, store)
    (store / "history" / "train" / "000000000002.checkpoint").unlink()
    shutil.rmtree(store / "history" / "clean")
    (store / "clean.checkpoint").unlink()


_A_FILE = Path(__file__)

OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("first save ever", lambda _, directory: opened(directory).save_checkpoint("train", 1), None, opens=True),
        Operation("open", lambda _, directory: opened(directory), three_versions, opens=True),
        Operation("first save of a stage", lambda cm, _: cm.save_checkpoint("new", 1), three_versions, stage="new"),
        Operation("first save of a long name", lambda cm, _: cm.save_checkpoint(LONG, 1), three_versions, stage=LONG),
        Operation("later save", lambda cm, _: cm.save_checkpoint("train", {"epoch": 4}), three_versions),
        Operation(
            "save after a save", lambda cm, _: [cm.save_checkpoint("train", {"epoch": each}) for each in (4, 5)], three_versions
        ),
        Operation("save of 5 MB", lambda cm, _: cm.save_checkpoint("train", FIVE_MEGABYTES), three_versions),
        Operation(
            "save with attachments",
            lambda cm, _: cm.save_checkpoint(
                "train", {"epoch": 4}, attachments={"w": b"w" * 6000, "v": BytesIO(b"v"), "f": _A_FILE}
            ),
            three_versions,
        ),
        Operation("delete attachments", lambda cm, _: cm.delete_versions("train", [4]), _attached_versions),
        Operation("update", lambda cm, _: cm.update_checkpoint("train", lambda data: {**data, "new": 1}), three_versions),
        Operation("restore", lambda cm, _: cm.restore_checkpoint("train", 1), three_versions),
        Operation("restore_pipeline", lambda cm, _: cm.restore_pipeline(at=cm.history("moment")[0].created_at), _long_ago),
        Operation("clear", lambda cm, _: cm.clear_checkpoint("train"), three_versions),
        Operation("clear all", lambda cm, _: cm.clear_checkpoints(), three_versions),
        Operation("delete", lambda cm, _: cm.delete_versions("train", [1, 2]), three_versions),
        Operation("delete a stage", lambda cm, _: cm.delete_stage("train"), _tagged_versions, clears=True),
        Operation("tag", lambda cm, _: cm.tag("train", 2, "better"), _tagged_versions),
        Operation("untag", lambda cm, _: cm.untag("train", "good"), _tagged_versions),
        Operation("prune", lambda cm, _: cm.prune(Retention(keep_last=1, keep_tagged=False)), _tagged_versions),
        Operation("save and prune", _save_with_retention, _many_versions, opens=True, tidies=True),
        Operation("repair", lambda cm, _: cm.repair(), _damage, mends=True),
        Operation("accept a rollback", lambda cm, _: cm.accept_rollback(), _put_back, mends=True),
        Operation("export", _export, _tagged_versions, mends=True),
        Operation(
            "import",
            lambda cm, directory: cm.import_bundle(Path(directory).with_name("bundle"), key=SECOND_KEY),
            _bundle_from_elsewhere,
            mends=True,
        ),
        Operation("add a slot", lambda cm, _: cm.keys.add(SECOND_KEY), three_versions),
        Operation("rotate the key", lambda cm, _: cm.keys.rotate(), three_versions, rotates=True),
        Operation("save to several stages", _save_to_several, three_versions, stage="new"),
        Operation("relaxed saves and prune", _relaxed, three_versions),
        Operation("restore attachments", lambda cm, _: cm.restore_checkpoint("train", 4), _attached_versions),
        Operation("delete a stage with attachments", lambda cm, _: cm.delete_stage("train"), _attached_versions, clears=True),
        Operation("tag the pipeline", lambda cm, _: cm.tag_pipeline("whole", reason="why"), _tagged_versions),
        Operation("copy", _copy, _saved_to_be_copied, mends=True),
        Operation("remove a slot", lambda cm, _: cm.keys.remove("second"), _two_slots),
        Operation("rotate and drop a slot", _drop_a_slot, _two_slots, rotates=True),
        Operation(
            "import attachments",
            lambda cm, directory: cm.import_bundle(Path(directory).with_name("bundle"), key=SECOND_KEY),
            _bundle_with_attachments,
            mends=True,
        ),
        Operation("repair records", lambda cm, _: (cm.repair(), cm.accept_rollback()), _damage_to_records, mends=True),
        Operation("accept what was removed", lambda cm, _: cm.accept_rollback(), _removed_in_the_middle, mends=True),
        Operation("step of a loop", _step_of_a_loop, _begun_loop, goes_on=True, is_stage=True),
        Operation("end of a loop", lambda cm, _: _loop(cm), _begun_loop, goes_on=True, is_stage=True),
        Operation("saves in turn", _saves_in_turn, three_versions),
    )
}


OF_A_DIRECTORY = {"repair", "accept a rollback", "repair records", "accept what was removed", "relaxed saves and prune"}
"""Those that begin with what was done to the files of a directory."""


def _overwrite(cm: CheckpointManager, directory: str) -> None:
    path = Path(directory) / "history" / "train" / "000000000003.checkpoint"
    whole = path.read_bytes()
    path.write_bytes(whole)
    cm.save_checkpoint("train", {"epoch": 4})


def _save_whatever_a_sync_says(cm: CheckpointManager, _: str) -> None:
    sync = os.fsync

    def heedless(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            sync(descriptor)

    os.fsync = heedless
    cm.save_checkpoint("train", {"epoch": 4})


def _sync_until_it_works(cm: CheckpointManager, _: str) -> None:
    sync = os.fsync

    def stubborn(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            return sync(descriptor)
        return sync(descriptor)

    os.fsync = stubborn
    cm.save_checkpoint("train", {"epoch": 4})


BROKEN = {
    operation.name: operation
    for operation in (
        Operation("overwrite", _overwrite, three_versions),
        Operation("not heed a failed sync", _save_whatever_a_sync_says, three_versions),
        Operation("sync again", _sync_until_it_works, three_versions),
    )
}
"""What must be found out: they show that a fault is seen where there is one."""


def snapshot(cm: CheckpointManager) -> dict[str, dict[str, Any]]:
    """Return what a store holds, as far as it opens: what each version says and holds."""
    return {
        stage: {
            str(version.number): [version.status, version.restored_from, digest(cm.load_checkpoint(stage, version.number))]
            for version in cm.history(stage)
        }
        for stage in cm.stages()
    }
