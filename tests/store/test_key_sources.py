"""Where a key comes from: each source, their order, and what is wrong with one that does not work."""

from __future__ import annotations

import base64
import errno
import os
import pickle
import pwd
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkpoint_manager import CheckpointManager, KeyFile, KeyUnavailableError, Passphrase, WrongKeyError
from checkpoint_manager._filesystem import files
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._store import passphrase_command
from checkpoint_manager._store.key_sources import (
    create_key_file,
    find_secret,
    read_key_file,
    read_passphrase_command,
    read_passphrase_descriptor,
    read_passphrase_file,
)

KEY = bytes(range(32))
WORDS = "correct horse"
VARIABLE = "CHECKPOINT_MANAGER_"


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    create_key_file(tmp_path / "key")
    (tmp_path / "words").write_text(WORDS + "\n")
    (tmp_path / "words").chmod(0o600)
    return {
        f"{VARIABLE}KEY_FILE": str(tmp_path / "key"),
        f"{VARIABLE}PASSPHRASE": WORDS,
        f"{VARIABLE}PASSPHRASE_FILE": str(tmp_path / "words"),
        f"{VARIABLE}PASSPHRASE_COMMAND": f"{sys.executable} -c 'print(\"{WORDS}\")'",
    }


@pytest.mark.parametrize("name", ["KEY_FILE", "PASSPHRASE", "PASSPHRASE_FILE", "PASSPHRASE_COMMAND"])
def test_each_variable_opens_the_store(
    tmp_path: Path, home: Path, sources: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(VARIABLE + name, sources[VARIABLE + name])
    CheckpointManager(tmp_path / "store").save_checkpoint("train", 1)
    assert not list(home.rglob("*.key"))
    monkeypatch.delenv(VARIABLE + name)
    key: Any = KeyFile(sources[f"{VARIABLE}KEY_FILE"]) if name == "KEY_FILE" else Passphrase(WORDS)
    assert CheckpointManager(tmp_path / "store", key=key).load_checkpoint("train") == 1


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    create_key_file(tmp_path / "my.key")
    for key in (KeyFile("~/my.key"), Path("~/my.key")):
        cm = CheckpointManager("~/store", key=key)
        assert pickle.loads(pickle.dumps(cm)).save_checkpoint("a").stage == "a"
    monkeypatch.setenv("CHECKPOINT_MANAGER_KEY_FILE", "~/my.key")
    monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", "~/store")
    assert CheckpointManager().has_checkpoint("a")
    assert (tmp_path / "store" / "keyring.json").exists()


@pytest.mark.parametrize("first", ["KEY_FILE", "PASSPHRASE", "PASSPHRASE_FILE", "PASSPHRASE_COMMAND"])
def test_two_sources_at_once_are_refused(sources: dict[str, str], first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE + first, sources[VARIABLE + first])
    for second, value in sources.items():
        if second != VARIABLE + first:
            monkeypatch.setenv(second, value)
            with pytest.raises(KeyUnavailableError, match=r"given twice, by the environment variable .* and by") as caught:
                find_secret(None)
            assert WORDS not in str(caught.value)
            monkeypatch.delenv(second)
    with pytest.raises(KeyUnavailableError, match="by the argument key= and by the environment variable"):
        find_secret(bytes(32))


@pytest.mark.parametrize("name", ["KEY_FILE", "PASSPHRASE", "PASSPHRASE_FILE", "PASSPHRASE_COMMAND"])
def test_a_variable_that_is_set_and_empty_is_not_passed_over(
    tmp_path: Path, home: Path, sources: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A secret that was not injected must not make a store under another key."""
    monkeypatch.setenv(VARIABLE + name, "")
    with pytest.raises(KeyUnavailableError, match=f"{VARIABLE}{name} is set but empty"):
        CheckpointManager(tmp_path / "store")
    other = next(variable for variable in sources if variable != VARIABLE + name)
    monkeypatch.setenv(other, sources[other])
    with pytest.raises(KeyUnavailableError, match="is set but empty"):
        CheckpointManager(tmp_path / "store")
    assert not list(home.rglob("*.key"))
    monkeypatch.delenv(other)
    assert CheckpointManager(tmp_path / "store", key=KEY).stages() == []  # a key that is given is not in doubt


@pytest.mark.parametrize("key", [b"short", bytes(33), "text", 7, object(), ["x"]])
def test_a_key_of_another_type_is_refused_without_showing_it(key: object) -> None:
    with pytest.raises(TypeError, match="key ") as caught:
        find_secret(key)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(("text", "match"), [("", "is empty"), ("\ud800", "not valid Unicode")])
def test_a_passphrase_that_cannot_be_one(text: str, match: str) -> None:
    with pytest.raises(KeyUnavailableError, match=match):
        find_secret(Passphrase(text))


def test_a_passphrase_that_is_not_a_text_is_refused_without_showing_it() -> None:
    with pytest.raises(TypeError, match="key must be a Passphrase of a str, not an int") as caught:
        find_secret(Passphrase(1234))  # type: ignore[arg-type]
    assert "1234" not in str(caught.value)


def test_a_passphrase_is_the_same_however_it_was_typed() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert find_secret(Passphrase(composed)) == find_secret(Passphrase(decomposed))


@pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
def test_the_line_end_of_a_passphrase_file_is_not_part_of_it(tmp_path: Path, line_end: str) -> None:
    (tmp_path / "words").write_bytes((" spaces count " + line_end).encode())
    assert read_passphrase_file(tmp_path / "words").text == " spaces count "


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 70_000, "larger than"),
    ],
)
def test_a_passphrase_file_that_holds_none(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "words").write_bytes(content)
    with pytest.raises(KeyUnavailableError, match=match):
        read_passphrase_file(tmp_path / "words")


@pytest.mark.parametrize(
    ("command", "match"),
    [
        ("false", "failed with exit code 1"),
        ("/nothing/here", "can't be run"),
        ("'unclosed", "can't be run"),
        (" ", "can't be run"),
        ("true", "is empty"),
    ],
)
def test_a_command_that_gives_no_passphrase(command: str, match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{VARIABLE}PASSPHRASE_COMMAND", command)
    with pytest.raises(KeyUnavailableError, match=match):
        find_secret(None)


def test_a_command_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase_command, "_SECONDS", 0.1)
    with pytest.raises(KeyUnavailableError, match="did not end within") as caught:
        read_passphrase_command(Hidden("sleep 30"), "PASSPHRASE_COMMAND")
    assert caught.value.__cause__ is None


def test_the_path_of_a_key_file_with_a_character_that_no_path_can_hold(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailableError, match="can't be read: embedded null byte"):
        read_key_file(tmp_path / "a\0b")


def test_a_key_file_that_can_be_written_only_in_part_is_not_made(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from checkpoint_manager._store.key_sources import create_key_file
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    create_key_file(Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""
    path = tmp_path / "keys" / "key"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("KeyUnavailableError a key file can't be made at")
    assert list(path.parent.iterdir()) == []
    create_key_file(path)


def test_a_command_that_prints_without_end_is_stopped() -> None:
    with pytest.raises(KeyUnavailableError, match="PASSPHRASE_COMMAND printed more than 65536 bytes"):
        read_passphrase_command(Hidden("yes"), "PASSPHRASE_COMMAND")


def test_a_command_that_goes_on_after_it_closed_its_output_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase_command, "_SECONDS", 0.2)
    with pytest.raises(KeyUnavailableError, match="did not end within"):
        read_passphrase_command(Hidden("sh -c 'echo words; exec sleep 30 >&-'"), "PASSPHRASE_COMMAND")


def test_a_command_runs_without_a_shell(tmp_path: Path) -> None:
    found = read_passphrase_command(Hidden(f"echo $HOME; touch {tmp_path / 'made'}"), "PASSPHRASE_COMMAND")
    assert found.text == f"$HOME; touch {tmp_path / 'made'}"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [WORDS + "\n\n", WORDS + "\r\nsecond line\n", WORDS])
def test_file_command_and_descriptor_give_the_same_passphrase(tmp_path: Path, content: str) -> None:
    """It is the first line, wherever it comes from."""
    path = tmp_path / "words"
    path.write_bytes(content.encode())
    path.chmod(0o600)
    with path.open("rb") as file:
        found = [
            read_passphrase_file(path).text,
            read_passphrase_command(Hidden(f"cat {path}"), "test").text,
            read_passphrase_descriptor(file.fileno()).text,
        ]
    assert found == [WORDS] * 3


@pytest.mark.parametrize(
    ("number", "match"), [(10**6, "can't be read: Bad file descriptor"), (10**30, "there is no descriptor of this number")]
)
def test_a_descriptor_that_is_not_there(number: int, match: str) -> None:
    with pytest.raises(KeyUnavailableError, match=match) as caught:
        read_passphrase_descriptor(number)
    assert f"{number}<" in caught.value.hint


def test_a_descriptor_whose_line_does_not_end(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"x" * 65_537)
    with (tmp_path / "words").open("rb") as file, pytest.raises(KeyUnavailableError, match="longer than 65536 bytes"):
        read_passphrase_descriptor(file.fileno())


def test_a_descriptor_that_would_show_the_passphrase() -> None:
    ours, theirs = os.openpty()
    try:
        with pytest.raises(KeyUnavailableError, match="is a terminal, which would show the passphrase"):
            read_passphrase_descriptor(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def _refuse_to_link(*_: object, **__: object) -> None:
    """Answer as exFAT does."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


class TestOtherUsers:
    """What another user of the host could have put there, or could change, is not taken for a secret."""

    @pytest.fixture
    def planted(self, tmp_path: Path) -> Path:
        create_key_file(tmp_path / "key")
        return tmp_path / "key"

    def read(self, what: str, path: Path) -> object:
        return read_key_file(path) if what == "key file" else read_passphrase_file(path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
    @pytest.mark.parametrize("what", ["key file", "passphrase file"])
    @pytest.mark.parametrize("linked", [False, True])
    def test_a_file_of_another_user_is_refused(self, planted: Path, what: str, linked: bool) -> None:
        os.chown(planted, 12345, 12345)
        path = planted
        if linked:
            path = planted.with_name("link")
            path.symlink_to(planted)
        with pytest.raises(KeyUnavailableError, match=f"the {what} .* belongs to another user"):
            self.read(what, path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
    def test_a_planted_default_key_makes_no_store(self, tmp_path: Path, home: Path) -> None:
        path = home / ".local" / "share" / "checkpoint_manager" / "default.key"
        create_key_file(path)
        os.chown(path, 12345, 12345)
        with pytest.raises(KeyUnavailableError, match="belongs to another user"):
            CheckpointManager(tmp_path / "store")
        assert not (tmp_path / "store" / "keyring.json").exists()

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
    def test_a_planted_new_key_file_is_not_taken_for_one_that_was_made(self, planted: Path) -> None:
        os.chown(planted, 12345, 12345)
        with pytest.raises(KeyUnavailableError, match="belongs to another user"):
            create_key_file(planted)

    @pytest.mark.parametrize("what", ["key file", "passphrase file"])
    @pytest.mark.parametrize("mode", [0o602, 0o666])
    def test_a_file_that_others_may_change_is_refused(self, planted: Path, what: str, mode: int) -> None:
        planted.chmod(mode)
        planted = planted.rename(planted.with_name("my key"))
        with pytest.raises(KeyUnavailableError, match=f"the {what} .* can be changed by other users") as refused:
            self.read(what, planted)
        assert refused.value.hint.endswith(f"run: chmod 600 '{planted}'")

    def test_a_folder_that_others_may_write_to_is_warned_of(self, planted: Path, caplog: pytest.LogCaptureFixture) -> None:
        planted.parent.chmod(0o777)
        read_key_file(planted)
        assert f"can be replaced by other users of this host, who may write to {planted.parent}" in caplog.text
        caplog.clear()
        planted.parent.chmod(0o1777)
        read_key_file(planted)
        assert not caplog.text

    def test_a_folder_of_another_user_is_warned_of(self, planted: Path, caplog: pytest.LogCaptureFixture) -> None:
        os.chown(planted.parent, 12345, 12345)
        read_key_file(planted)
        assert f"can be replaced by other users of this host, who may write to {planted.parent}" in caplog.text

    @pytest.mark.parametrize("umask", [0o000, 0o002, 0o777])
    def test_folders_made_for_a_key_file_are_private_whatever_the_umask(self, tmp_path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            create_key_file(tmp_path / "a" / "b" / "key")
        finally:
            os.umask(before)
        for path in (tmp_path / "a").rglob("*"):
            assert not path.stat().st_mode & 0o077


def test_a_user_without_a_home_needs_a_key_and_can_then_save(tmp_path: Path) -> None:
    """A uid without an entry in the list of users, and no HOME, as in many containers."""
    program = (
        "import pwd\n"
        "def unknown(uid): raise KeyError(f'getpwuid(): uid not found: {uid}')\n"
        "pwd.getpwuid = unknown\n"
        "from checkpoint_manager import CheckpointManager, KeyUnavailableError\n"
        f"try: CheckpointManager({str(tmp_path / 'store')!r})\n"
        "except KeyUnavailableError as error: print(error)\n"
        f"cm = CheckpointManager({str(tmp_path / 'store')!r}, key=bytes(32))\n"
        "cm.save_checkpoint('a', 1)\n"
        "print(cm.load_checkpoint('a'))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    message, loaded = done.stdout.splitlines()
    assert "no home directory for a key file. Pass key=" in message
    assert loaded == "1"
    assert done.stderr.count("this user has no home directory") == 1


class TestKeyFiles:
    def test_a_new_one_is_private_and_explains_itself(self, tmp_path: Path) -> None:
        made = create_key_file(tmp_path / "deep" / "down" / "key")
        path = tmp_path / "deep" / "down" / "key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.read_text().startswith("# A key of checkpoint_manager.")
        assert read_key_file(path) == made
        assert create_key_file(path) == made
        assert os.listdir(path.parent) == ["key"]

    @pytest.mark.parametrize(
        ("content", "match"),
        [
            ("", "is not a key file"),
            ("# only a comment\n", "is not a key file"),
            ("ssh-ed25519 AAAA", "is not a key file"),
            ("checkpoint-manager-key-1:\n" * 2, "is not a key file"),
            ("checkpoint-manager-key-1:????", "is damaged"),
            ("checkpoint-manager-key-1:" + base64.urlsafe_b64encode(bytes(31)).decode(), "is damaged"),
            ("checkpoint-manager-key-1:abc", "is damaged"),
        ],
    )
    def test_what_is_no_key_file(self, tmp_path: Path, content: str, match: str) -> None:
        (tmp_path / "key").write_text(content)
        with pytest.raises(KeyUnavailableError, match=match) as caught:
            CheckpointManager(tmp_path / "store", key=tmp_path / "key")
        assert "ssh-ed25519" not in str(caught.value)
        assert not (tmp_path / "store" / "keyring.json").exists()

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(KeyUnavailableError, match="can't be read: No such file"):
            CheckpointManager(tmp_path / "store", key=KeyFile(str(tmp_path / "nothing")))

    def test_a_fifo_does_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "key")
        with pytest.raises(KeyUnavailableError, match="not a regular file"):
            read_key_file(tmp_path / "key")

    def test_one_that_others_may_read_is_warned_of(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        create_key_file(tmp_path / "key")
        (tmp_path / "key").chmod(0o644)
        read_key_file(tmp_path / "key")
        assert "chmod 600" in caplog.text

    def test_one_that_cannot_be_made(self, tmp_path: Path, home: Path) -> None:
        (home / ".local").write_text("in the way")
        with pytest.raises(KeyUnavailableError, match="a key file can't be made at"):
            CheckpointManager(tmp_path / "store")

    def test_one_is_made_where_there_are_no_hard_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "link", _refuse_to_link)
        made = create_key_file(tmp_path / "key")
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
        again = create_key_file(tmp_path / "key")  # another process was faster
        assert again.material.raw == made.material.raw == read_key_file(tmp_path / "key").material.raw
        assert [path.name for path in tmp_path.iterdir()] == ["key"]

    def test_without_hard_links_one_that_can_not_be_written_is_not_left(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced = iter([None, OSError(errno.EIO, os.strerror(errno.EIO))])

        def sync(_: int) -> None:
            if (error := next(synced)) is not None:
                raise error

        monkeypatch.setattr(os, "link", _refuse_to_link)
        monkeypatch.setattr(os, "fsync", sync)
        with pytest.raises(KeyUnavailableError, match=r"can't be made at .*: Input/output error"):
            create_key_file(tmp_path / "key")
        assert list(tmp_path.iterdir()) == []

    def test_one_that_can_not_be_looked_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may be there: no other one is made."""
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / ("x" * 300)))
        with pytest.raises(KeyUnavailableError, match=r"can't look for the key file .*: File name too long"):
            CheckpointManager(tmp_path / "store")

    def test_one_that_can_not_be_made_durable_seals_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(files, "sync", fail)
        with pytest.raises(KeyUnavailableError, match="can't be made durable: Input/output error; nothing was sealed under it"):
            create_key_file(tmp_path / "key")

    def test_without_a_home_there_is_no_place_for_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(number: int) -> None:
            raise KeyError(number)

        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", unknown)
        with pytest.raises(KeyUnavailableError, match="this user has no home directory for a key file"):
            CheckpointManager(tmp_path / "store")

    def test_the_users_own_key_file_is_used_again(self, tmp_path: Path, home: Path) -> None:
        CheckpointManager(tmp_path / "first").save_checkpoint("train", 1)
        CheckpointManager(tmp_path / "second").save_checkpoint("train", 2)
        assert len(list(home.rglob("default.key"))) == 1
        assert CheckpointManager(tmp_path / "first").load_checkpoint("train") == 1
        next(iter(home.rglob("default.key"))).unlink()
        create_key_file(home / ".local" / "share" / "checkpoint_manager" / "default.key")
        with pytest.raises(WrongKeyError):
            CheckpointManager(tmp_path / "first")


def test_a_user_without_a_name_can_save(tmp_path: Path) -> None:
    """In many containers the user's number has no name."""
    program = (
        "import pwd\n"
        "def nameless(uid): raise KeyError('getpwuid(): uid not found')\n"
        "pwd.getpwuid = nameless\n"
        "from checkpoint_manager import CheckpointManager\n"
        f"print(CheckpointManager({str(tmp_path / 'store')!r}, key=bytes(32)).save_checkpoint('a').origin.user)\n"
    )
    named = {"LOGNAME", "USER", "LNAME", "USERNAME"}
    environment = {name: value for name, value in os.environ.items() if name not in named}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == str(os.getuid())
