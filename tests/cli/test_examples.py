"""Each example of each help text really runs; and once more with ``--json``, where it prints exactly one document."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager.cli.app import commands
from tests.cli.commands import COMMANDS
from tests.cli.conftest import Result
from tests.cli.examples import examples, is_plain, prepare, run, start, with_option
from tests.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Cli = Callable[..., Result]

EXAMPLES = [example for example in examples() if example[0] != ("demo",)]  # tests/demo runs that
AT_A_TERMINAL = [example for example in EXAMPLES if "--watch" in example[1] or example[1].endswith("prompt")]
SERVERS = [example for example in EXAMPLES if example[0] == ("dashboard",)]
ELSEWHERE = [example for example in EXAMPLES if example not in [*AT_A_TERMINAL, *SERVERS]]
NO_DATA = {("demo",), ("completion",)}
"""What they print is no data of a store."""


def line_of(example: tuple[tuple[str, ...], str]) -> str:
    return example[1]


def test_each_command_has_an_example() -> None:
    assert {path for path, _ in examples()} == set(COMMANDS)
    assert all(f"checkpoint-manager {' '.join(path)}" in line for path, line in EXAMPLES)


def run_example(line: str, cli: Cli, folder: Path) -> Result:
    """Run a line: in this process if it calls the program alone, else by a shell."""
    if is_plain(line):
        return cli(*shlex.split(line)[1:])
    done = run(folder, line)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("example", ELSEWHERE, ids=line_of)
def test_it_runs(example: tuple[tuple[str, ...], str], cli: Cli, tmp_path: Path, home: Path) -> None:
    path, line = example
    done = run_example(with_option(path, prepare(tmp_path, home, line), "--yes"), cli, tmp_path)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    if path != ("init",):  # which made one with another key
        assert CheckpointManager(tmp_path / "checkpoints").verify().ok


@pytest.mark.parametrize(
    "example", [each for each in ELSEWHERE if each[0] not in NO_DATA and "--attachment" not in each[1]], ids=line_of
)
def test_for_programs_it_prints_exactly_one_document(
    example: tuple[tuple[str, ...], str], cli: Cli, tmp_path: Path, home: Path
) -> None:
    path, line = example
    line = re.sub(r" >>? \S+$", "", prepare(tmp_path, home, line))
    line = with_option(path, line, "--json")
    assert "--json" in line
    done = run_example(with_option(path, line, "--yes"), cli, tmp_path)
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1 or path == ("log",)  # whose versions are a line each
    document = json.loads(done.out)
    assert (document["schema"], document["command"]) == (1, " ".join(path))


@pytest.mark.parametrize("example", SERVERS, ids=line_of)
def test_a_server_starts_and_ctrl_c_ends_it(example: tuple[tuple[str, ...], str], tmp_path: Path, home: Path) -> None:
    pytest.importorskip("starlette")
    path, line = example
    line = with_option(path, prepare(tmp_path, home, line), "--no-browser")
    (tmp_path / "pipelines").mkdir()
    shutil.copytree(tmp_path / "checkpoints", tmp_path / "pipelines" / "nightly")
    process = start(tmp_path, line)
    with process:
        assert process.stdout is not None
        assert "/login#" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode == 0, err


@pytest.mark.parametrize("path", [path for path in COMMANDS if path not in NO_DATA], ids=" ".join)
def test_for_programs_what_is_wrong_is_a_document_too(cli: Cli, path: tuple[str, ...]) -> None:
    result = cli(*path, "--json", "--no-such-option")
    assert (result.code, result.out) == (2, "")
    document = json.loads(result.err)
    assert document["schema"] == 1
    assert set(document["error"]) == {"kind", "message", "hint", "exit_code"}
    assert "--no-such-option" in document["error"]["message"]


def test_examples_that_need_a_terminal_run_there(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line for _, line in AT_A_TERMINAL] == [
        "checkpoint-manager status --watch",
        "checkpoint-manager key add prompt",
    ]
    prepare(tmp_path, home, "")
    monkeypatch.chdir(tmp_path)
    with Terminal("status", "--watch") as terminal:
        terminal.until("q quits")
        terminal.type("q")
        assert terminal.end() == 0
    with Terminal("key", "add", "prompt") as terminal:
        terminal.answer("New passphrase", "x")
        terminal.answer("Repeat for confirmation", "x")
        assert terminal.end() == 0


def test_the_programs_own_example_runs(tmp_path: Path, home: Path) -> None:
    (line,) = re.findall(r"^ +(checkpoint-manager .*)$", str(commands.help), re.MULTILINE)
    assert run(tmp_path, prepare(tmp_path, home, line)).returncode == 0
