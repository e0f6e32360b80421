"""At a real terminal: questions are asked there, a bar and colours are shown, and it is left as it was."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, Passphrase
from tests.cli.terminal import Terminal
from tests.faults.strace import Strace, calls, require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

pytestmark = pytest.mark.children_measured

CTRL_C, CTRL_D = "\x03", "\x04"
GREEN, RED, YELLOW = "\x1b[32m", "\x1b[31m", "\x1b[33m"


@pytest.mark.parametrize(("answer", "code", "versions"), [("y", 0, 4), ("n", 15, 3), ("", 15, 3)])
def test_restore_shows_what_changes_and_asks(store: Path, answer: str, code: int, versions: int) -> None:
    with Terminal("restore", "train@1", "--store", str(store)) as terminal:
        terminal.until(f"{YELLOW}~ $.epoch: 3 → 1")
        terminal.answer("Restore it? [y/N]", answer)
        assert terminal.end() == code, terminal.shown
    assert len(CheckpointManager(store).history("train")) == versions


def test_a_question_can_be_interrupted(store: Path) -> None:
    with Terminal("restore", "train@1", "--store", str(store)) as terminal:
        terminal.until("Restore it? [y/N]: ")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
        assert "\nerror: interrupted: nothing is left half done" in terminal.shown
    assert len(CheckpointManager(store).history("train")) == 3


def test_the_end_of_the_input_is_no_answer(store: Path) -> None:
    with Terminal("restore", "train@1", "--store", str(store)) as terminal:
        terminal.until("Restore it? [y/N]: ")
        terminal.type(CTRL_D)
        assert terminal.end() == 130
        assert "\nerror: interrupted: nothing is left half done" in terminal.shown
    assert len(CheckpointManager(store).history("train")) == 3


def test_a_question_hears_ctrl_c_that_comes_as_soon_as_it_is_shown(store: Path, tmp_path: Path) -> None:
    require("strace")
    with (
        Terminal("restore", "train@1", "--store", str(store)) as terminal,
        Strace(terminal.pid, tmp_path / "log", "-e", "trace=write", "-e", "inject=write:delay_exit=500000"),
    ):
        terminal.until("Restore it? [y/N]: ")
        terminal.type(CTRL_C)  # before the call that showed the question is back, let alone one that reads the answer
        assert terminal.end() == 130
    assert len(CheckpointManager(store).history("train")) == 3


def test_a_question_is_asked_again_if_the_answer_is_unclear(store: Path) -> None:
    with Terminal("restore", "train@1", "--store", str(store)) as terminal:
        for unclear in ("perhaps", "\udcff"):  # the second is no UTF-8
            terminal.answer("Restore it? [y/N]", unclear)
            terminal.until('Please answer "y" or "n"')
        terminal.answer("Restore it? [y/N]", "YES")
        assert terminal.end() == 0, terminal.shown
    assert len(CheckpointManager(store).history("train")) == 4


def test_a_passphrase_is_typed_unseen(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", str(store))
    with Terminal("key", "add", "prompt", "--store", str(store)) as terminal:
        terminal.answer("New passphrase", "correct horse")
        terminal.answer("Repeat for confirmation", "correct horse")
        assert terminal.end() == 0, terminal.shown
        assert "correct horse" not in terminal.shown
    assert CheckpointManager(store, key=Passphrase("correct horse")).has_checkpoint("train")
    with Terminal("show", "train", "--key", "prompt", "--store", str(store)) as terminal:
        terminal.answer("Passphrase of the store", "correct horse")
        assert terminal.end() == 0, terminal.shown
        assert '"epoch": 3' in terminal.shown
        assert "correct horse" not in terminal.shown
    (tmp_path / "data").write_text("5")
    with (tmp_path / "data").open("rb") as data, Terminal("save", "data", "--key", "prompt", stdin=data) as terminal:
        terminal.answer("Passphrase of the store", "correct horse")
        assert terminal.end() == 0, terminal.shown
    with Terminal("key", "rotate", "--also", "prompt", "--store", str(store)) as terminal:
        terminal.answer("Further passphrase", "correct horse")
        assert terminal.end() == 0, terminal.shown


def test_for_a_new_store_a_passphrase_is_typed_twice(tmp_path: Path) -> None:
    words = ["init", "--key", "prompt", "--store", str(tmp_path / "new")]
    with Terminal(*words) as terminal:
        terminal.answer("Passphrase for the new store", "correct horse")
        terminal.answer("Repeat for confirmation", "correct hores")
        terminal.until("do not match")
        terminal.answer("Passphrase for the new store", "correct horse")
        terminal.answer("Repeat for confirmation", "correct horse")
        assert terminal.end() == 0, terminal.shown
    CheckpointManager(tmp_path / "new", key=Passphrase("correct horse"))
    with Terminal(*words) as terminal:
        terminal.answer("Passphrase of the store", "correct horse")
        assert terminal.end() == 0, terminal.shown


def test_a_passphrase_is_not_read_where_it_could_be_seen(store: Path) -> None:
    with Terminal("show", "train", "--key", "fd:0", "--store", str(store)) as terminal:
        assert terminal.end() == 12
        assert "descriptor 0 is a terminal" in terminal.shown


def test_what_takes_longer_than_a_second_shows_how_far_it_is(store: Path) -> None:
    cm = CheckpointManager(store)
    held, let_go = threading.Event(), threading.Event()

    def hold(_: object) -> dict[str, int]:
        held.set()
        let_go.wait(60)
        return {"epoch": 4}

    holder = threading.Thread(target=cm.update_checkpoint, args=("train", hold))
    holder.start()
    held.wait()
    with Terminal("key", "rotate", "--store", str(store)) as terminal:
        terminal.until("encrypting again")
        let_go.set()
        assert terminal.end() == 0, terminal.shown
    holder.join()


def test_what_is_quick_shows_no_bar(store: Path) -> None:
    with Terminal("verify", "--store", str(store)) as terminal:
        assert terminal.end() == 0
        assert terminal.shown == "4 whole\r\n"


@pytest.mark.parametrize("words", [["status"], ["log", "train"]], ids=" ".join)
def test_colours_are_for_terminals_whose_user_wants_them(store: Path, words: list[str], cli: Cli) -> None:
    words = [*words, "--store", str(store)]
    with Terminal(*words) as terminal:
        assert terminal.end() == 0
        assert f"{GREEN}completed" in terminal.shown
    for wish in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with Terminal(*words, **wish) as terminal:
            assert terminal.end() == 0
            assert GREEN not in terminal.shown
    assert "\x1b" not in cli(*words).out


def test_no_color_is_heard_by_diff_and_restore_too(store: Path) -> None:
    for words in (["diff", "train"], ["restore", "train@1", "--dry-run"]):
        with Terminal(*words, "--store", str(store)) as terminal:
            terminal.end()
            assert f"{YELLOW}~ $.epoch" in terminal.shown
        with Terminal(*words, "--store", str(store), NO_COLOR="1") as terminal:
            terminal.end()
            assert "~ $.epoch" in terminal.shown
            assert "\x1b[" not in terminal.shown


class TestWatch:
    @pytest.mark.parametrize(("key", "code"), [("q", 0), (CTRL_C, 130)])
    def test_it_follows_until_a_key_is_pressed_and_leaves_the_terminal_as_it_was(
        self, store: Path, key: str, code: int
    ) -> None:
        cm = CheckpointManager(store)
        with Terminal("status", "--watch", "--interval", "0.1", "--store", str(store)) as terminal:
            terminal.until("\x1b[?1049h")
            terminal.until("q quits")
            for _ in range(2):
                terminal.until(f"train  {GREEN}completed\x1b[0m 3")
            cm.clear_checkpoint("train")
            terminal.until("cleared \x1b[0m 4")
            (store / "clean.checkpoint").write_bytes(b"")  # a new file: the mark is no longer what it was
            damaged = store / "history" / "clean" / "000000000001.checkpoint"
            damaged.write_bytes(damaged.read_bytes()[:-1])
            terminal.until(f"{RED}damaged")
            terminal.type("x")  # does nothing
            terminal.until("q quits")
            terminal.type(key)
            assert terminal.end() == code
            assert terminal.shown.endswith("\x1b[?25h\x1b[?1049l")
            assert terminal.settings == terminal.before
            assert "Traceback" not in terminal.shown

    def test_it_shows_no_more_than_fits(self, store: Path) -> None:
        cm = CheckpointManager(store, durability="relaxed")
        for number in range(30):
            cm.save_checkpoint(f"stage {number}")
        with Terminal("status", "--watch", "--store", str(store)) as terminal:
            terminal.until("… and 12 more stages")
            terminal.type("q")
            assert terminal.end() == 0

    def test_it_counts_stages_and_breaks_no_word_on_a_narrow_screen(self, store: Path) -> None:
        cm = CheckpointManager(store, durability="relaxed")
        for number in range(30):
            cm.save_checkpoint(f"stage {number}")
        with Terminal("status", "--watch", "--store", str(store), columns=50) as terminal:
            terminal.until("more stages")
            terminal.type("q")
            assert terminal.end() == 0
        screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.shown)
        shown = len(re.findall(r"^(?:clean|train|stage)", screen, re.MULTILINE))
        (left,) = re.findall(r"… and (\d+) more stages", screen)
        assert shown + int(left) == 32
        assert "completed" in screen
        assert max(map(len, screen.splitlines()[2:])) <= 50

    def test_a_store_that_cant_be_read_hides_no_other(self, store: Path) -> None:
        cm = CheckpointManager(store)
        words = ("--store", "nowhere", "--store", str(store), "--interval", "0.1")
        with Terminal("status", "--watch", *words, columns=200) as terminal:
            terminal.until("2 stores")
            terminal.until("error: there is no checkpoint store at")
            terminal.until("completed")
            for number in range(30):
                cm.save_checkpoint(f"stage {number}")
            terminal.until("more lines")
            terminal.type("q")
            assert terminal.end() == 0

    def test_it_follows_a_loop_of_another_process(self, store: Path) -> None:
        script = (
            "import sys, time; from checkpoint_manager import CheckpointManager\n"
            f"with CheckpointManager({str(store)!r}).loop('embed', range(2000), initial=0, every_items=1, bar=False) as loop:\n"
            "    for item in loop: time.sleep(0.02)\n"
        )
        with (
            subprocess.Popen([sys.executable, "-c", script]) as other,
            Terminal("status", "--watch", "--interval", "0.1", "--store", str(store), columns=120) as terminal,
        ):
            try:
                for done in ("3 of 2,000 items", "of 2,000 items", "of 2,000 items"):
                    terminal.until(done)
            finally:
                other.kill()
            terminal.until("progress")
            terminal.type("q")
            assert terminal.end() == 0
        assert len(set(re.findall(r"(\d+) of 2,000 items", terminal.shown))) > 1

    def test_stopped_it_leaves_the_terminal_as_it_was(self, store: Path) -> None:
        with Terminal("status", "--watch", "--store", str(store)) as terminal:
            terminal.until("completed")
            terminal.send(signal.SIGTERM)
            assert terminal.end() == 143
            assert terminal.settings == terminal.before

    def test_it_needs_a_terminal_and_is_for_people(self, program: Cli, store: Path) -> None:
        result = program("status", "--watch")
        assert (result.code, result.out) == (2, "")
        assert "needs a terminal" in result.err
        with Terminal("status", "--watch", "--json", "--store", str(store)) as terminal:
            assert terminal.end() == 2


def test_ctrl_c_reaches_a_command_that_runs_and_is_not_sent_once_more(store: Path, tmp_path: Path) -> None:
    require("strace")
    script = "trap 'echo caught > caught; exit 0' INT; echo begun; while :; do sleep 0.1; done"
    words = ["run", "new", "--store", str(store), "--", "sh", "-c", f"cd '{tmp_path}'; {script}"]
    with Terminal(*words) as terminal:
        terminal.until("begun")
        with Strace(terminal.pid, tmp_path / "log", "-e", "trace=kill"):
            terminal.type(CTRL_C)
            assert terminal.end() == 130
        assert "interrupted: nothing is left half done" in terminal.shown
    assert (tmp_path / "caught").read_text() == "caught\n"
    assert "SIGINT" in (tmp_path / "log").read_text()
    assert calls(tmp_path / "log") == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("status", 0),
        ("log train", 0),
        ("show nothing", 14),
        ("show train@99", 14),
        ("verify", 0),
        ("doctor", 0),
        ("key list", 0),
        ("key remove nope", 14),
        ("prune train --keep-last 1 --dry-run", 0),
        ("restore train@1 --dry-run", 0),
        ("delete train --all --dry-run", 0),
        ("init", 0),
        ("unknown", 2),
        ("--help", 0),
    ],
)
def test_fifty_columns_break_no_word(store: Path, command: str, code: int) -> None:
    CheckpointManager(store).save_checkpoint("train", {"note": "x"}, metadata={"remark": "a long remark of many words " * 5})
    with Terminal(*command.split(), columns=50, NO_COLOR="1", CHECKPOINT_MANAGER_STORE=str(store)) as terminal:
        assert terminal.end() == code, terminal.shown
    for line in terminal.shown.splitlines():
        assert len(line) <= 50 or " " not in line.strip()[:50], line
    assert command != "log train" or "VERSION  4\r\n" in terminal.shown, "not a table of which one column is long and narrow"


def test_watching_follows_a_loop_of_another_process(store: Path) -> None:
    program = """
import sys
from checkpoint_manager import CheckpointManager
with CheckpointManager(sys.argv[1]).loop("sum", range(3), initial=[], every_items=1) as loop:
    for item in loop:
        loop.state.append(item)
        sys.stdin.readline()
"""
    with (
        subprocess.Popen([sys.executable, "-c", program, str(store)], stdin=subprocess.PIPE, text=True) as running,
        Terminal("status", "--watch", "--interval", "0.1", "--store", str(store)) as terminal,
    ):
        assert running.stdin is not None
        for shown in ("1 of 3", "2 of 3", "completed"):
            running.stdin.write("\n")
            running.stdin.flush()
            terminal.until("sum")
            terminal.until(shown)
        terminal.type("q")
        assert terminal.end() == 0
