"""Key slots, their sources, and the change of the store's key."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import (
    CheckpointError,
    CheckpointManager,
    CheckpointNotFoundError,
    IntegrityError,
    KeyFile,
    KeyUnavailableError,
    Passphrase,
    Progress,
    RollbackError,
    WrongKeyError,
)
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.key_slot import Secret
from checkpoint_manager._format.keyring import begin_rotation, finish_rotation
from checkpoint_manager._store.key_sources import create_key_file
from checkpoint_manager._store.last_seen import LastSeen, Line
from checkpoint_manager.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from checkpoint_manager.backends.base import Reader, Record, RecordName

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def key_ids(store: Path) -> set[bytes]:
    return {path.read_bytes().split(b'"key":"')[1][:16] for path in store.rglob("*.checkpoint")}


class TestSlots:
    @pytest.mark.parametrize("key", [OTHER_KEY, Passphrase("correct horse")], ids=["key", "passphrase"])
    def test_a_key_that_opens_the_store_already_is_not_added_again(self, store: Path, key: bytes | Passphrase) -> None:
        cm = CheckpointManager(store, key=KEY)
        cm.keys.add(Passphrase("another"))
        slot = cm.keys.add(key, label="alice").slot
        before = (store / "keyring.json").read_bytes()
        with pytest.raises(CheckpointError, match=f"opens the store already, by key slot {slot} .*alice"):
            cm.keys.add(key, label="bob")
        assert (store / "keyring.json").read_bytes() == before
        cm.keys.rotate(also=[key, Passphrase("another")])
        with pytest.raises(CheckpointError, match="opens the store already"):
            CheckpointManager(store, key=key).keys.add(key)

    def test_each_slot_opens_the_store(self, store: Path, tmp_path: Path) -> None:
        create_key_file(tmp_path / "second.key")
        cm = CheckpointManager(store, key=KEY)
        cm.save_checkpoint("train", 1)
        cm.keys.add(Passphrase("correct horse"), label="alice")
        cm.keys.add(KeyFile(str(tmp_path / "second.key")))
        assert [(slot.kind, slot.label, slot.current) for slot in cm.keys.list()] == [
            ("key-file", "", True),
            ("passphrase", "alice", False),
            ("key-file", "", False),
        ]
        for key in (Passphrase("correct horse"), tmp_path / "second.key", KEY):
            assert CheckpointManager(store, key=key).load_checkpoint("train") == 1

    def test_a_removed_slot_opens_nothing(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        slot = cm.keys.add(Passphrase("correct horse")).slot
        open_with_it = CheckpointManager(store, key=Passphrase("correct horse"))
        cm.keys.remove(slot)
        with pytest.raises(WrongKeyError, match="does not open"):
            CheckpointManager(store, key=Passphrase("correct horse"))
        with pytest.raises(WrongKeyError, match="removed"):
            open_with_it.save_checkpoint("train")

    def test_the_last_slot_stays(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        with pytest.raises(CheckpointError, match="last one"):
            cm.keys.remove(cm.keys.list()[0].slot)
        with pytest.raises(CheckpointError, match="no key slot 12345678"):
            cm.keys.remove("12345678")

    def test_a_slot_that_others_added_is_seen(self, store: Path) -> None:
        first, second = CheckpointManager(store, key=KEY), CheckpointManager(store, key=KEY)
        first.keys.add(OTHER_KEY)
        second.keys.add(Passphrase("third"))
        assert len(first.keys.list()) == 3

    def test_slots_are_bounded(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        for number in range(31):
            cm.keys.add(bytes([number]) * 32)
        with pytest.raises(CheckpointError, match="32 key slots"):
            cm.keys.add(OTHER_KEY)
        with pytest.raises(CheckpointError, match="label"):
            CheckpointManager(store.with_name("other"), key=KEY).keys.add(OTHER_KEY, label="x\n")

    def test_a_key_is_needed(self, store: Path) -> None:
        with pytest.raises(TypeError, match="key must be"):
            CheckpointManager(store, key=KEY).keys.add(None)  # type: ignore[arg-type]


class TestWrongKeys:
    def test_a_wrong_passphrase_reads_differently_from_a_damaged_keyring(self, store: Path) -> None:
        CheckpointManager(store, key=Passphrase("right"))
        with pytest.raises(WrongKeyError, match=r"passphrase given does not open .* key slots: \w+ \(passphrase\)"):
            CheckpointManager(store, key=Passphrase("wrong"))
        keyring = store / "keyring.json"
        keyring.write_bytes(keyring.read_bytes().replace(b'"passes":2', b'"passes":3'))
        with pytest.raises(IntegrityError, match="checksum"):
            CheckpointManager(store, key=Passphrase("right"))

    def test_a_key_of_another_kind_says_which_kinds_there_are(self, store: Path) -> None:
        CheckpointManager(store, key=Passphrase("right"))
        with pytest.raises(WrongKeyError, match=r"^the key given does not open .* \(passphrase\)"):
            CheckpointManager(store, key=KEY)

    def test_the_source_that_was_used_is_named(self, store: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        CheckpointManager(store / "other")
        CheckpointManager(store, key=KEY)
        with pytest.raises(WrongKeyError, match=rf"^the key file {home}/\S+/default\.key does not open "):
            CheckpointManager(store)
        monkeypatch.setenv("CHECKPOINT_MANAGER_PASSPHRASE", "wrong")
        with pytest.raises(WrongKeyError, match=r"^the passphrase of CHECKPOINT_MANAGER_PASSPHRASE does not open "):
            CheckpointManager(store)

    def test_no_key_for_an_existing_store_makes_no_new_one(self, store: Path, home: Path) -> None:
        CheckpointManager(store, key=KEY)
        with pytest.raises(KeyUnavailableError, match="default key file"):
            CheckpointManager(store)
        assert not list(home.rglob("*.key"))

    def test_a_keyring_that_is_gone_is_not_made_anew(self, store: Path) -> None:
        CheckpointManager(store, key=KEY).save_checkpoint("train")
        (store / "keyring.json").unlink()
        with pytest.raises(IntegrityError, match="no new keyring was made"):
            CheckpointManager(store, key=KEY)
        assert not (store / "keyring.json").exists()

    def test_a_keyring_that_vanishes_stops_writers(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        cm.save_checkpoint("train")
        (store / "keyring.json").unlink()
        with pytest.raises(IntegrityError, match="gone while the store is in use"):
            cm.save_checkpoint("train")


class TestRotation:
    def test_nothing_opens_with_the_old_key(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        for number in range(1, 6):
            cm.save_checkpoint("train", {"epoch": number}, metadata={"n": number})
            cm.save_checkpoint("Other stage", number)
        cm.delete_versions("train", [1, 2])
        before = {stage: cm.history(stage) for stage in cm.stages()}
        old_ids = key_ids(store)
        old_keyring = (store / "keyring.json").read_bytes()
        progress: list[Progress] = []
        cm.keys.rotate(progress=progress.append)
        assert len(old_ids) == len(key_ids(store)) == 1
        assert not old_ids & key_ids(store)
        assert [step.done for step in progress] == list(range(1, 9))
        assert {step.total for step in progress} == {8}
        for opened in (cm, CheckpointManager(store, key=KEY)):
            assert {stage: opened.history(stage) for stage in opened.stages()} == before
            assert opened.load_checkpoint("train", 3) == {"epoch": 3}
            assert opened.verify().problems == ()
        old_id = next(iter(old_ids))
        named = {path.name for path in store.rglob("*") if path.is_file() and old_id in path.read_bytes()}
        assert named == {"keyring.json"}  # whose handover says what succeeded it
        assert old_keyring != (store / "keyring.json").read_bytes()

    def test_slots_without_their_secret_are_named_and_nothing_changes(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        slot = cm.keys.add(Passphrase("correct horse"), label="alice").slot
        before = (store / "keyring.json").read_bytes()
        with pytest.raises(CheckpointError, match=rf"{slot} \(passphrase, alice\)"):
            cm.keys.rotate()
        assert (store / "keyring.json").read_bytes() == before
        with pytest.raises(CheckpointError, match="alice"):
            cm.keys.rotate(also=[Passphrase("wrong")])
        with pytest.raises(CheckpointError, match="can't be dropped, because"):
            cm.keys.rotate(also=[Passphrase("correct horse")], drop=[cm.keys.list()[0].slot])
        cm.keys.rotate(also=[Passphrase("correct horse")])
        assert CheckpointManager(store, key=Passphrase("correct horse")).stages() == []
        cm.keys.rotate(drop=[slot])
        with pytest.raises(WrongKeyError):
            CheckpointManager(store, key=Passphrase("correct horse"))

    def test_readers_and_writers_with_an_older_keyring_go_on(self, store: Path) -> None:
        rotating_one, other = CheckpointManager(store, key=KEY), CheckpointManager(store, key=KEY)
        other.save_checkpoint("train", 1)
        rotating_one.keys.rotate()
        assert other.load_checkpoint("train") == 1
        rotating_one.keys.rotate()
        assert other.save_checkpoint("train", 2).number == 2
        assert len(key_ids(store)) == 1

    @pytest.mark.parametrize("read", ["load", "load one", "history", "tags", "deletions", "verify"])
    def test_what_is_sealed_again_between_being_read_and_being_opened_is_whole(self, read: str) -> None:
        class Interrupted(MemoryBackend):
            """Calls a function once, after a version or record was read."""

            then: Callable[[], object] = staticmethod(lambda: None)

            def _go_on(self) -> None:
                then, self.then = self.then, lambda: None
                then()

            @contextlib.contextmanager
            def open(self, *args: Any, **options: Any) -> Iterator[Reader]:
                with super().open(*args, **options) as file:
                    self._go_on()
                    yield file

            def read_record(self, name: RecordName, *args: Any, **options: Any) -> Record | None:
                record = super().read_record(name, *args, **options)
                if name in {"tags", "gaps"} and record is not None and read in {"tags", "deletions"}:
                    self._go_on()
                return record

        backend = Interrupted()
        cm, another = CheckpointManager(backend, key=KEY), CheckpointManager(backend, key=KEY)
        for number in range(1, 5):
            another.save_checkpoint("train", number)
        another.delete_versions("train", [2])
        another.tag("train", 3, "good")

        def rotate() -> None:
            another.keys.rotate()
            cm.keys.list()  # another thread of the reader's process follows

        backend.then = rotate
        if read == "load":
            assert cm.load_checkpoint("train") == 4
        elif read == "load one":
            assert cm.load_checkpoint("train", 1) == 1
        elif read == "history":
            assert [version.status for version in cm.history("train")] == ["completed"] * 3
        elif read == "tags":
            assert cm.tags("train") == {"good": 3}
        elif read == "deletions":
            with pytest.raises(CheckpointNotFoundError, match="was deleted"):
                cm.load_checkpoint("train", 2)
        else:
            assert {finding.state for finding in cm.verify().findings} == {"whole"}
        assert backend.then is not rotate

    def test_writers_go_on_meanwhile(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        stop = threading.Event()
        saved = {"a": 0, "b": 0}

        def write(stage: str) -> None:
            mine = CheckpointManager(store, key=KEY)
            while not stop.wait(0.005):  # a rotation of what grows faster than it rotates would take for ever
                saved[stage] = mine.save_checkpoint(stage, saved[stage]).number

        threads = [threading.Thread(target=write, args=(stage,)) for stage in saved]
        for thread in threads:
            thread.start()
        rotations = 0
        while rotations < 3 or not all(saved.values()):
            cm.keys.rotate()
            rotations += 1
        stop.set()
        for thread in threads:
            thread.join()
        cm.keys.rotate()
        assert len(key_ids(store)) == 1
        assert cm.verify().ok
        assert {stage: len(cm.history(stage)) for stage in saved} == saved

    def test_a_damaged_version_keeps_the_old_key_until_it_is_repaired(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        cm.save_checkpoint("train", 1)
        cm.save_checkpoint("train", 2)
        path = store / "history" / "train" / "000000000001.checkpoint"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(IntegrityError, match="version 1 of stage train"):
            cm.keys.rotate()
        assert any("rotation" in finding.detail for finding in cm.verify().problems)
        cm.repair()
        cm.keys.rotate()
        assert len(json.loads((store / "keyring.json").read_bytes())["keys"]) == 1
        assert cm.load_checkpoint("train") == 2

    def test_damage_in_one_stage_does_not_keep_the_others_under_the_old_key(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        for stage in ("a", "b", "c"):
            cm.save_checkpoint(stage, stage)
        old = key_ids(store)
        path = store / "history" / "b" / "000000000001.checkpoint"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(IntegrityError, match=r"not finished, and the old key stays.* version 1 of stage b"):
            cm.keys.rotate()
        assert {stage: cm.load_checkpoint(stage) for stage in ("a", "c")} == {"a": "a", "c": "c"}
        for stage in ("a", "c"):
            assert not key_ids(store / "history" / stage) & old
        path.write_bytes(whole)
        cm.keys.rotate()
        assert cm.load_checkpoint("b") == "b"

    def test_a_version_that_comes_back_while_a_rotation_is_unfinished_still_opens(self, store: Path) -> None:
        """It was away, without a record of a deletion, when its key would have been dropped."""
        cm = CheckpointManager(store, key=KEY)
        for number in (1, 2, 3):
            cm.save_checkpoint("train", number)
        path = store / "history" / "train" / "000000000002.checkpoint"
        path.rename(store / "away")
        with pytest.raises(IntegrityError, match=r"version 2 of stage train .* is missing"):
            cm.keys.rotate()
        (store / "away").rename(path)
        cm.keys.rotate()
        assert cm.load_checkpoint("train", 2) == 2
        assert len(json.loads((store / "keyring.json").read_bytes())["keys"]) == 1

    def test_a_version_that_is_lost_for_good_does_not_keep_a_rotation_from_finishing_once_that_is_accepted(
        self, store: Path
    ) -> None:
        """Else whoever removes one version could keep a leaked key in use for ever."""
        cm = CheckpointManager(store, key=KEY)
        for number in range(1, 7):
            cm.save_checkpoint("train", number)
        for number in (1, 3, 4):
            (store / "history" / "train" / f"{number:012d}.checkpoint").unlink()
        with pytest.raises(IntegrityError, match=r"version 1 of stage train .* is missing"):
            cm.keys.rotate()
        cm.accept_rollback("train")
        assert cm.verify().problems[0].state == "unfinished"
        cm.keys.rotate()
        assert cm.verify().problems == ()
        assert cm.save_checkpoint("train", 7).number == 7
        with pytest.raises(CheckpointError, match="lost"):
            cm.load_checkpoint("train", 3)

    def test_a_deleted_version_does_not_keep_a_rotation_from_finishing(self, store: Path) -> None:
        """Its file may even be there still, because whoever deleted it was killed in between."""
        cm = CheckpointManager(store, key=KEY)
        for number in (1, 2, 3):
            cm.save_checkpoint("train", number)
        path = store / "history" / "train" / "000000000001.checkpoint"
        content = path.read_bytes()
        cm.delete_versions("train", [1])
        path.write_bytes(content[:-1])
        cm.keys.rotate()
        assert len(json.loads((store / "keyring.json").read_bytes())["keys"]) == 1

    def test_killed_anywhere_it_continues(self, store: Path) -> None:
        """Kill a rotation after each number of versions in turn; the store opens, and the next run finishes."""
        cm = CheckpointManager(store, key=KEY)
        for number in range(4):
            cm.save_checkpoint("train", number)
        for survived in range(4):
            program = (
                "import os, signal, sys\n"
                "from checkpoint_manager import CheckpointManager\n"
                "def step(progress):\n"
                f"    if progress.done > {survived}: os.kill(os.getpid(), signal.SIGKILL)\n"
                f"CheckpointManager({str(store)!r}, key=bytes(range(32))).keys.rotate(progress=step)\n"
            )
            done = subprocess.run([sys.executable, "-c", program], check=False, env=dict(os.environ))
            assert done.returncode == -signal.SIGKILL
            again = CheckpointManager(store, key=KEY)
            assert again.load_checkpoint("train") == 3
            assert {finding.state for finding in again.verify().problems} == {"unfinished"}
        CheckpointManager(store, key=KEY).keys.rotate()
        assert len(json.loads((store / "keyring.json").read_bytes())["keys"]) == 1
        assert len(key_ids(store)) == 1
        assert cm.verify().problems == ()

    def test_one_of_two_at_once_does_not_finish_what_a_third_has_begun(self, store: Path) -> None:
        """Both worked on one rotation; the quicker one finished it, and the next began before the slower one ended."""
        cm, quicker = CheckpointManager(store, key=KEY), CheckpointManager(store, key=KEY)
        cm.save_checkpoint("train", 1)

        def overtake(_: object) -> None:
            quicker.keys._store.keyring.change(finish_rotation, 1)
            quicker.keys._store.keyring.change(begin_rotation, 1)

        cm.keys.rotate(progress=overtake)
        assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 1
        assert len(json.loads((store / "keyring.json").read_bytes())["keys"]) == 2
        cm.keys.rotate()
        assert cm.verify().problems == ()

    def test_one_that_finds_another_under_way_still_drops_its_slots(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        cm.save_checkpoint("train", 1)
        added = cm.keys.add(OTHER_KEY)
        cm.keys._store.keyring.change(lambda opened: begin_rotation(opened, also=[Secret("key-file", Hidden(OTHER_KEY))]), 1)
        cm.keys.rotate(drop=[added.slot])
        assert [slot.slot for slot in cm.keys.list()] == [slot.slot for slot in cm.keys.list() if slot.current]
        assert cm.verify().problems == ()

    def test_a_thread_that_is_overtaken_does_not_bring_back_the_older_keyring(self, store: Path) -> None:
        """It has read the keyring when a rotation begins, and looks at what it read when another thread knows the newer one."""
        cm, other = CheckpointManager(store, key=KEY), CheckpointManager(store, key=KEY)
        other.keys.add(OTHER_KEY)
        keyring = cm.keys._store.keyring
        recall = keyring.last_seen.line

        def slowly(name: str) -> Line:
            keyring.last_seen.line = recall  # type: ignore[method-assign]
            held = keyring.current
            other.keys._store.keyring.change(
                lambda opened: begin_rotation(opened, also=[Secret("key-file", Hidden(OTHER_KEY))]), 1
            )
            keyring.refresh()  # the other thread
            assert keyring.current is not held
            return recall(name)

        keyring.last_seen.line = slowly  # type: ignore[method-assign]
        keyring.refresh()
        assert keyring.unlocked.rotating

    def test_a_thread_is_told_of_what_it_read_itself(self, store: Path) -> None:
        """Another thread has taken over an older keyring meanwhile, and to go by that would be to trust a key given up."""
        cm, other = CheckpointManager(store, key=KEY), CheckpointManager(store, key=KEY)
        other.keys.add(OTHER_KEY)
        keyring = cm.keys._store.keyring
        recall = keyring.last_seen.line

        def slowly(name: str) -> Line:
            keyring.last_seen.line = recall  # type: ignore[method-assign]
            keyring.refresh()  # the other thread
            other.keys._store.keyring.change(
                lambda opened: begin_rotation(opened, also=[Secret("key-file", Hidden(OTHER_KEY))]), 1
            )
            return recall(name)

        keyring.last_seen.line = slowly  # type: ignore[method-assign]
        assert keyring.refresh().unlocked.rotating

    def test_one_that_opens_the_store_while_the_keyring_changes_sees_no_rollback(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = CheckpointManager(store, key=KEY)
        make = LastSeen.__init__

        def slowly(self: LastSeen, *arguments: Any) -> None:
            monkeypatch.undo()
            first.keys.rotate()
            make(self, *arguments)

        monkeypatch.setattr(LastSeen, "__init__", slowly)
        assert CheckpointManager(store, key=KEY).save_checkpoint("train").number == 1

    def test_a_writer_that_slept_through_it_does_not_save_under_the_old_key(self, store: Path) -> None:
        """A writer that holds a new stage's lock with the older keyring is waited for."""
        cm = CheckpointManager(store, key=KEY, lock_timeout=0.2)
        slow = CheckpointManager(store, key=KEY)
        inside, go_on = threading.Event(), threading.Event()

        def function(_: object) -> int:
            inside.set()
            go_on.wait(10)
            return 1

        thread = threading.Thread(target=slow.update_checkpoint, args=("new stage", function))
        thread.start()
        inside.wait(10)
        with pytest.raises(CheckpointError, match="locked"):
            cm.keys.rotate()
        go_on.set()
        thread.join()
        cm.keys.rotate()
        assert cm.load_checkpoint("new stage") == 1
        assert len(key_ids(store)) == 1


