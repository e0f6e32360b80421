"""Who takes part here. Each contender is tried once before anything is measured; who is absent is named with the reason."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.contenders import databases, files, floors, lean, ours, programs, stores
from benchmarks.contenders.base import AbsentError
from benchmarks.payload import MARKER, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.contenders.base import Contender

ALL: tuple[type[Contender], ...] = (
    ours.Ours,
    ours.Relaxed,
    ours.InSqlite,
    floors.Bare,
    floors.Unsynced,
    floors.LinkFirst,
    floors.Append,
    floors.Memory,
    floors.JsonBare,
    floors.Sealed,
    lean.Lean,
    databases.LangGraph,
    databases.Sqlite,
    databases.SqlCipher,
    stores.DiskCacheFull,
    stores.DiskCache,
    stores.Zodb,
    stores.KeyValue,
    files.Pickle,
    files.PickleUnsynced,
    files.Joblib,
    programs.Git,
    programs.Restic,
)


@dataclass(slots=True)
class Field:
    """The contenders that passed, with how they are configured, and why the others are absent."""

    present: dict[str, type[Contender]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[type[Contender]]:
        return iter(self.present.values())


def gather(
    folder: Path,
    reasons: Mapping[str, str],
    left_out: Callable[[type[Contender]], str] = lambda _: "",
    kinds: Sequence[type[Contender]] = ALL,
) -> Field:
    """Try each contender in a folder of its own.

    Args:
        folder: Empty.
        reasons: Why something could not be installed, by module.
        left_out: Why one is not to take part; empty: it is.
        kinds: Who is to take part.
    """
    found = Field()
    for kind in kinds:
        if reason := left_out(kind):
            found.absent[kind.name] = reason
            continue
        place = folder / "".join(letter if letter.isalnum() else "-" for letter in kind.name)
        place.mkdir()
        try:
            found.settings[kind.name] = check(kind, place)
            found.present[kind.name] = kind
        except ImportError as error:
            module = (error.name or "").partition(".")[0]
            found.absent[kind.name] = reasons.get(module, f"not installed: {module}")
        except AbsentError as error:
            found.absent[kind.name] = str(error)
        shutil.rmtree(place)
    return found


def check(kind: type[Contender], folder: Path) -> str:
    """Make sure that what a contender saves comes back equal from a fresh handle, and return its setting.

    Raises:
        AssertionError: It does not do what is going to be measured, or does what it says it lacks.
    """
    first, second, other = (rows(40_000, seed=seed) for seed in range(3))
    writer = kind(folder)
    version = writer.save("first stage", writer.prepare(first))
    writer.save("first stage", writer.prepare(second))
    if "versions" in kind.lacks and kind.kind == "floor":  # in memory only
        return writer.setting
    setting = writer.setting
    writer.close()
    reader = kind(folder)
    _require(reader.load("first stage") == second, kind, "does not return what was saved last")
    if "versions" not in kind.lacks:
        _require(reader.load("first stage", version) == first, kind, "does not return an earlier version")
    if kind.name != floors.APPEND:  # one log, without stages
        _require(reader.has("first stage") and not reader.has("second stage"), kind, "does not know which stages are done")
        reader.save("second stage", reader.prepare(other))
        _require(reader.load("first stage") == second, kind, "mixes up its stages")
    reader.close()
    readable = any(MARKER.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    if "encrypt" not in kind.lacks:
        _require(not readable, kind, "leaves data in the clear")
    return setting


def _require(holds: bool, kind: type[Contender], what: str) -> None:  # noqa: FBT001  # it reads as one
    if not holds:
        raise AssertionError(f"{kind.name} {what}: its figures would mean nothing")
