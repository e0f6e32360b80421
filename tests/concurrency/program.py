"""What concurrent writers are told to do: a program is data, drawn by Hypothesis, run by ``host`` and shown by ``record``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal[
    "save", "expect", "update", "get", "load", "has", "history", "restore", "clear", "clear all", "delete", "rotate"
]

STAGES = ("parse", "train")


@dataclass(frozen=True)
class Op:
    """One call.

    Attributes:
        kind: ``save`` and ``update`` write ``argument`` characters; ``expect`` saves if version ``argument`` is the newest;
            ``get`` reads the newest version; ``load``, ``restore`` and ``delete`` name version ``argument``.
        stage: Of which stage; of all for ``clear all`` and ``rotate``.
        argument: See ``kind``.
    """

    kind: Kind
    stage: str = STAGES[0]
    argument: int = 0


@dataclass(frozen=True)
class Writer:
    """One process.

    Attributes:
        start: By a fork of a process that may have the store open, or as a fresh interpreter.
        threads: The calls of each of its threads.
        shared: Its threads share one manager; else each opens its own.
    """

    start: Literal["fork", "spawn"]
    threads: tuple[tuple[Op, ...], ...]
    shared: bool = True


@dataclass(frozen=True)
class Signal:
    """What is done to a writer from outside: killed, or stopped for a while, shortly after it began or ended so many calls."""

    writer: int
    kind: Literal["kill", "stop"]
    after: int
    delay: float
    """In seconds."""


@dataclass(frozen=True)
class Program:
    """What happens in one directory."""

    writers: tuple[Writer, ...]
    signals: tuple[Signal, ...] = ()
    opened_before: bool = True
    """The forked writers inherit an opened manager; else all race to make the store."""

    def as_json(self) -> dict[str, Any]:
        """Return the program as ``host`` is sent it."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Program:
        """Undo :meth:`as_json`."""
        writers = tuple(
            Writer(each["start"], tuple(tuple(Op(**op) for op in ops) for ops in each["threads"]), each["shared"])
            for each in fields["writers"]
        )
        return cls(writers, tuple(Signal(**each) for each in fields["signals"]), fields["opened_before"])