def test_a_process_that_is_overtaken_while_it_makes_a_store_joins_the_quicker_one(store: Path) -> None:
    """The other one made the keyring, and saved, between this one's look for a keyring and its look for checkpoints."""
    from checkpoint_manager.backends.local import LocalBackend

    class Overtaken(LocalBackend):
        def stages(self) -> list[str]:
            CheckpointManager(store, key=KEY).save_checkpoint("train", "quicker")
            return super().stages()

    assert CheckpointManager(Overtaken(store), key=KEY).load_checkpoint("train") == "quicker"


def test_a_process_that_is_overtaken_at_the_last_moment_joins_the_quicker_one(store: Path) -> None:
    from checkpoint_manager.backends.local import LocalBackend

    class Overtaken(LocalBackend):
        def stages(self) -> list[str]:
            found = super().stages()
            CheckpointManager(store, key=KEY).save_checkpoint("train", "quicker")
            return found

    assert CheckpointManager(Overtaken(store), key=KEY).load_checkpoint("train") == "quicker"


def test_sixteen_processes_that_open_a_new_directory_make_one_store_and_one_key(store: Path, home: Path) -> None:
    program = (
        "import sys\n"
        "from checkpoint_manager import CheckpointManager\n"
        f"sys.stdin.read(1)\n"
        f"CheckpointManager({str(store)!r}).save_checkpoint('train', sys.argv[1])\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(number)], stdin=subprocess.PIPE, env=dict(os.environ))
        for number in range(16)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"x")
        child.stdin.close()
    assert [child.wait(60) for child in children] == [0] * 16
    cm = CheckpointManager(store)
    assert sorted(cm.load_checkpoint("train", version.number) for version in cm.history("train")) == sorted(
        str(number) for number in range(16)
    )
    assert cm.verify().problems == ()
    assert len(list(home.rglob("*.key"))) == 1


def test_an_unfinished_rotation_is_told(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=bytes(range(32)))
    cm.save_checkpoint("train", 1)
    told: list[bool] = []
    cm.keys.rotate(progress=lambda _: told.append(cm.keys.is_rotating()))
    assert (told[0], cm.keys.is_rotating()) == (True, False)


def test_another_keyring_of_the_number_that_was_seen_is_refused(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cm = CheckpointManager(store, key=KEY)
    before = (store / "keyring.json").read_bytes()
    cm.keys.add(bytes(range(1, 33)), label="mine")
    (store / "keyring.json").write_bytes(before)
    with monkeypatch.context() as other:
        other.setenv("XDG_STATE_HOME", str(tmp_path / "state of another user"))
        CheckpointManager(store, key=KEY).keys.add(bytes(range(2, 34)), label="other")
    with pytest.raises(RollbackError, match="this user has already seen another one of that number"):
        CheckpointManager(store, key=KEY)
