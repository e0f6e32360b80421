"""Programs that keep versions of files: a child process, or several, for each step."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.contenders.base import AbsentError, Contender

if TYPE_CHECKING:
    from pathlib import Path

GIT = "git commit"
RESTIC = "restic backup"


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise AbsentError(f"{name} is not installed (on Debian: apt-get install {name})")
    return found


class Git(Contender):
    name = GIT
    slow = True
    lacks = frozenset({"encrypt", "position", "exclude"})
    _CONFIG = {  # noqa: RUF012
        "user.name": "nobody",
        "user.email": "nobody@example.org",
        "core.fsync": "all",
        "gc.auto": "0",
        "commit.gpgSign": "false",
    }

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder, durable=durable)
        self._git = _program("git")
        if not (folder / ".git").exists():
            self._run("init", "-q")

    @property
    def setting(self) -> str:
        return "core.fsync=all"

    def save(self, stage: str, value: Any) -> str:
        (self.folder / f"{stage}.json").write_bytes(orjson.dumps(value))
        self._run("add", f"{stage}.json")
        self._run("commit", "-q", "-m", stage)
        return self._run("rev-parse", "HEAD").decode().strip()

    def load(self, stage: str, version: str | None = None) -> Any:
        try:
            return orjson.loads(self._run("show", f"{version or 'HEAD'}:{stage}.json"))
        except subprocess.CalledProcessError:
            return None

    def _run(self, *words: str) -> bytes:
        options = [part for name, value in self._CONFIG.items() for part in ("-c", f"{name}={value}")]
        done = subprocess.run([self._git, *options, *words], cwd=self.folder, capture_output=True, check=True)
        return done.stdout


class Restic(Contender):
    name = RESTIC
    slow = True

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder, durable=durable)
        self._restic = _program("restic")
        if not (folder / "config").exists():
            self._run("init")

    @property
    def setting(self) -> str:
        return "its defaults: it syncs what it writes"

    def save(self, stage: str, value: Any) -> str:
        words = ("backup", "--json", "--stdin", "--stdin-filename", f"{stage}.json")
        lines = self._run(*words, given=orjson.dumps(value)).splitlines()
        return str(orjson.loads(lines[-1])["snapshot_id"])

    def load(self, stage: str, version: str | None = None) -> Any:
        place = (version,) if version else ("--path", f"/{stage}.json", "latest")
        try:
            return orjson.loads(self._run("dump", *place, f"/{stage}.json"))
        except subprocess.CalledProcessError:
            return None

    def _run(self, *words: str, given: bytes = b"") -> bytes:
        environment = os.environ | {"RESTIC_PASSWORD": "a passphrase", "RESTIC_REPOSITORY": str(self.folder)}
        command = [self._restic, "--quiet", *words]
        done = subprocess.run(command, input=given, env=environment, capture_output=True, check=True)
        return done.stdout
