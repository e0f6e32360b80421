"""The examples of the demonstration: each is killed, goes on, and what it tells has happened."""

from __future__ import annotations

import runpy
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager
from checkpoint_manager.cli.commands.demo import examples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

pytestmark = pytest.mark.children_measured


def show(name: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Run an example, and return what it printed."""
    examples.show(name, folder, None)
    return capfd.readouterr().out


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def test_etl(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = show("etl", tmp_path / "etl", capfd)
    for line in ("the power fails", "goes on after batch", "none lost, none doubled", "2 reused, 1 ran, 0 failed"):
        assert told.count(line) == 1, told
    assert told.count("functions from") == 1  # the second process did not extract again
    cm = CheckpointManager(tmp_path / "etl" / "checkpoints")
    assert rows(tmp_path / "etl" / "functions.db", "SELECT count(*), count(DISTINCT id) FROM function") == [
        (cm.load_checkpoint("load"),) * 2
    ]


@pytest.mark.parametrize("with_pandas", [True, False])
def test_the_steps_of_etl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, with_pandas: bool) -> None:
    """They are called here, because the example kills the process that runs the first two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", "memory:")
    if not with_pandas:
        monkeypatch.setitem(sys.modules, "pandas", None)
    (tmp_path / "a.py").write_text("def short():\n    pass\n\ndef long():\n    pass\n" + "    pass\n" * 4)
    etl = runpy.run_module(f"{examples.__package__}.etl")
    assert etl["load"](etl["transform"](etl["extract"](str(tmp_path))), "functions.db") == 2
    assert rows(tmp_path / "functions.db", "SELECT * FROM function") == [
        (0, "a", "short", 2, 0.25),
        (1, "a", "long", 6, 0.75),
    ]


def test_streaming(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = show("streaming", tmp_path / "streaming", capfd)
    for line in ("200 messages came twice", "; exactly once", "a zombie   is refused"):
        assert told.count(line) == 1, told
    cm = CheckpointManager(tmp_path / "streaming" / "checkpoints")
    count = [(cm.load_checkpoint("offset")["next"], cm.load_checkpoint("offset")["next"] - 1)]
    assert rows(tmp_path / "streaming" / "sink.db", "SELECT count(*), max(offset) FROM paragraph") == count


def test_deployment(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = show("deployment", tmp_path / "deployment", capfd)
    after = told.partition("rolled back\n")[2].split("\n")
    assert after[:3] == [f"  {step:<9}  taken back" for step in ("migrate", "check", "build")]
    assert told.count("migrate    the host is switched off in the middle") == 1
    assert "why        sqlite3.OperationalError" in told
    assert (tmp_path / "deployment" / "live.zip").exists()
    cm = CheckpointManager(tmp_path / "deployment" / "checkpoints")
    assert [version.status for version in cm.history("build")] == ["completed", "cleared", "completed"]
    assert [version.status for version in cm.history("migrate")] == ["completed", "cleared", "failed"]
    columns = rows(tmp_path / "deployment" / "customers.db", "PRAGMA table_info(customer)")
    assert [column[1] for column in columns] == ["name", "mail", "since"]


@pytest.mark.parametrize("name", ["MENDED", "TAKE_BACK"])
def test_a_step_of_the_deployment_can_be_repeated(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", "memory:")
    program = runpy.run_path(str(examples.source("deployment")))[name]
    with closing(sqlite3.connect(tmp_path / "customers.db")) as connection, connection:
        connection.execute("CREATE TABLE customer AS SELECT 'Ada' AS name")
    for _ in range(2):
        subprocess.run([sys.executable, "-I", "-c", program], check=True, cwd=tmp_path)


def test_one_that_needs_a_package_names_it(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(examples, "find_spec", lambda _: None)
    result = cli("demo", "distributed")
    assert result.code == 2
    assert "the example distributed needs dask[distributed]. Run pip install 'dask[distributed]'" in result.err
    assert list(tmp_path.glob("demo*")) == []


def test_a_package_that_shares_its_name_with_another_is_missed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """langgraph-checkpoint, which the extra installs, has the package langgraph, and not its graphs."""
    monkeypatch.setattr(examples, "find_spec", lambda module: None if module == "langgraph.graph" else sys)
    assert "the example agent needs langgraph. Run pip install langgraph" in cli("demo", "agent").err


def test_its_program_can_be_read(cli: Cli) -> None:
    for name in examples.EXAMPLES:
        program = cli("demo", name, "--source").out
        assert program.startswith('"""')
        assert len(program.splitlines()) < 150
    assert cli("demo", "--source").code == 2
    assert "etl, streaming" in cli("demo", "nosuch", "--source").err


def test_what_is_no_demonstration_is_refused(cli: Cli) -> None:
    result = cli("demo", "elt")
    assert result.code == 2
    assert "elt is neither a demonstration nor a folder. Name a folder with" in result.err
    assert "one of: tour, etl, " in result.err


def test_another_run_has_a_folder_of_its_own(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(examples, "show", lambda name, folder, store: seen.append(f"{name} {folder.name} {store}"))
    (tmp_path / "demo-etl").mkdir()
    cli("demo", "etl")
    cli("demo", "etl", "--store", "sqlite:///x.db")
    assert seen == ["etl demo-etl-2 None", "etl demo-etl-2 sqlite:///x.db"]


@pytest.mark.parametrize(
    ("crashing", "going_on", "why"), [("0", "0", "before it was killed"), ("os.kill(os.getpid(), 9)", "3", "failed")]
)
def test_one_that_goes_wrong_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crashing: str, going_on: str, why: str
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "etl.py").write_text(f"import os, sys; sys.exit({crashing} if sys.argv[1:] else {going_on})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(examples, "__package__", "package")
    with pytest.raises(CheckpointError, match=why):
        examples.show("etl", tmp_path / "folder", None)
    assert sys.path
