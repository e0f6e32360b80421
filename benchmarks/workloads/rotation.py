"""Exchanging the key of a store: every version is sealed anew."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

from benchmarks import payload
from benchmarks.contenders.base import KEY
from benchmarks.contenders.databases import SQLCIPHER, SqlCipher
from benchmarks.contenders.floors import Sealed
from benchmarks.contenders.ours import OURS, Ours
from benchmarks.scale import KIB, MB
from benchmarks.summary import Result, Row, row
from benchmarks.timing import Entrant, interleave
from benchmarks.workloads.context import Context, folder_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.contenders.base import Contender

BARE = "floor: read, re-seal, fsync, rename"


def run(context: Context) -> list[Result]:
    results = []
    for name, size, count in (("1 KiB", KIB, context.scale.rotated), ("1 MB", MB, max(2, context.scale.rotated // 50))):
        context.tell(f"rotation: {count} versions of {name}")
        with context.place() as place:
            samples = interleave(_entrants(context, place, size, count), context.scale.rotations)
        rows = tuple(_row(who, [count / seconds for seconds in times], size) for who, times in samples.items())
        absent = {} if SQLCIPHER in context.field.present else {SQLCIPHER: context.field.absent[SQLCIPHER]}
        results.append(Result(f"rotation/{name}", f"rotate the key: versions of {name}, of {count:,}", "/s", rows, absent))
    return results


def _row(name: str, rates: list[float], size: int) -> Row:
    figures = row(name, rates)
    return replace(figures, note=f"{figures.median * size / MB:,.1f} MB/s")


def _entrants(context: Context, place: Path, size: int, count: int) -> list[Entrant]:
    ours = Ours(_filled(Ours, place, size, count))
    sealed = _filled(Sealed, place, size, count)
    rotations: dict[str, Callable[[], None]] = {
        OURS: ours.manager.keys.rotate,
        BARE: functools.partial(_reseal_all, sealed / "train"),
    }
    if SQLCIPHER in context.field.present:
        rotations[SQLCIPHER] = SqlCipher(_filled(SqlCipher, place, size, count)).rekey
    return [Entrant(name, _turn(rotate)) for name, rotate in rotations.items()]


def _turn(rotate: Callable[[], None]) -> Callable[[Any], None]:
    return lambda _: rotate()


def _filled(kind: type[Contender], place: Path, size: int, count: int) -> Path:
    folder = folder_of(kind, place)
    filler = kind(folder, durable=False)
    given = filler.prepare(payload.rows(size))
    for _ in range(count):
        filler.save("train", given)
    filler.close()
    os.sync()
    return folder


def _reseal_all(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    for name in sorted(os.listdir(folder)):
        path, temporary = f"{folder}/{name}", f"{folder}/.new"
        with open(path, "rb") as file:
            decryptor = Cobblestone256Decryptor(KEY, b"")
            plain = decryptor.update(file.read()) + decryptor.finalize()
        encryptor = Cobblestone256Encryptor(KEY, b"")
        with open(temporary, "wb") as file:
            file.write(encryptor.update(plain) + encryptor.finalize())
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
        os.fsync(directory)
    os.close(directory)
