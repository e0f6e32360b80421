"""``doctor``: each thing that can be set up wrongly is found, with a next step; nothing is changed, and no secret is shown."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager._format.keyring import begin_rotation
from checkpoint_manager.cli.commands.doctor import environment, keys, storage
from checkpoint_manager.cli.commands.doctor.examine import _or_why_not
from tests.cli.terminal import Terminal
from tests.faults.strace import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]
    Doctor = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def doctor(cli: Cli) -> Doctor:
    """Call the doctor; returns what is worst of each topic, and checks that the exit code agrees."""

    def call(*arguments: str) -> dict[str, dict[str, Any]]:
        result = cli("doctor", "--json", *arguments)
        return judged(result.code, result.json)

    return call


def judged(code: int, document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    checks = document["checks"]
    assert all(check["next"] for check in checks if check["state"] != "ok")
    assert document["ok"] == all(check["state"] != "problem" for check in checks) == (code == 0)
    assert code in {0, 1}
    worst: dict[str, dict[str, Any]] = {}
    for check in sorted(checks, key=lambda check: ["ok", "warning", "problem"].index(check["state"])):
        worst[check["topic"]] = check
    return worst


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in sorted(folder.rglob("*"))
    }


def test_a_sound_store_is_found_sound_and_left_as_it_is(cli: Cli, doctor: Doctor, store: Path, home: Path) -> None:
    before = contents(store), contents(home)
    found = doctor()
    assert {topic for topic, check in found.items() if check["state"] != "ok"} <= {"file system", "room"}
    assert set(found) == {
        *("Python", "libraries", "environment", "last seen", "key", "store", "keyring", "opening", "stages", "clock", "owner"),
        *("leftovers", "file system", "room", "writing", "hard links", "locks", "sync"),
    }
    assert (contents(store), contents(home)) == before
    result = cli("doctor")
    assert result.code == 0
    assert result.out.splitlines()[0].startswith("ok       Python       3.")
    key = next(home.rglob("default.key")).read_text().splitlines()[-1].partition(":")[2]
    assert key not in result.out + result.err


def test_without_a_store_it_looks_at_the_place_and_makes_nothing(doctor: Doctor, tmp_path: Path, home: Path) -> None:
    found = doctor("--store", "deep/down")
    assert found["store"]["state"] == "warning"
    assert "init" in found["store"]["next"]
    assert found["locks"]["state"] == "ok"
    assert "is made at" in found["key"]["found"]
    assert (contents(tmp_path), contents(home)) == ({}, {})


class TestKeys:
    def test_a_key_that_does_not_open_the_store(self, doctor: Doctor, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHECKPOINT_MANAGER_PASSPHRASE", "hunter2")
        found = doctor()
        assert found["key"]["found"].endswith("CHECKPOINT_MANAGER_PASSPHRASE")
        assert found["opening"]["state"] == "problem"
        assert found["keyring"]["found"] == "it claims to have 1 slot: key-file"
        assert found["environment"]["found"] == "set: CHECKPOINT_MANAGER_PASSPHRASE"
        assert "hunter2" not in json.dumps(found)

    def test_no_key(self, doctor: Doctor, store: Path, home: Path) -> None:
        next(home.rglob("default.key")).unlink()
        found = doctor()
        assert (found["key"]["state"], found["opening"]["state"]) == ("problem", "problem")
        assert not list(home.rglob("default.key"))

    def test_two_keys(self, doctor: Doctor, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHECKPOINT_MANAGER_KEY_FILE", "/x")
        found = doctor("--key", "cmd:echo hunter2")
        assert found["key"]["state"] == "problem"
        assert "--key cmd and by the environment variable CHECKPOINT_MANAGER_KEY_FILE" in found["key"]["found"]

    def test_a_keyring_that_is_gone_is_not_made_anew(self, doctor: Doctor, store: Path) -> None:
        (store / "keyring.json").unlink()
        before = contents(store)
        found = doctor()
        assert found["keyring"]["state"] == "problem"
        assert "opening" not in found
        assert contents(store) == before

    def test_a_damaged_keyring(self, doctor: Doctor, store: Path) -> None:
        (store / "keyring.json").write_bytes(b"x")
        assert doctor()["keyring"]["state"] == "problem"

    def test_a_rotation_that_was_stopped(self, doctor: Doctor, store: Path) -> None:
        cm = CheckpointManager(store)
        cm._store.keyring.change(lambda opened: begin_rotation(opened, also=[], drop=[]), 1.0)
        assert "resume it with checkpoint-manager key rotate" in doctor()["rotation"]["next"]
        cm.keys.rotate()
        assert "rotation" not in doctor()


class TestSurroundings:
    def test_a_mistyped_variable(self, doctor: Doctor, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHECKPOINT_MANAGER_PASSPRHASE", "hunter2")
        found = doctor()["environment"]
        assert found["state"] == "warning"
        assert found["next"] == "is CHECKPOINT_MANAGER_PASSPHRASE meant?"
        assert "hunter2" not in json.dumps(found)

    def test_a_library_that_is_too_old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert environment._needed()["cryptography"] == "50"
        monkeypatch.setattr(environment, "_needed", lambda: {"orjson": "999"})
        assert [check.next for check in environment.look_at_python() if check.state == "problem"] == [
            "install a newer one: pip install --upgrade 'orjson>=999'"
        ]

    def test_a_library_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environment, "_LIBRARIES", ("orjson", "no-such-library"))
        assert list(environment.look_at_python())[1].found.endswith(", no no-such-library")

    def test_run_from_a_source_tree_there_is_nothing_to_compare_with(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environment, "_DISTRIBUTION", "no-such-distribution")
        assert environment._needed() == {}

    def test_a_state_directory_that_can_not_be_made(self, doctor: Doctor, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/state")
        assert doctor()["last seen"]["state"] == "warning"


class TestStore:
    def test_others_may_write(self, doctor: Doctor, store: Path) -> None:
        store.chmod(0o777)
        assert doctor()["permissions"]["next"].startswith("take that away: chmod go-w")

    def test_a_head_that_relaxed_saves_left_behind_is_not_told_as_an_interruption(self, doctor: Doctor, tmp_path: Path) -> None:
        cm = CheckpointManager(tmp_path / "relaxed", durability="relaxed")
        for number in range(3):
            cm.save_checkpoint("train", number)
        found = doctor("--store", "relaxed")["leftovers"]["found"]
        assert found.startswith("1 of interrupted operations or relaxed saves, such as ")

    def test_the_commands_that_it_names_can_be_typed(self, cli: Cli, store: Path, tmp_path: Path) -> None:
        place = tmp_path / "my store"
        assert f"init --store '{place}'" in cli("doctor", "--store", str(place)).out
        store.rename(place)
        place.chmod(0o777)
        (place / "history").chmod(0o777)
        (place / ".0123456789abcdef.tmp").write_bytes(b"")
        said = cli("doctor", "--store", str(place))
        assert f"chmod go-w '{place}'" in said.out
        assert f"chmod -R go= '{place}'" in said.out
        assert f"checkpoint-manager repair --dry-run --store '{place}'" in said.out
        assert f"chmod go-w '{place}'" in said.err

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_a_file_of_someone_else(self, doctor: Doctor, store: Path) -> None:
        os.chown(store / "history" / "train", 12345, -1)
        found = doctor()["owner"]
        assert found["state"] == "warning"
        assert "belongs to user 12345, and you are" in found["found"]

    def test_what_lies_about(self, doctor: Doctor, store: Path) -> None:
        (store / ".0123456789abcdef.tmp").write_bytes(b"")
        (store / "notes.txt").write_text("mine")
        (store / "notes.txt").chmod(0o644)
        (store / "history" / "file").write_text("")
        (store / "keyring.json").chmod(0o644)
        found = [check for check in _all(doctor, store) if check["topic"] == "leftovers"]
        assert [check["state"] for check in found] == ["warning", "warning", "problem"]
        assert "notes.txt" in found[1]["found"]
        assert "keyring.json is open to other users of this host (mode 0644)" in doctor()["permissions"]["found"]
        assert (store / "notes.txt").read_text() == "mine"

    def test_a_clock_that_is_behind(self, doctor: Doctor, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keys, "_CLOCKS_DIFFER", timedelta(days=-1))
        assert doctor()["clock"]["state"] == "warning"

    def test_a_stage_that_has_vanished(self, doctor: Doctor, store: Path) -> None:
        CheckpointManager(store).load_checkpoint("train")
        shutil.rmtree(store / "history" / "train")
        (store / "train.checkpoint").unlink()
        found = doctor()["stages"]
        assert found["state"] == "problem"
        assert "stage train" in found["found"]
        assert "repair --accept-rollback" in found["next"]

    def test_nothing_saved_yet(self, doctor: Doctor, tmp_path: Path) -> None:
        CheckpointManager(tmp_path / "checkpoints")
        assert "nothing is saved yet" in doctor()["clock"]["found"]

    def test_something_else_in_the_place_of_the_history(self, doctor: Doctor, store: Path, tmp_path: Path) -> None:
        (store / "history").rename(tmp_path / "away")
        (store / "history").symlink_to(tmp_path / "away")
        found = doctor()
        assert found["leftovers"]["state"] == "problem"


def _all(doctor: Doctor, store: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "checkpoint_manager", "doctor", "--json", "--store", str(store)],
        capture_output=True,
        text=True,
        check=False,
    )
    return list(json.loads(done.stdout)["checks"])


@pytest.mark.parametrize(
    ("error", "found", "step"),
    [
        (RuntimeError("no home directory can be determined"), "no home directory", "set HOME"),
        (PermissionError(13, "Permission denied", "/store"), "Permission denied: /store", "who owns it"),
    ],
)
def test_what_can_not_be_looked_at_is_a_finding(error: Exception, found: str, step: str) -> None:
    def look() -> list[Any]:
        raise error

    (check,) = _or_why_not("place", look)
    assert (check.topic, check.state) == ("place", "problem")
    assert found in check.found
    assert step in check.next


class TestFileSystem:
    """The system calls of the program really fail."""

    @pytest.mark.children_measured
    @pytest.mark.parametrize(
        ("injection", "topic", "state", "found"),
        [
            ("linkat:error=EPERM", "hard links", "warning", "there are none"),
            ("flock:retval=0", "locks", "problem", "two processes can hold one lock"),
            ("flock:error=EAGAIN", "locks", "problem", "a new file can't be locked"),
            ("flock:error=EIO", "locks", "problem", "Input/output error"),
            ("fsync:error=EIO", "sync", "problem", "Input/output error"),
            ("fchmod:error=EROFS", "writing", "problem", "Read-only file system"),
        ],
    )
    def test_what_it_can_not_do_is_found(self, store: Path, injection: str, topic: str, state: str, found: str) -> None:
        require("strace")
        command = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={injection}"]
        command += [sys.executable, "-m", "checkpoint_manager", "doctor", "--json", "--store", str(store)]
        umask = 0o277 if "fchmod" in injection else -1  # the mode is changed only if the umask has taken bits away
        done = subprocess.run(command, capture_output=True, text=True, check=False, umask=umask)
        check = judged(done.returncode, json.loads(done.stdout))[topic]
        assert check["state"] == state
        assert found in check["found"]
        assert not list(store.glob(".*.tmp"))

    def test_files_that_can_not_be_closed_to_others(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storage.probes, "private_modes", lambda _: False)
        assert "permissions" in {check.topic for check in storage.look_at_place(str(store)) if check.state == "warning"}

    def test_a_directory_that_this_user_may_not_write_to(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
        assert [check.topic for check in storage.look_at_place(str(store)) if check.state == "problem"] == ["writing"]

    @pytest.mark.parametrize(("kind", "state"), [("nfs4", "ok"), ("cifs", "warning"), ("tmpfs", "warning"), ("", "ok")])
    def test_its_type(self, store: Path, monkeypatch: pytest.MonkeyPatch, kind: str, state: str) -> None:
        monkeypatch.setattr(storage.mounts, "mount_of", lambda _: storage.mounts.Mount(kind))
        assert next(storage.look_at_place(str(store))).state == state

    def test_its_type_is_told_by_the_system(self) -> None:
        assert storage.mounts.mount_of("/proc/self").kind == "proc"

    @pytest.mark.parametrize(
        ("room", "state"),
        [
            (storage.probes.Room(10**12, None), "ok"),
            (storage.probes.Room(10**12, 10**6), "ok"),
            (storage.probes.Room(10**12, 500), "warning"),
            (storage.probes.Room(10**12, 0), "problem"),
            (storage.probes.Room(10**8, 10**6), "warning"),
            (storage.probes.Room(0, 10**6), "problem"),
        ],
    )
    def test_its_room(self, store: Path, monkeypatch: pytest.MonkeyPatch, room: storage.probes.Room, state: str) -> None:
        monkeypatch.setattr(storage.probes, "room", lambda _: room)
        assert next(storage._look_at_room(str(store))).state == state


def test_at_a_terminal_it_is_coloured(store: Path) -> None:
    store.chmod(0o777)
    with Terminal("doctor", "--store", str(store)) as terminal:
        assert terminal.end() == 0
        assert "\x1b[32mok      \x1b[0m Python" in terminal.shown
        assert "\x1b[33mwarning \x1b[0m permissions" in terminal.shown
