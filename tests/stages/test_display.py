"""How far a loop is: lines in the log, few of them, or a bar at a real terminal."""

from __future__ import annotations

import logging
import os
import pty
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager.stages.display import SECONDS_BETWEEN_LINES, LogLines, items

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.children_measured

PROGRAM = """
import logging, sys, time
from checkpoint_manager import CheckpointManager
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
cm = CheckpointManager(sys.argv[1], key=bytes(32))
with cm.loop(sys.argv[2], list(range(30)), initial=0, bar="nobar" not in sys.argv) as progress:
    for item in progress:
        progress.state += item
        time.sleep(0.01)
    with cm.loop("other", [1], initial=0, bar="nobar" not in sys.argv) as other:  # no second bar
        for item in other:
            pass
if "rich" in sys.argv:
    assert any(name.startswith("rich") for name in sys.modules)
else:
    assert not any(name.startswith("rich") for name in sys.modules)
print(progress.result)
"""


def at_a_terminal(*words: str, before: str = "", **environment: str) -> str:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", before + PROGRAM, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"} | environment,
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the program has ended
            break
    os.close(ours)
    assert child.wait() == 0, shown
    return shown.decode()


class TestLines:
    def test_there_are_few_of_them(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="checkpoint_manager")
        now = [0.0]
        lines = LogLines("embed", 400, 1000, clock=lambda: now[0])
        for done in range(401, 1001):
            now[0] += 0.05
            lines.update(done)
        lines.close()
        assert caplog.messages == [
            "embed: 600 of 1,000 items done (20.0 a second, 60 %, about 20.0 s left)",
            "embed: 800 of 1,000 items done (20.0 a second, 80 %, about 10.0 s left)",
            "embed: 1,000 of 1,000 items done (20.0 a second, 100 %, about 0 ms left)",
        ]

    def test_slow_items_of_an_unknown_number(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="checkpoint_manager")
        now = [0.0]
        lines = LogLines("em\nbed", 0, None, clock=lambda: now[0])
        now[0] = SECONDS_BETWEEN_LINES * 9
        lines.update(1)
        assert caplog.messages == [r"'em\nbed': 1 items done (one in 1.5 min)"]

    def test_numbers_are_readable(self) -> None:
        assert (items(1_234_567, 2_000_000), items(5, None)) == ("1,234,567 of 2,000,000 items", "5 items")

    def test_where_there_is_no_terminal_there_is_no_bar_and_no_rich(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), "embed"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "435\n"
        assert [line.split(" ran in ")[0] for line in done.stderr.splitlines()] == ["other:", "embed:"]


class TestBar:
    def test_a_terminal_shows_a_bar_that_goes_away(self, tmp_path: Path) -> None:
        shown = at_a_terminal(str(tmp_path / "store"), "embed [bold]", "rich")
        assert "embed [bold]" in shown
        assert "━" in shown
        assert "/30" in shown
        assert shown.rstrip().endswith("435")
        assert "\x1b[2K" in shown  # the line is taken back
        assert "other" not in shown.split("other: ran in")[0]

    @pytest.mark.parametrize("words", [("nobar",), ()])
    def test_not_if_it_is_not_wanted(self, tmp_path: Path, words: tuple[str, ...]) -> None:
        shown = at_a_terminal(str(tmp_path / "store"), "embed", *words, TERM="xterm" if words else "dumb")
        assert "\x1b" not in shown
        assert "embed: ran in" in shown

    def test_without_rich_there_are_lines(self, tmp_path: Path) -> None:
        hidden = "import sys\nsys.modules['rich.console'] = None\n"
        shown = at_a_terminal(str(tmp_path / "store"), "embed", "rich", before=hidden)
        assert "\x1b" not in shown
        assert "embed: ran in" in shown

    def test_a_terminal_that_goes_away_stops_no_loop(self, tmp_path: Path) -> None:
        ours, theirs = pty.openpty()
        before = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        command = [sys.executable, "-c", before + PROGRAM, str(tmp_path / "store"), "embed", "rich"]
        child = subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True, env=os.environ | {"TERM": "xterm"}
        )
        os.close(theirs)
        shown = b""
        while "━" not in shown.decode(errors="ignore"):
            shown += os.read(ours, 4096)
        os.close(ours)
        assert child.communicate(timeout=60)[0] == "435\n"
        assert child.returncode in {0, 120}  # with 120, Python says that it could not write to stderr at its end
