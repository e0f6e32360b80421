"""What is paid before the first checkpoint: importing, opening a store with a key file, and the command line."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import databases, files, lean_has, programs, stores
from benchmarks.contenders.lean import LEAN
from benchmarks.contenders.ours import OURS
from benchmarks.summary import Result, row
from benchmarks.timing import Entrant, interleave
from benchmarks.workloads.context import Context, folder_of
from checkpoint_manager import CheckpointManager, KeyFile
from checkpoint_manager._filesystem.user_directories import state_directory
from checkpoint_manager._store.key_sources import create_key_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.contenders.base import Contender

DEPENDENCIES = "its dependencies alone"
ADDED = "checkpoint_manager, added to them"
NAME_ONLY = "checkpoint_manager, its name alone"
_OURS = "from checkpoint_manager import CheckpointManager"
"""What a pipeline says: the package's name alone loads hardly anything."""
EMPTY = "python -c pass"
NEEDED = 'python -c "import cryptography, orjson"'
HAS = f"{OURS} has STAGE"
_IMPORTS = {
    databases.LANGGRAPH: "langgraph.checkpoint.sqlite, langgraph.checkpoint.serde.encrypted, Crypto.Cipher.AES",
    databases.SQLCIPHER: "sqlcipher3",
    stores.DISKCACHE: "diskcache, cryptography.fernet",
    stores.ZODB: "ZODB",
    stores.KEY_VALUE: "key_value.aio.stores.filetree, key_value.aio.wrappers.encryption",
    files.JOBLIB: "joblib",
}
_TIMED = """\
import time
a = time.perf_counter()
{first}
b = time.perf_counter()
{then}
c = time.perf_counter()
print(b - a, c - b)
"""
_LOADED = """\
import sys
from checkpoint_manager import CheckpointManager
dependencies = {"cryptography", "filelock", "orjson", "ormsgpack", "platformdirs"}
print(*(name for name in sys.modules if name.partition(".")[0] in dependencies), sep=", ")
"""


def run(context: Context) -> list[Result]:
    with context.place() as place, _bytecode_kept(place / "bytecode"):
        key = KeyFile(str(place / "key"))
        create_key_file(Path(key.path))
        CheckpointManager(place / "store", key=key).save_checkpoint("train", {})
        return [_opening(context, place, key), _importing(context), _command_line(context, place, key)]


@contextlib.contextmanager
def _bytecode_kept(folder: Path) -> Iterator[None]:
    """Let child processes keep compiled modules, as in daily use, wherever the sources are and whatever is set here."""
    before = dict(os.environ)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _opening(context: Context, place: Path, key: KeyFile) -> Result:
    context.tell("start: open a store")
    entrants = [Entrant(OURS, lambda _: CheckpointManager(place / "store", key=key))]
    for kind in context.choose(where=lambda kind: kind.kind == "peer"):
        folder = folder_of(kind, place)
        writer = kind(folder)
        writer.save("train", {})
        writer.close()
        entrants.append(Entrant(kind.name, _opener(kind, folder)))
    samples = interleave(entrants, context.scale.small)
    title = "open a store (ours: with a key file), and close it"
    return Result("start/open", title, "s", tuple(row(*figures) for figures in samples.items()))


def _opener(kind: type[Contender], folder: Path) -> Callable[[Any], None]:
    return lambda _: kind(folder).close()


def _importing(context: Context) -> Result:
    """Import in fresh processes; the clock is inside them, so that their own start does not count."""
    context.tell("start: import")
    dependencies = _output(sys.executable, "-c", _LOADED)
    samples: dict[str, list[float]] = {OURS: [], DEPENDENCIES: [], ADDED: [], NAME_ONLY: []}
    wanted = {name: module for name, module in _IMPORTS.items() if name in context.field.present}
    samples |= {name: [] for name in wanted}

    def ours(_: object) -> None:
        samples[OURS].append(_import(_OURS)[0])
        samples[NAME_ONLY].append(_import("import checkpoint_manager")[0])

    def added(_: object) -> None:
        before, after = _import(f"import {dependencies}", _OURS)
        samples[DEPENDENCIES].append(before)
        samples[ADDED].append(after)

    def peer(name: str) -> Callable[[object], None]:
        return lambda _: samples[name].append(_import(f"import {wanted[name]}")[0])

    turns = [Entrant(OURS, ours), Entrant(ADDED, added), *(Entrant(name, peer(name)) for name in wanted)]
    interleave(turns, context.scale.starts)
    rows = tuple(row(name, times[1:] or times) for name, times in samples.items())  # the first of each warms up
    return Result("start/import", "import, in a fresh process", "s", rows)


def _import(first: str, then: str = "pass") -> list[float]:
    return [float(word) for word in _output(sys.executable, "-c", _TIMED.format(first=first, then=then)).split()]


def _command_line(context: Context, place: Path, key: KeyFile) -> Result:
    context.tell("start: the command line")
    installed = Path(sys.executable).with_name("checkpoint-manager")
    ours = [str(installed)] if installed.exists() else [sys.executable, "-m", "checkpoint_manager"]
    commands = {
        f"{OURS} --version": [*ours, "--version"],
        HAS: [*ours, "has", "train", "--store", str(place / "store"), "--key", f"file:{key.path}"],
        LEAN: [sys.executable, lean_has.__file__, str(place / "store"), key.path, str(state_directory()), "train"],
        EMPTY: [sys.executable, "-c", "pass"],
        NEEDED: [sys.executable, "-c", "import cryptography, orjson"],
    }
    for name in ("git", "restic"):
        if {"git": programs.GIT, "restic": programs.RESTIC}[name] in context.field.present:
            commands[f"{name} version"] = [str(shutil.which(name)), "version"]
    entrants = [Entrant(name, _whole(words)) for name, words in commands.items()]
    samples = interleave(entrants, context.scale.starts)
    return Result("start/command", "the command line, whole process", "s", tuple(row(*figures) for figures in samples.items()))


def _whole(words: list[str]) -> Callable[[Any], str]:
    return lambda _: _output(*words)


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()
