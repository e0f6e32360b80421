"""What is done to the two worlds: a program is data, drawn by Hypothesis and run by :mod:`tests.fast_paths.world`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

STAGES = ("parse", "train")

Call: TypeAlias = Literal[
    "save", "save much", "expect", "update", "load", "load version", "has", "status", "history", "restore", "clear",
    "clear all", "delete", "delete stage", "prune", "tag", "rotate", "save, and be refused", "save, and others meanwhile",
    "verify", "repair", "accept", "reopen",
]  # fmt: skip
Attack: TypeAlias = Literal[
    "take the newest away", "leave its head", "remove a version", "remove the head", "put an older head back", "copy the head",
    "exchange two versions", "write a version over another", "damage a version", "cut a version", "plant a version",
    "plant a pending version", "plant a temporary file", "damage the deletions", "remove the deletions", "plant deletions",
    "exchange the folder for a copy", "exchange the folders", "remove the folder", "replace the lock file",
    "remove the locks", "damage the keyring", "remove the keyring", "remove the line", "damage the line",
    "exchange the lines", "keep", "put all back", "put the history back", "put the folder back", "put the deletions back",
    "put the tags back", "put the keyring back", "put the line back", "put the lines back", "set the history aside",
    "put what was aside back", "make a copy of the store",
]  # fmt: skip


@dataclass(frozen=True)
class Op:
    """One call of a manager, or one step of the attacker.

    Attributes:
        kind: What is done.
        stage: To which stage, where that matters: the number of its name in ``STAGES``.
        who: Which manager of ``Program`` is called; whose line is attacked.
        number: Which version, or how; see :mod:`.world` and :mod:`.attacker`.
    """

    kind: Call | Attack
    stage: int = 0
    who: int = 0
    number: int = 0


@dataclass(frozen=True)
class Program:
    """What happens to one store.

    Its managers are numbered: 0 and 1 are those of the first user, 2 is that of the second one, and 3 is the first user's, of a
    copy of the store in another place.

    Attributes:
        ops: One after another.
        second: How manager 1 differs from the others.
        on_rollback: That of all managers.
    """

    ops: tuple[Op, ...]
    second: Literal["alike", "relaxed", "pruning"] = "alike"
    on_rollback: Literal["raise", "warn"] = "raise"
