"""The picture of a terminal in the README: ``status``, ``log`` and ``diff`` on a real store, drawn by rich.

``python -m tests.pictures.terminal`` draws it again. The program runs at a real terminal, with a clock that stands still and a
host and a user of that picture's own: what it shows is the same on every day and at every place.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
import termios
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from checkpoint_manager import CheckpointManager, cli
from checkpoint_manager._format.checkpoint_file import Writer
from checkpoint_manager._operations import save as writing
from checkpoint_manager.cli import output

if TYPE_CHECKING:
    from datetime import tzinfo

PICTURE = Path(__file__).with_suffix(".svg")
COLUMNS = 86
COMMANDS = ("checkpoint-manager status", "checkpoint-manager log train", "checkpoint-manager diff train 2 4")
_NOW = datetime(2026, 11, 20, 14, 30, 12, tzinfo=UTC)
_DARK = TerminalTheme(
    (27, 31, 39),
    (214, 219, 228),
    [
        *((27, 31, 39), (240, 113, 120), (140, 200, 110), (235, 190, 100)),
        *((100, 170, 240), (200, 140, 230), (90, 200, 200), (214, 219, 228)),
    ],
)


class Clock(datetime):
    """A clock that stands still."""

    moment = _NOW

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return cls.moment.astimezone(tz)


def _save(cm: CheckpointManager, ago: timedelta, stage: str, data: Any) -> None:
    Clock.moment = _NOW - ago
    cm.save_checkpoint(stage, data)


def _make_store() -> None:
    """Make the store that the picture shows."""
    cm = CheckpointManager("checkpoints")
    model: dict[str, Any] = {"layers": [64, 10], "rate": 0.01}
    _save(cm, timedelta(days=2, hours=3), "ingest", {"files": [f"part-{number:03}.csv" for number in range(5000)]})
    _save(cm, timedelta(days=2, hours=2), "clean", {"rows": [[number, number / 7] for number in range(60_000)]})
    _save(cm, timedelta(days=2), "train", {"epoch": 10, "loss": 0.412, "model": model})
    _save(cm, timedelta(days=1, hours=5), "train", {"epoch": 20, "loss": 0.951, "model": model | {"rate": 0.5}})
    Clock.moment = _NOW - timedelta(days=1, hours=1)
    cm.restore_checkpoint("train", 1)
    better = {"layers": [64, 128, 10], "rate": 0.01, "dropout": 0.1}
    _save(cm, timedelta(minutes=47), "train", {"epoch": 30, "loss": 0.187, "model": better})
    _save(cm, timedelta(hours=9), "report", {"pages": 12})
    Clock.moment = _NOW - timedelta(minutes=46)
    cm.clear_checkpoint("report")
    Clock.moment = _NOW


def _play() -> None:
    """Make the store and call the program, in a process and at a terminal of their own."""
    output.datetime = writing.datetime = Clock  # type: ignore[attr-defined]
    writing.origin = lambda pid: Writer("ada", "lab", pid, "3.11.7", "1.0.0")
    _make_store()
    for command in COMMANDS:
        print(f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m", flush=True)
        sys.argv = shlex.split(command)
        cli.main()
        print(flush=True)


def played(folder: Path) -> str:
    """Return what a terminal shows of it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (60, COLUMNS))
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {root!r}); from tests.pictures import terminal; terminal._play()",
        ],
        cwd=folder,
        env=kept | {"HOME": str(folder), "TERM": "xterm", "TZ": "UTC"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as child:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the terminal is closed: the program has ended
            pass
    os.close(ours)
    if child.returncode != 0:
        raise RuntimeError(shown.decode())
    text = shown.decode().replace("\r\n", "\n")
    return text[text.index("\x1b[1;32m$") :].rstrip()  # before that, it is told that a key was made


def drawn(text: str) -> str:
    """Return the picture of a terminal that shows a text. It loads no font from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(text))
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = form.replace("font-family: Fira Code, monospace", "font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, monospace")
    return console.export_svg(title="checkpoint-manager", theme=_DARK, code_format=form, unique_id="terminal")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        PICTURE.write_text(drawn(played(Path(folder))))


if __name__ == "__main__":
    main()
