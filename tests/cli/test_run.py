"""``run``: a command that is done is not run again, and its exit code is passed on."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, Passphrase
from checkpoint_manager._format import payload
from checkpoint_manager._operations import save
from checkpoint_manager._operations.save import Draft

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Program = Callable[..., Result]

pytestmark = pytest.mark.children_measured

COUNT = ("sh", "-c", "echo run >> runs; echo out")
LONG = "echo > log; sleep 1; seq 90000"


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


def test_it_runs_once(program: Program, store: Path, tmp_path: Path) -> None:
    first, second = program("run", "new", "--", *COUNT), program("run", "new", "--", *COUNT)
    assert (first.code, first.out, second.code, second.out) == (0, "out\n", 0, "")
    assert re.search(r"new: ran in [\d.]+ m?s, saved version 1 \(first run\)", first.err)
    assert "new: reused version 1; the command did not run, and printed nothing: see --capture\n" in second.err
    assert runs(tmp_path) == 1
    assert CheckpointManager(store).load_checkpoint("new") == {"command": list(COUNT), "exit_code": 0}


@pytest.mark.parametrize(("stage", "command"), [("new", ["", "x"]), ("", ["true"])])
def test_an_empty_command_or_stage_is_refused(program: Program, store: Path, stage: str, command: list[str]) -> None:
    refused = program("run", stage, "--", *command)
    assert (refused.code, refused.out) == (2, "")
    assert "empty" in refused.err
    assert CheckpointManager(store).stages() == ["clean", "train"]


@pytest.mark.parametrize(
    ("words", "example"),
    [
        (["--", "echo", "hi"], "checkpoint-manager run echo -- echo hi"),
        (["--", "make"], "checkpoint-manager run make -- make"),
        (["--capture", "--", "./a b", "--", "c d"], "checkpoint-manager run STAGE -- './a b' -- 'c d'"),
    ],
)
def test_a_stage_that_is_left_out_is_asked_for_with_an_example(
    program: Program, store: Path, words: list[str], example: str
) -> None:
    refused = program("run", *words)
    assert (refused.code, refused.out) == (2, "")
    assert f"the stage is left out. It comes before the command: {example}\n" in refused.err
    assert CheckpointManager(store).stages() == ["clean", "train"]


def test_a_command_that_is_left_out_is_named(program: Program, store: Path) -> None:
    assert "Missing argument '-- COMMAND...'" in program("run", "new", "--").err
    assert "Missing argument 'STAGE'" in program("run", "--").err


def test_a_stage_that_begins_with_a_dash_follows_the_dashes(program: Program, store: Path) -> None:
    assert program("run", "--", "-x", "true").code == 0
    assert CheckpointManager(store).stages() == ["-x", "clean", "train"]


def test_a_version_of_another_stage_is_not_the_name_of_a_new_one(program: Program, store: Path) -> None:
    refused = program("run", "train@1", "--", "true")
    assert refused.code == 2
    assert "train@1 names version 1 of stage train, and run makes a version of its own. Name the stage alone" in refused.err
    assert program("run", "mail@home", "--", "true").code == 0


def test_another_command_and_again_run_it_again(program: Program, store: Path, tmp_path: Path) -> None:
    program("run", "new", "--", *COUNT)
    assert "arguments changed: command" in program("run", "new", "--", *COUNT, "x").err
    assert "the stage is cleared" in program("run", "new", "--again", "--", *COUNT).err
    assert runs(tmp_path) == 3


def test_what_is_captured_is_written_again(program: Program, store: Path, tmp_path: Path) -> None:
    results = [program("run", "new", "--capture", "--", *COUNT) for _ in range(2)]
    assert [(result.code, result.out) for result in results] == [(0, "out\n")] * 2
    assert runs(tmp_path) == 1
    assert CheckpointManager(store).load_checkpoint("new")["stdout"] == "out\n"


def test_bytes_that_are_no_text_are_captured(store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--capture", "--", "printf", r"\377\000"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert done.stdout == b"\xff\x00"


def test_a_failure_passes_its_exit_code_on_and_runs_again(program: Program, store: Path) -> None:
    for _ in range(2):
        result = program("run", "new", "--", "sh", "-c", "exit 7")
        assert result.code == 7
        assert re.search(r"new: failed with exit code 7 after [\d.]+ m?s, saved version \d", result.err)
    cm = CheckpointManager(store)
    assert [version.status for version in cm.history("new")] == ["failed", "failed"]
    assert cm.get_checkpoint("new", 2).data == {"command": ["sh", "-c", "exit 7"], "exit_code": 7, "stderr": ""}
    assert program("has", "new").code == 1


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/", 126), ("sh -c kill\t-9\t$$", 137)])
def test_commands_that_can_not_run(program: Program, store: Path, command: str, code: int) -> None:
    words = [word.replace("\t", " ") for word in command.split(" ")]
    assert program("run", "new", "--", *words).code == code


def test_for_programs(program: Program, store: Path) -> None:
    document = json.loads(program("run", "new", "--json", "--", "true").out)
    assert {name: document[name] for name in ("what", "version", "exit_code")} == {"what": "ran", "version": 1, "exit_code": 0}
    assert json.loads(program("run", "new", "--json", "--", "true").out)["what"] == "reused"
    noisy = program("run", "noisy", "--json", "--", "echo", "out")
    assert (json.loads(noisy.out)["what"], noisy.err) == ("ran", "out\n")
    for what in ("ran", "reused"):
        captured = json.loads(program("run", "kept", "--json", "--capture", "--", "echo", "out").out)
        assert (captured["what"], captured["stdout"]) == (what, "out\n")


def test_another_process_that_runs_it_is_waited_for_or_not(program: Program, store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--", "sh", "-c", "echo begun; sleep 60"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=dict(os.environ), start_new_session=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        refused = program("run", "new", "--no-wait", "--", "sh", "-c", "echo begun; sleep 60")
        assert refused.code == 11
        assert str(first.pid) in refused.err
        os.killpg(first.pid, signal.SIGKILL)
    time.sleep(0.05)
    assert program("run", "new", "--", *COUNT).code == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGQUIT], ids=lambda number: number.name)
def test_a_run_that_is_ended_lets_no_second_command_begin_while_its_own_lives(
    program: Program, store: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """The command is deaf to signals, so that it outlives the program that has started it."""
    deaf = ("sh", "-c", "trap '' HUP QUIT; echo begun >> log; sleep 1; echo ended >> log; kill -9 $$")
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--", *deaf]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    first.send_signal(number)
    program("run", "new", "--", *deaf)
    first.wait()
    assert (tmp_path / "log").read_text().split() == ["begun", "ended"] * 2


def test_a_command_that_closes_what_it_inherits_is_guarded_as_well(program: Program, store: Path, tmp_path: Path) -> None:
    script = "import os, time; os.closerange(3, 256); print('begun', file=open('log', 'a'), flush=True); time.sleep(1);"
    script += "print('ended', file=open('log', 'a'), flush=True); os.abort()"
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--", sys.executable, "-c", script]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
        time.sleep(0.01)
    first.kill()
    program("run", "new", "--", sys.executable, "-c", script)
    first.wait()
    assert (tmp_path / "log").read_text().split() == ["begun", "ended"] * 2


def test_a_command_whose_output_nobody_reads_any_more_ends(program: Program, store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--capture", "--", "sh", "-c", LONG]
    first = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    first.kill()
    assert program("run", "new", "--capture", "--lock-timeout", "30", "--", "sh", "-c", LONG).code == 0
    first.wait()


def test_a_command_in_the_background_does_not_keep_the_next_one_waiting(program: Program, store: Path, tmp_path: Path) -> None:
    script = "sleep 60 > /dev/null 2>&1 & echo $! > pid"
    assert program("run", "new", "--", "sh", "-c", script).code == 0
    try:
        assert program("run", "new", "--again", "--no-wait", "--", "sh", "-c", "true").code == 0
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_the_command_gets_none_of_the_variables_that_name_the_key(
    program: Program, store: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    path = str(next(home.rglob("default.key")))
    monkeypatch.setenv("CHECKPOINT_MANAGER_KEY_FILE", path)
    monkeypatch.setenv("CHECKPOINT_MANAGER_PASSPRHASE", "mistyped")
    monkeypatch.setenv("CHECKPOINT_MANAGER_RUN", "nightly")
    monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", str(store))
    told = program("run", "new", "--", "env").out
    assert sorted(line for line in told.splitlines() if line.startswith("CHECKPOINT_MANAGER")) == [
        "CHECKPOINT_MANAGER_RUN=nightly",
        f"CHECKPOINT_MANAGER_STORE={store}",
    ]
    assert f"CHECKPOINT_MANAGER_KEY_FILE={path}" in program("run", "new", "--with-key", "--again", "--", "env").out.splitlines()


def test_the_command_gets_no_descriptor_of_a_passphrase(store: Path, tmp_path: Path) -> None:
    CheckpointManager(store).keys.add(Passphrase("correct horse"))
    words = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--key", "fd:7", "--", "sh", "-c", "cat <&7"]
    line = f"{shlex.join(words)} 7<<< $'correct horse\\nthe next line'"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the next line" not in done.stdout


def test_a_word_that_is_not_text_is_told_apart_by_its_bytes(store: Path, tmp_path: Path) -> None:
    """A file name in Latin-1: what can't be kept would be refused after the work."""
    for word, count in ((b"caf\xe9", 1), (b"caf\xe9", 1), (b"caf\xe8", 2), ("café".encode(), 3)):
        words = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--", *COUNT, word]
        assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode == 0
        assert runs(tmp_path) == count


