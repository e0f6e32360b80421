"""The most memory that saving and loading one large checkpoint takes, each in a process of its own."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import payload
from benchmarks.contenders import floors, registry
from benchmarks.scale import MB
from benchmarks.summary import Result, Row
from benchmarks.workloads.context import Context, folder_of, fresh_processes

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from benchmarks.contenders.base import Contender

_FLOORS = {floors.JSON_BARE, floors.SEALED}
_STAGE = "train"
_PATIENCE = 30
"""Seconds for one save or load, with what it takes to prepare it."""


def run(context: Context) -> list[Result]:
    size = context.scale.memory
    title = f"{size // MB} MB" if size >= MB else f"{size} bytes"
    if not Path("/proc/self/clear_refs").exists():
        context.tell("memory: left out, for there is no /proc/self/clear_refs here")
        return []
    kinds = context.choose(_FLOORS)
    saving, loading, failed = [], [], {}
    for kind in kinds:
        context.tell(f"memory: {kind.name} saves and loads {title}")
        with context.place(is_large=True) as place:
            answers = [_in_a_process(kind, folder_of(kind, place), size, what) for what in ("save", "load")]
        if isinstance(answers[0], int) and isinstance(answers[1], int):
            saving.append(Row(kind.name, answers[0]))
            loading.append(Row(kind.name, answers[1]))
        else:
            failed[kind.name] = next(answer for answer in answers if isinstance(answer, str))
    return [
        Result(f"memory/save {title}", f"peak memory of a save of {title}, beyond the payload", "bytes", tuple(saving), failed),
        Result(
            f"memory/load {title}", f"peak memory of a load of {title}, the payload included", "bytes", tuple(loading), failed
        ),
    ]


def _in_a_process(kind: type[Contender], folder: Path, size: int, what: str) -> int | str:
    processes = fresh_processes()
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=_measure, args=(theirs, kind.name, folder, size, what))
    process.start()
    theirs.close()
    try:
        answer: int | str = ours.recv() if ours.poll(_PATIENCE) else f"it took more than {_PATIENCE} s"
    except EOFError:
        answer = "it was killed, or ended without a word"
    process.kill()
    process.join()
    return answer


def _measure(pipe: Connection, name: str, folder: Path, size: int, what: str) -> None:
    try:
        contender = {kind.name: kind for kind in registry.ALL}[name](folder)
        small = payload.rows(1000)
        contender.save("another stage", contender.prepare(small))  # what is made once is not part of it
        contender.load("another stage")
        value = payload.rows(size) if what == "save" else None
        given = contender.prepare(value) if value is not None else None
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
        before = _status("VmRSS")
        if what == "save":
            contender.save(_STAGE, given)
        elif contender.load(_STAGE) is None:
            raise AssertionError(f"{name} does not find what it saved")
        pipe.send(max(0, _status("VmHWM") - before))
        contender.close()
    except Exception as error:  # noqa: BLE001  # whatever it is, it is this contender's answer
        pipe.send(f"{type(error).__name__}: {str(error)[:80]}")


def _status(name: str) -> int:
    """Return a figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024
