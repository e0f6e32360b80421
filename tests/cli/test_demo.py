"""The demonstration, as a user runs it: everything it tells has happened."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager.cli.commands.demo import pipeline, story
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.errors import CheckpointError
from tests.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

pytestmark = pytest.mark.children_measured

SOURCE = """
import os
from json import loads

def simple():
    return 1

async def branching(a, b):
    for x in a:
        if x and b:
            try:
                await x
            except ValueError:
                return [y for y in b]
    match a:
        case 1:
            return 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    (folder / "package" / "tests").mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("import os\n")
    (folder / "package" / "tests" / "test_it.py").write_text("import os\n")
    (folder / "os.py").write_text(SOURCE)
    (folder / "broken.py").write_text("def broken(:\n")
    (folder / "notes.txt").write_text("not Python")
    return folder


def test_the_demonstration(folder: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    command = [sys.executable, "-m", "checkpoint_manager", "demo", str(folder)]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for told in (
        "killed: process",
        "find     skipped",
        "parse    skipped",
        "measure  resumed  at ",
        "measure  ran",
        "restored from 1",
        "refused: ",
    ):
        assert told in done.stdout
    cm = CheckpointManager(here / "demo-checkpoints")
    assert [(version.number, version.restored_from) for version in cm.history("report")] == [(3, 1), (2, None), (1, None)]
    assert [len(cm.history(stage)) for stage in ("find", "parse", "measure")] == [1, 1, 1]
    assert len({cm.history("parse")[0].origin.pid, cm.history("measure")[0].origin.pid}) == 2
    assert cm.verify().problems == ()
    assert cm.load_checkpoint("report")["files"] == 3


def test_the_commands_that_it_ends_with_work(folder: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "checkpoint_manager", "demo", str(folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commands = re.findall(r"^  checkpoint-manager (.+)$", told, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        yes = ["--yes"] if command.startswith("restore") else []
        words = [sys.executable, "-m", "checkpoint_manager", *command.split(), *yes]
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)


def test_a_store_of_an_earlier_demonstration_is_left_alone(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo-checkpoints").mkdir()
    places: list[str] = []
    monkeypatch.setattr(story, "tell", lambda _, store: places.append(store))
    told = cli("demo").out
    assert places == [str(tmp_path / "demo-checkpoints-2")]
    assert "  etl " in told
    assert "tour" not in cli("demo", "tour").out  # no list for those who know the name


def test_a_folder_without_python_files_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no Python files"):
        story.tell(tmp_path / "empty", str(tmp_path / "store"))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_no_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "demo", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is neither a demonstration nor a folder" in done.stderr


def test_the_stages_measure_what_they_say(folder: Path) -> None:
    files = pipeline.find(folder)
    assert files == ["broken.py", "os.py", "package/__init__.py"]
    broken, module, package = pipeline.parse(folder, files)
    assert (broken["problem"], module["problem"]) == ("SyntaxError", None)
    assert module["imports"] == ["json", "os"]
    measured = pipeline.measure(CheckpointManager("memory:", key=bytes(32)), [broken, module, package], linger=False)
    assert [row["most_complex"] for row in measured] == [0, 7, 0]
    assert [row["imported_by"] for row in measured] == [0, 2, 0]
    report = pipeline.report(measured, complex_above=5)
    assert (report["files"], report["functions"], report["complex_files"]) == (3, 2, 1)
    assert report["most_complex"][0] == {"file": "os.py", "complexity": 7}


def test_a_finished_pipeline_does_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", str(tmp_path / "store"))
    pipeline.run(folder)
    capsys.readouterr()
    pipeline.run(folder)
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        [stage, "skipped"] for stage in ("find", "parse", "measure", "report")
    ]


@pytest.mark.parametrize("broken", ["half", "again"])
def test_a_pipeline_that_fails_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """A child that fails at once, or after it was killed, ends the demonstration with an error."""
    real = story._process

    def process(corpus: Path, store: str, *options: str) -> subprocess.Popen[str]:
        if broken == "half" or not options:
            return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], stdout=subprocess.PIPE, text=True)
        return real(corpus, store, *options)

    monkeypatch.setattr(story, "_process", process)
    with pytest.raises(CheckpointError, match="exit code 3"):
        story.tell(folder, str(tmp_path / "store"))


def test_a_reader_that_has_read_enough_stops_it_without_a_word(tmp_path: Path) -> None:
    line = f"{sys.executable} -m checkpoint_manager demo | head -n 3; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (0, 3)
    assert [text for text in done.stderr.splitlines() if "A new key was made" not in text] == []


def test_interrupted_it_says_no_more_than_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Terminal("demo") as terminal:
        terminal.until("find ran")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert "Traceback" not in terminal.shown
        assert "interrupted: nothing is left half done" in terminal.shown


def test_the_store_is_made_where_it_is_told(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "demo", str(folder), "--store", str(tmp_path / "there")]
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    assert CheckpointManager(tmp_path / "there").verify().ok
    assert not (folder / "demo-checkpoints").exists()
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert again.returncode == 16
    assert "is there already" in again.stderr


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])  # in a bucket, it waits 30 s for the lease of the killed process
def test_it_is_shown_in_a_database(folder: Path, tmp_path: Path, cli: Cli, request: pytest.FixtureRequest, kind: str) -> None:
    url = f"sqlite:///{tmp_path}/demo.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    told = cli("demo", str(folder), "--store", url)
    assert told.code == 0, told
    with CheckpointManager(url) as cm:
        assert [(version.number, version.restored_from) for version in cm.history("report")] == [(3, 1), (2, None), (1, None)]
        assert cm.verify().ok
    again = cli("demo", str(folder), "--store", url)
    assert (again.code, "already" in again.err) == (16, True)


def test_a_place_that_ends_with_its_process_is_refused(folder: Path, cli: Cli) -> None:
    refused = cli("demo", str(folder), "--store", "memory:")
    assert (refused.code, "several" in refused.err) == (2, True)
