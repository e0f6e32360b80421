"""What holds for every command: help with an example, exit codes, errors, pipes, interruption, a terminal."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import (
    ArgumentError,
    CheckpointError,
    CheckpointManager,
    IntegrityError,
    LockTimeoutError,
    StorageError,
    _version,
)
from checkpoint_manager.cli import app
from checkpoint_manager.cli.exit_codes import Exit, exit_of
from checkpoint_manager.cli.output import show_size, show_time
from tests.cli.commands import COMMANDS
from tests.cli.examples import examples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


AT_EASE = {("demo",), ("completion",), ("init",), ("doctor",)}
"""Those that need no store."""


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_explains_itself_with_an_example(cli: Cli, path: tuple[str, ...]) -> None:
    result = cli(*path, "--help")
    assert result.code == 0
    assert "Example" in result.out
    lines = [line.strip() for line in result.out.splitlines()]
    assert all(line in lines for called, line in examples() if called == path)
    assert "\\b" not in result.out


@pytest.mark.parametrize("path", [path for path in COMMANDS if path not in AT_EASE], ids=" ".join)
def test_each_command_prints_json_and_finds_no_store(cli: Cli, path: tuple[str, ...]) -> None:
    needed = {
        "has": ["x"],
        "save": ["x", os.devnull],
        "clear": ["x"],
        "delete": ["x", "1"],
        "run": ["x", "true"],
        "log": ["x"],
        "diff": ["x"],
        "show": ["x"],
        "restore": ["x@1"],
        "export": ["f"],
        "import": ["f"],
        "remove": ["x"],
        "copy": ["d"],
        "prune": ["--keep-last", "1"],
        "add": ["file:k"],
    }
    result = cli(*path, *needed.get(path[-1], []), "--json")
    assert (result.code, result.out) == (10, "")
    error = json.loads(result.err)["error"]
    assert (error["kind"], error["exit_code"]) == ("NoStoreError", 10)
    assert "no checkpoint store" in error["message"]


def test_a_database_that_is_named_as_a_directory_is_recognised(cli: Cli, store: Path) -> None:
    url = "sqlite:///it's.db"
    assert cli("status", "--store", url).err.endswith(f"init --store {shlex.quote(url)}\n")
    assert cli("init", "--store", url).code == 0
    told = cli("status", "--store", "it's.db")
    assert (told.code, told.err.endswith(f"or an SQLite database as {shlex.quote(url)}\n")) == (10, True)


def test_looking_makes_no_store(cli: Cli, tmp_path: Path) -> None:
    assert cli("status").code == 10
    assert list(tmp_path.iterdir()) == []


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"checkpoint-manager, version {_version.__version__}\n"


def test_a_mistyped_command_gets_the_nearest_name(cli: Cli) -> None:
    result = cli("verfy")
    assert result.code == 2
    assert 'Did you mean "verify"?' in result.err
    assert "Choose one of init, list, status" in cli("xyzzy").err


def test_what_is_wrong_with_the_command_line_leads_to_what_is_right(cli: Cli) -> None:
    result = cli("key", "list", "--stroe", "x")
    assert result.code == 2
    assert result.err.endswith("See: checkpoint-manager key list --help\n")
    assert cli("save").err == "error: Missing argument 'STAGE'. See: checkpoint-manager save --help\n"
    assert cli("save", "x", "nofile").err.startswith(
        "error: Invalid value for 'FILE': 'nofile': No such file or directory. See: "
    )
    for words in ([], ["key"]):
        asked_for_nothing = cli(*words)
        assert (asked_for_nothing.code, asked_for_nothing.out) == (2, "")
        assert asked_for_nothing.err.startswith("Usage: checkpoint-manager")
    lines = [line.strip() for line in cli("--help").out.splitlines()]
    assert "checkpoint-manager status --store checkpoints" in lines


@pytest.mark.parametrize("words", [("show", "train", "1"), ("restore", "train", "1", "--yes"), ("tag", "train", "1", "good")])
def test_a_version_that_stands_apart_from_its_stage_is_explained(cli: Cli, store: Path, words: tuple[str, ...]) -> None:
    result = cli(*words)
    assert result.code == Exit.USAGE
    assert "Write a version as STAGE@VERSION. See: " in result.err
    assert "STAGE@VERSION" not in cli("has", "train", "1").err  # which takes none


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--version", "It belongs to the program: checkpoint-manager --version"),
        ("--jsn", 'Did you mean "--json"? See: checkpoint-manager status --help'),
        ("--session", "See: checkpoint-manager status --help"),
    ],
)
def test_an_unknown_option_gets_the_nearest_one_if_it_is_near(cli: Cli, option: str, hint: str) -> None:
    result = cli("status", option)
    assert (result.code, result.err) == (2, f'error: there is no option "{option}". {hint}\n')


@pytest.mark.parametrize(
    "line",
    [
        "show trian",
        "log trian",
        "verify trian",
        "clear trian --yes",
        "delete trian 1 --yes",
        "delete trian --all --yes",
        "prune trian --keep-last 1",
        "tag trian good",
        "export trian x",
    ],
)
def test_each_command_says_the_same_of_a_stage_that_is_not_there(cli: Cli, store: Path, line: str) -> None:
    result = cli(*line.split())
    assert (result.code, result.out) == (14, "")
    assert result.err == (
        f"error: there is no checkpoint of stage trian in {store} (did you mean train?). "
        "See the names with: checkpoint-manager list\n"
    )


def test_help_is_an_option_and_not_a_command(cli: Cli) -> None:
    result = cli("help")
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith("See: checkpoint-manager --help\n")


def test_errors_have_the_exit_codes_that_are_documented() -> None:
    assert exit_of(LockTimeoutError("")) == 11
    assert exit_of(IntegrityError("")) == 13
    assert exit_of(StorageError("")) == 20
    assert exit_of(ArgumentError("")) == 2
    assert exit_of(CheckpointError("")) == 16


def test_a_script_tells_a_wrong_command_line_from_what_is_in_the_way(cli: Cli, store: Path) -> None:
    assert cli("tag", "train@1", "good").code == Exit.DONE
    assert (cli("tag", "train@1", "7").code, cli("tag", "train@2", "good").code) == (Exit.USAGE, Exit.CONFLICT)
    (store.parent / "one.json").write_text("1")
    expect = ("save", "train", "one.json", "--expect")
    assert (cli(*expect, "x").code, cli(*expect, "1").code) == (Exit.USAGE, Exit.CONFLICT)


def test_a_bug_is_not_taken_for_an_answer(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckpointManager, "status", lambda *_, **__: 1 / 0)
    result = cli("status")
    assert (result.code, result.out) == (70, "")
    assert "ZeroDivisionError" in result.err
    assert "Please report" in result.err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(5, "Input/output error", "x"), 20)])
def test_what_stops_a_command(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(CheckpointManager, "status", stop)
    assert cli("status").code == code


def test_a_locked_stage_says_who_holds_it(cli: Cli, program: Cli, store: Path) -> None:
    cm = CheckpointManager(store)

    def while_locked(_: object) -> int:
        result = program("restore", "train@1", "--yes", "--lock-timeout", "0.1")
        assert result.code == 11
        assert f"process {os.getpid()}" in result.err
        return 1

    cm.update_checkpoint("train", while_locked)


def test_a_reader_that_has_read_enough_is_no_error(store: Path) -> None:
    CheckpointManager(store).save_checkpoint("big", list(range(200_000)))
    command = [sys.executable, "-m", "checkpoint_manager", "show", "big", "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(10)
        child.stdout.close()
        errors = child.stderr.read()
    assert (child.returncode, errors) == (0, b"")


def test_interrupted_it_leaves_a_whole_store(store: Path) -> None:
    cm = CheckpointManager(store)

    def while_locked(_: object) -> int:
        command = [sys.executable, "-m", "checkpoint_manager", "restore", "train@1", "--yes", "--store", str(store)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stderr is not None
            for line in child.stderr:
                if "Nothing is removed" in line:
                    break
            time.sleep(0.2)  # it waits for the lock now, or will: either way it is interrupted before it can have it
            child.send_signal(signal.SIGINT)
            errors = child.stderr.read()
        assert child.returncode == Exit.INTERRUPTED
        assert "interrupted" in errors
        return 1

    cm.update_checkpoint("train", while_locked)
    assert cm.verify().ok


def test_warnings_of_the_library_are_lines_of_the_program(cli: Cli, store: Path) -> None:
    store.chmod(0o777)
    assert cli("status").err.startswith("warning: ")


@pytest.mark.children_measured
def test_where_the_extra_is_missing_it_says_what_to_install(store: Path) -> None:
    program = "import sys; sys.modules['click'] = None; from checkpoint_manager.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'checkpoint-manager[cli]'" in done.stderr


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 1024**3, "5.0 GiB"), (3 * 1024**4, "3.0 TiB")]
)
def test_sizes_to_read(size: int, text: str) -> None:
    assert show_size(size) == text


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["status", "--help"], ["key", "rotate", "--help"]], ids=" ".join)
def test_help_waits_for_nothing_that_it_does_not_need(words: list[str]) -> None:
    program = (
        f"import sys; sys.argv[1:] = {words!r}; from checkpoint_manager.cli import main; code = main();"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"rich", "cryptography", "orjson", "filelock", "platformdirs", "pygments"}
    assert not heavy & set(done.stderr.split())


def test_the_list_of_commands_names_each(cli: Cli) -> None:
    listed = {line.split()[0] for line in cli("--help").out.split("Commands:\n")[1].splitlines() if line[2:3].strip()}
    assert listed == {path[0] for path in COMMANDS}


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e9"])
def test_a_time_to_wait_is_a_number_of_seconds_that_ends(cli: Cli, store: Path, seconds: str) -> None:
    assert cli("status", "--lock-timeout", seconds).code == 2


@pytest.mark.parametrize("year", [1, 9999])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_a_time_at_either_end_of_the_calendar_can_be_shown(year: int, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        shown = show_time(datetime(year, 1 if year == 1 else 12, 1 if year == 1 else 31, 0 if year == 1 else 23, tzinfo=UTC))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert shown.endswith("(in the future)" if year == 9999 else " d ago)")


def test_out_of_memory_is_not_called_a_bug(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(CheckpointManager, "status", stop)
    assert cli("status").code == 20


@pytest.mark.children_measured
@pytest.mark.parametrize("stderr", [os.devnull, "/dev/full"])
def test_a_module_that_is_missing_does_not_look_like_an_answer(store: Path, stderr: str) -> None:
    program = (
        "import sys; sys.modules['checkpoint_manager.cli.app'] = None; from checkpoint_manager import cli; sys.exit(cli.main())"
    )
    with open(stderr, "w") as errors:
        assert subprocess.run([sys.executable, "-c", program], stderr=errors, check=False).returncode == 70


@pytest.mark.parametrize("limit", range(5, 12))
def test_too_few_open_files_are_not_called_a_bug(store: Path, limit: int) -> None:
    program = f"""
        import resource, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
        from checkpoint_manager.cli import main
        sys.exit(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(program), "status", "--store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "ulimit -n" in done.stderr) in {(0, False), (20, True)}, done.stderr


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted: nothing is left half done\n"),
        (OSError(errno.EMFILE, "Too many open files"), 20, "or raise the limit (ulimit -n)\n"),
        (OSError(errno.EIO, "Input/output error"), 20, "error: the program can't be loaded: Input/output error\n"),
        (ZeroDivisionError(), 70, "error: this is a bug of checkpoint-manager. Please report it with the lines above\n"),
    ],
)
def test_what_stops_it_outside_of_a_command(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, told: str
) -> None:
    def stop(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(app, "run", stop)
    result = cli("status")
    assert (result.code, result.out) == (code, "")
    assert result.err.endswith(told)


def test_a_store_that_this_user_may_not_look_at_is_refused_by_the_system_and_not_missing(
    cli: Cli, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop").symlink_to("loop")  # what root may not look at either
    for command in ("status", "init", "doctor"):
        result = cli(command, "--store", "loop/checkpoints")
        assert result.code == (1 if command == "doctor" else 20)
        assert "can't be looked at" in result.err + result.out
    assert cli("status", "--store", "").code == 2


@pytest.mark.parametrize(
    "line",
    [
        "init",
        "init --store sqlite:///x.db",
        "status --store sqlite:///x.db",
        "status",
        "has train",
        "copy other --store {store}",
        "export all.bundle --store {store} {words}",
        "save clean {store}/../one.json --attach a=a.txt --store {store}",
    ],
)
def test_a_working_directory_that_is_gone_is_named(
    cli: Cli, store: Path, line: str, words: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (tmp_path / "one.json").write_text("1")
    result = cli(*line.format(store=store, words=" ".join(words)).split())
    assert (result.code, "the working directory is gone. Change to another one" in result.err) == (20, True), result


def test_a_store_is_named_by_its_url_too_and_no_password_of_it_is_shown(cli: Cli) -> None:
    assert cli("status", "--store", "memory:").code == 10
    result = cli("status", "--store", "nosuch://alice:hunter2@host/db")
    assert result.code == 2
    assert "nosuch" in result.err
    assert "hunter2" not in result.err
    assert "hunter2" not in cli("doctor", "--store", "nosuch://alice:hunter2@host/db").out
