"""The program, run in this process or as a child, on a small store."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, KeyFile
from checkpoint_manager.cli import interrupts, main
from checkpoint_manager.cli.hints import name_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        document = json.loads(self.out)
        assert document["schema"] == 1
        return document

    @property
    def error(self) -> Any:
        """What went wrong, as told to a program in the last line of stderr."""
        return json.loads(self.err.splitlines()[-1])["error"]


@pytest.fixture
def store(tmp_path: Path, home: Path) -> Path:
    """A store with two stages, the one of three versions, under the user's own key file."""
    cm = CheckpointManager(tmp_path / "checkpoints")
    for epoch in (1, 2, 3):
        cm.save_checkpoint("train", {"epoch": epoch}, metadata={"run": "a7"})
    cm.save_checkpoint("clean", None)
    return tmp_path / "checkpoints"


@pytest.fixture
def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], library_log: None, no_sudden_end: None
) -> Callable[..., Result]:
    """Run the program in this process, in ``tmp_path``, without a terminal."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["checkpoint-manager", *arguments])
        code = main()
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def no_sudden_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the program return where it would end its process, which is that of the tests."""
    monkeypatch.setattr(interrupts, "end_now", lambda _: None)


@pytest.fixture
def library_log() -> Iterator[None]:
    """Put back what the program sets up for its process: the library's logger, and the store that hints name."""
    logger = logging.getLogger("checkpoint_manager")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before
    name_store(None)


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Result]:
    """Run the program as a child process in ``tmp_path``."""

    def run(*arguments: str, stdin: str = "") -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "checkpoint_manager", *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # without the terminal that the tests run at
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, str]:
    """The options that name the bundle's passphrase."""
    path = tmp_path / "words.txt"
    path.write_text("seven words\n")
    path.chmod(0o600)
    return "--bundle-key", f"passphrase-file:{path}"


@pytest.fixture
def there(tmp_path: Path) -> tuple[str, str, str, str]:
    """The options that name another store, under another key."""
    CheckpointManager(tmp_path / "there", key=_key_file(tmp_path / "there.key"))
    return "--store", str(tmp_path / "there"), "--key", f"file:{tmp_path / 'there.key'}"


def _key_file(path: Path) -> KeyFile:
    from checkpoint_manager._store.key_sources import create_key_file

    create_key_file(path)
    return KeyFile(str(path))
