"""Stopped at any moment, by Ctrl-C or by a reader that has read enough, the program is quiet and the store is whole."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

BEGUN = """
import sys
from checkpoint_manager.cli import main
print("begun", file=sys.stderr, flush=True)
sys.exit(main())
"""
OPERATIONS = {
    "save": ["save", "large", "large.json"],
    "verify": ["verify"],
    "rotate": ["key", "rotate"],
    "restore": ["restore", "train@1", "--yes"],
    "status": ["status"],
    "run": ["run", "new", "--", "sleep", "2"],
}


def unmeasured() -> dict[str, str]:
    """Return the environment without coverage: what measures a process may hang if the signal meets it in its own code."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


@pytest.fixture
def large(store: Path) -> Path:
    """A store with something to read, and a large input to save."""
    cm = CheckpointManager(store, durability="relaxed")
    rows = [{"row": number, "text": "x" * 100} for number in range(20_000)]
    for _ in range(5):
        cm.save_checkpoint("rows", rows)
    (store.parent / "large.json").write_text(json.dumps(rows))
    return store


@pytest.mark.parametrize("name", OPERATIONS)
def test_interrupted_at_any_moment_it_leaves_a_whole_store_and_says_how_to_go_on(large: Path, name: str) -> None:
    words = OPERATIONS[name]
    ends = set()
    for _ in range(5):
        command = [sys.executable, "-c", BEGUN, *words]
        with subprocess.Popen(
            command,
            cwd=large.parent,
            env=unmeasured(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as child:
            assert child.stderr is not None
            assert child.stderr.readline() == "begun\n"
            time.sleep(random.uniform(0, 0.6))
            child.send_signal(signal.SIGINT)
            errors = child.stderr.read()
        # The signal itself ends it once its work is done, and the interpreter is on its way out: 130 to a shell, as well.
        ends.add(130 if child.returncode == -signal.SIGINT else child.returncode)
        assert child.returncode in {0, 130, -signal.SIGINT}, errors
        assert "Traceback" not in errors
        if child.returncode == 130:
            assert "interrupted: nothing is left half done" in errors
        report = CheckpointManager(large).verify()
        assert {finding.state for finding in report.problems} <= {"unfinished", "leftover"}, report.problems
        if ends >= {0, 130}:
            break
    assert CheckpointManager(large).load_checkpoint("train") in ({"epoch": 3}, {"epoch": 1})
    CheckpointManager(large).keys.rotate()
    assert not [finding for finding in CheckpointManager(large).verify().problems if "rotation" in finding.detail]


def test_ctrl_c_is_caught_before_anything_is_loaded() -> None:
    """What is loaded before ``main`` runs is time in which Python would answer Ctrl-C with a traceback."""
    program = f"""
import sys
sys.path[:] = {sys.path!r}
before = set(sys.modules)
import checkpoint_manager.cli
loaded = set(sys.modules) - before
print(*sorted(name for name in loaded if name.startswith("checkpoint_manager")))
print(*loaded & {{"typing", "re", "contextlib", "signal", "logging", "click"}})
"""
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "checkpoint_manager checkpoint_manager._loading checkpoint_manager._version checkpoint_manager.cli",
        "",
    ]


def test_an_import_is_not_interrupted() -> None:
    program = """
import os, signal
from checkpoint_manager.cli.interrupts import held_back
try:
    with held_back():
        os.kill(os.getpid(), signal.SIGINT)
        print("on it went")
except KeyboardInterrupt:
    print("and was interrupted")
"""
    done = subprocess.run([sys.executable, "-c", program], env=unmeasured(), capture_output=True, text=True, check=True)
    assert done.stdout == "on it went\nand was interrupted\n"


def test_interrupted_when_all_is_done_it_ends_without_a_word(store: Path) -> None:
    slow_to_end = "import atexit, sys, time\natexit.register(lambda: (print('ends', flush=True), time.sleep(60)))"
    command = [sys.executable, "-c", slow_to_end + BEGUN, "status", "--store", str(store), "--json"]
    with subprocess.Popen(command, env=unmeasured(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while child.stdout.readline() != "ends\n":
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate()
    assert (child.returncode, errors) == (-signal.SIGINT, "begun\n")


def test_interrupted_it_says_how_to_go_on(store: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "save", "two words", "--store", str(store)]
    with subprocess.Popen(command, env=unmeasured(), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        time.sleep(1)  # by now it waits for its input; if not yet, it is interrupted before
        child.send_signal(signal.SIGINT)
        errors = child.stderr.read()
    assert child.returncode == 130
    if "To go on" in errors:
        assert errors.endswith(f"run it again: checkpoint-manager save 'two words' --store {store}\n")


LISTS = [
    ["status"],
    ["list"],
    ["log", "train"],
    ["show", "rows"],
    ["diff", "rows", "1", "2"],
    ["verify"],
    ["key", "list"],
    ["doctor"],
    ["completion", "bash"],
    ["--help"],
    ["run", "--help"],
]


@pytest.fixture
def long(store: Path) -> Path:
    """A store of which every list is longer than a pipe takes at once, or nearly so."""
    cm = CheckpointManager(store, durability="relaxed")
    cm.save_checkpoint("rows", list(range(30_000)))
    cm.save_checkpoint("rows", [])
    for number in range(30):
        cm.save_checkpoint("train", metadata={"note": f"{number}" * 3000})
        cm.save_checkpoint(f"{number}" * 100)
    return store


def test_a_reader_that_has_read_enough_is_no_fault(long: Path) -> None:
    for words in LISTS:
        for reader in ("head -n 1", "true"):
            line = f"{sys.executable} -m checkpoint_manager {' '.join(words)} | {reader}"
            done = subprocess.run(
                ["bash", "-c", f'{line}; echo "${{PIPESTATUS[0]}}"'],
                cwd=long.parent,
                capture_output=True,
                text=True,
                check=False,
            )
            said = [text for text in done.stderr.splitlines() if not text.startswith("version 1 →")]
            assert (done.stdout.splitlines()[-1], said) == ("0", []), line


def test_a_reader_of_stderr_that_has_read_enough_does_not_stop_what_is_under_way(store: Path) -> None:
    line = f"{sys.executable} -m checkpoint_manager restore train@1 --yes 2>&1 >/dev/null | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", line], cwd=store.parent, check=False).returncode == 0
    assert CheckpointManager(store).load_checkpoint("train") == {"epoch": 1}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("words", ["show train", "--help", "status", "log train --json"])
def test_a_full_disk_is_told(store: Path, words: str) -> None:
    line = f"{sys.executable} -m checkpoint_manager {words} > /dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=store.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 20
    assert "No space left on device" in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("words", "code"),
    [("show nothing", 14), ("shwo train", 2), ("show nothing --json", 14), ("diff train", 0), ("show train > /dev/full", 20)],
)
def test_where_nothing_can_be_told_on_stderr_the_exit_code_still_tells(store: Path, words: str, code: int) -> None:
    line = f"{sys.executable} -m checkpoint_manager {words} 2> /dev/full"
    assert subprocess.run(["bash", "-c", line], cwd=store.parent, stdout=subprocess.DEVNULL, check=False).returncode == code


def test_a_working_directory_that_is_gone_is_named(store: Path) -> None:
    gone = store.parent / "gone"
    gone.mkdir()
    for words, told in (("list", "the working directory is gone"), ("init", "can't open the checkpoint directory")):
        line = f"rmdir {gone}; {sys.executable} -m checkpoint_manager {words}; code=$?; mkdir {gone}; exit $code"
        done = subprocess.run(["bash", "-c", line], cwd=gone, capture_output=True, text=True, check=False)
        assert (done.returncode, told in done.stderr) == (20, True), done.stderr


@pytest.mark.children_measured
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault_and_their_numbers_are_given_to_no_file(store: Path, closed: str) -> None:
    before = sorted(store.rglob("*")), [path.read_bytes() for path in sorted(store.rglob("*.checkpoint"))]
    line = f"{sys.executable} -m checkpoint_manager verify {closed}"
    assert subprocess.run(["bash", "-c", line], cwd=store.parent, check=False, capture_output=True).returncode == 0
    assert (sorted(store.rglob("*")), [path.read_bytes() for path in sorted(store.rglob("*.checkpoint"))]) == before