@pytest.mark.parametrize("result", [5, {"stdout": 5}, {"stdout_base64": "?"}, {}], ids=str)
def test_a_result_that_another_program_has_saved_is_not_taken_for_what_the_command_wrote(
    program: Program, store: Path, result: object
) -> None:
    assert program("run", "new", "--capture", "--", *COUNT).code == 0
    cm = CheckpointManager(store)
    newest = cm.get_version("new")
    save.save(cm._store, "new", Draft(payload.encode(result, stage="new")[0], dict(newest.metadata), "completed"), None)
    refused = program("run", "new", "--capture", "--", *COUNT)
    assert (refused.code, refused.out) == (16, "")
    assert "was not saved by this program" in refused.err


CLEANS_UP = "trap 'sleep 0.3; echo cleaned up; exit 0' INT TERM; echo begun; while :; do sleep 0.05; done"


@pytest.mark.parametrize("capture", [[], ["--capture"]], ids=["", "captured"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_goes_to_the_command_and_what_it_cleans_up_is_waited_for(
    store: Path, tmp_path: Path, number: signal.Signals, code: int, capture: list[str]
) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", *capture, "--", "sh", "-c", CLEANS_UP]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        child.send_signal(number)
        try:
            out, errors = child.communicate(timeout=30)
        finally:
            if child.returncode is None:  # else this would wait for ever
                os.killpg(child.pid, signal.SIGKILL)
    assert (child.returncode, out) == (code, "cleaned up\n"), errors
    assert "Traceback" not in errors
    cm = CheckpointManager(store)
    if number == signal.SIGINT:  # whatever it says of itself, it was not left to come to its end
        assert "interrupted" in errors
        assert "checkpoint-manager run new" in errors
        assert cm.history("new") == []
    assert cm.verify().ok


def test_a_reader_that_has_read_enough_does_not_spoil_what_is_captured(store: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m checkpoint_manager run rows --capture -- seq 200000 | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert CheckpointManager(store).load_checkpoint("rows")["stdout"].endswith("\n200000\n")


def test_an_option_of_the_command_is_none_of_ours(program: Program, tmp_path: Path) -> None:
    result = program("run", "new", "--", "true", "--json")
    assert result.code == 10
    assert result.err.startswith("error: there is no checkpoint store")


def test_another_process_is_waited_for_no_longer_than_is_said_and_it_is_told_for_which(
    program: Program, store: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--", *COUNT]
    words = shlex.join([*command[:-1], "echo begun; sleep 60"])
    with subprocess.Popen(words, shell=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        result = program("run", "new", "--lock-timeout", "1", "--", "sh", "-c", "echo begun; sleep 60")
        os.killpg(first.pid, signal.SIGKILL)
    assert result.code == 11
    assert "info: new: waits for " in result.err


def test_a_changed_input_runs_it_again(program: Program, store: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1\n")
    command = ("run", "new", "--input", "rows.csv", "--", *COUNT)
    assert "saved version 1" in program(*command).err
    assert "reused version 1" in program(*command).err
    (tmp_path / "rows.csv").write_text("2\n")
    assert "saved version 2 (arguments changed: input rows.csv)" in program(*command).err
    (tmp_path / "rows.csv").write_text("1\n")
    assert "reused version 1" in program(*command).err
    assert runs(tmp_path) == 2


@pytest.mark.parametrize("name", ["missing", ".", "fifo"])
def test_an_input_that_is_no_file_is_refused(program: Program, store: Path, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    result = program("run", "new", "--input", name, "--", *COUNT)
    assert result.code == 2
    assert f"the input {name} is not a file that can be read" in result.err
    assert not (tmp_path / "runs").exists()


def test_an_output_that_is_not_what_it_was_runs_it_again(program: Program, store: Path, tmp_path: Path) -> None:
    command = ("run", "new", "--output", "out", "--", "sh", "-c", "echo out > out")
    program(*command)
    assert "reused version 1" in program(*command).err
    (tmp_path / "out").write_text("edited\n")
    assert "saved version 2 (output out changed)" in program(*command).err
    (tmp_path / "out").unlink()
    assert "saved version 3 (output out is missing)" in program(*command).err
    assert (tmp_path / "out").read_text() == "out\n"


def test_an_output_that_was_not_written_is_a_failure(program: Program, store: Path) -> None:
    result = program("run", "new", "--output", "out", "--", "true")
    assert result.code == 1
    assert "did not write the output out" in result.err
    assert program("has", "new").code == 1


def test_variables_the_folder_and_stdin_are_compared(store: Path, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()

    def run(stdin: str = "a", folder: Path = tmp_path, mode: str = "x") -> str:
        command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--store", str(store)]
        command += ["--env", "MODE", "--capture", "--", "cat"]
        environment = {**os.environ, "MODE": mode}
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, cwd=folder, env=environment)
        assert done.stdout == stdin
        return done.stderr

    assert "saved version 1" in run()
    assert "reused version 1" in run()
    assert "saved version 2 (arguments changed: stdin)" in run(stdin="b")
    assert "saved version 3 (arguments changed: stdin, variable MODE)" in run(mode="y")
    assert "saved version 4 (arguments changed: the working folder, variable MODE)" in run(folder=tmp_path / "below")
    assert "reused version 1" in run()


def test_stdin_alone_is_compared(program: Program, store: Path) -> None:
    command = ("run", "new", "--input", "-", "--", "cat")
    first = program(*command, stdin="a")
    assert (first.out, "saved version 1" in first.err) == ("a", True)
    assert "reused version 1" in program(*command, stdin="a").err
    assert "saved version 2 (arguments changed: stdin)" in program(*command, stdin="b").err


def test_stdin_that_is_a_file_is_read_from_where_it_stands(store: Path, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("first\nsecond\n")
    command = f"(read line; {sys.executable} -m checkpoint_manager run new --env MODE --capture -- cat) < rows"
    for _ in range(2):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout == "second\n"
    assert "reused version 1" in done.stderr


def test_it_is_said_once_that_only_the_command_line_is_compared(program: Program, store: Path) -> None:
    assert "only the command line is compared" in program("run", "new", "--", "true").err
    assert "only the command line" not in program("run", "new", "--", "true").err
    assert "only the command line" not in program("run", "other", "--input", sys.executable, "--", "true").err


def test_a_failure_keeps_the_exit_code_and_the_last_lines_of_stderr(store: Path, tmp_path: Path) -> None:
    script = r"seq 9000 >&2; printf 'no \033[31mrows\n' >&2; exit 7"
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 7
    assert b"\n8999\n9000\nno \033[31mrows\n" in done.stderr  # all of it is passed on as it is
    cm = CheckpointManager(store)
    failed = cm.get_checkpoint("new", 1).data
    assert failed["exit_code"] == 7
    assert failed["stderr"].splitlines() == [*map(str, range(8982, 9001)), "no [31mrows"]
    assert "traceback" not in failed
    listed = subprocess.run([*command[:3], "log", "new"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "exit code 7: no [31mrows" in listed.stdout


def test_what_a_command_leaves_behind_may_write_to_stderr(store: Path, tmp_path: Path) -> None:
    script = "(sleep 0.5; echo late >&2 && echo written > done) & echo early >&2"
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--", "sh", "-c", script]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "early\n" in err
    assert "late\n" in err
    assert (tmp_path / "done").exists()


def test_a_command_goes_on_writing_to_stderr_when_this_program_is_killed(store: Path, tmp_path: Path) -> None:
    script = "echo early > early; sleep 0.5; echo late >&2 && echo written > done"
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--", "sh", "-c", script]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        while not (tmp_path / "early").exists():
            time.sleep(0.01)
        process.kill()
        _, err = process.communicate(timeout=30)
    assert "late\n" in err
    assert (tmp_path / "done").exists()


INTERRUPTED_FORKS = """
import os, signal, sys
from checkpoint_manager.cli import main
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGINT))
sys.exit(main())
"""


def test_an_interruption_in_the_first_moment_of_what_passes_stderr_on_does_not_end_it(store: Path, tmp_path: Path) -> None:
    words = ["run", "new", "--", "sh", "-c", "sleep 0.1; echo oops >&2 && echo written > done"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_FORKS, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0
    assert "oops\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "done").exists()


FAIL_TWICE = 'echo run >> runs; cat >> given; echo out; [ "$(wc -l < runs)" -gt 2 ] || { echo oops >&2; exit 3; }'


def test_a_command_that_fails_is_tried_again(store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--retries", "3", "--backoff", "0.01", "--capture"]
    done = subprocess.run(
        [*command, "--", "sh", "-c", FAIL_TWICE], input="rows\n", capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "out\n"  # and nothing of the attempts that failed
    assert (tmp_path / "given").read_text() == "rows\n" * 3
    assert re.search(r"new: ran in [\d.]+ m?s, saved version 3 \(attempt 3 of 4\)", done.stderr)
    assert "new: failed with exit code 3; attempt 2 of 4 begins in 10 ms\n" in done.stderr
    assert "new: failed with exit code 3; attempt 3 of 4 begins in 20 ms\n" in done.stderr
    cm = CheckpointManager(store)
    assert [version.status for version in cm.history("new")] == ["completed", "failed", "failed"]
    assert cm.get_checkpoint("new", 2).data["stderr"] == "oops"
    assert (
        "attempt 2 of 4"
        in subprocess.run([*command[:3], "log", "new"], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    )


def test_stdin_from_a_file_is_given_to_each_attempt(store: Path, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("skipped\nrows\n")
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--retries", "2", "--backoff", "0"]
    with (tmp_path / "rows").open("rb", buffering=0) as file:
        file.seek(8)
        subprocess.run([*command, "--", "sh", "-c", FAIL_TWICE], stdin=file, check=True, cwd=tmp_path)
    assert (tmp_path / "given").read_text() == "rows\n" * 3


def test_the_last_attempt_s_exit_code_is_passed_on(program: Program, store: Path) -> None:
    assert program("run", "new", "--retries", "1", "--backoff", "0", "--", "sh", "-c", "exit 7").code == 7
    assert [version.status for version in CheckpointManager(store).history("new")] == ["failed", "failed"]


@pytest.mark.parametrize("command", ["./absent", "/dev/null"])
def test_a_command_that_can_not_be_started_is_not_tried_again(program: Program, store: Path, command: str) -> None:
    assert program("run", "new", "--retries", "5", "--backoff", "60", "--", command).code in {126, 127}
    assert len(CheckpointManager(store).history("new")) == 1


def test_a_command_that_a_signal_ended_is_not_tried_again(store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--retries", "5", "--backoff", "0"]
    shell = "[ -e log ] && exit 3; echo > log; exec sleep 60"
    with subprocess.Popen([*command, "--", "sh", "-c", shell], cwd=tmp_path) as process:
        while not (tmp_path / "log").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert len(CheckpointManager(store).history("new")) == 1


@pytest.mark.parametrize("capture", [[], ["--capture"]])
def test_a_command_that_takes_too_long_is_stopped_with_what_it_started(store: Path, tmp_path: Path, capture: list[str]) -> None:
    shell = "sleep 300 & echo $! > pid; echo started; wait"
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--timeout", "1", "--retries", "1", "--backoff", "0"]
    done = subprocess.run(
        [*command, *capture, "--", "sh", "-c", shell], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 124
    assert "new: failed with exit code 124 after " in done.stderr
    assert "error: the command took longer than 1.0 s, and was stopped\n" in done.stderr
    assert not process_is_running(int((tmp_path / "pid").read_text()))
    cm = CheckpointManager(store)
    assert [version.status for version in cm.history("new")] == ["failed", "failed"]
    assert cm.get_version("new").metadata["@failure"]["message"] == "it took longer than 1.0 s, and was stopped"


def test_a_command_that_ignores_sigterm_is_killed(store: Path, tmp_path: Path) -> None:
    script = """
import sys
import checkpoint_manager.cli.commands.run_process as run_process
from checkpoint_manager.cli import main
run_process._GRACE = 0.2
sys.exit(main())
"""
    shell = "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done"
    command = [sys.executable, "-c", script, "run", "new", "--timeout", "0.5", "--", "sh", "-c", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 124
    assert not process_is_running(int((tmp_path / "pid").read_text()))


def process_is_running(number: int) -> bool:
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
