"""What a benchmark asks of a contender, and what it tells of one: how to save and load, and what it does not do at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

Kind: TypeAlias = Literal["ours", "floor", "peer"]
Lack: TypeAlias = Literal["encrypt", "position", "versions", "sync", "exclude"]
"""``position``: a genuine checkpoint of another stage or version, put in the place of one, is taken for it; ``exclude``: two
writers at once may lose what one of them saved, or fail where they should wait."""

KEY = bytes(range(32))
"""The key of everything that has one: nothing here is secret."""


class AbsentError(Exception):
    """A contender can't take part here; the text says why."""


class Contender:
    """One way to keep checkpoints, opened on a folder of its own. Opening may make what it needs there.

    Args:
        folder: Exists; nobody else writes to it but other instances of the same contender.
        durable: False only to fill it before measuring: the quickest setting.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind] = "peer"
    lacks: ClassVar[frozenset[Lack]] = frozenset()
    slow: ClassVar[bool] = False
    """A program is started for each step: it takes part in few rounds, and in no workload of thousands."""
    shared: ClassVar[bool] = True
    """Several processes may have it open."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self.durable = durable

    @property
    def setting(self) -> str:
        """How it is configured, as far as that decides what is durable."""
        return ""

    def prepare(self, value: dict[str, Any]) -> Any:
        """Do what is not to be measured, and return what ``save`` is to be given."""
        return value

    def save(self, stage: str, value: Any) -> Any:
        """Save a value as the newest of a stage, and return what ``load`` needs to find it again later."""
        raise NotImplementedError

    def load(self, stage: str, version: Any = None) -> Any:
        """Return the newest value of a stage, or the one that a ``save`` returned ``version`` for; None if there is none."""
        raise NotImplementedError

    def has(self, stage: str) -> bool:
        """Decide whether a stage is done, as thoroughly as the contender can."""
        return self.load(stage) is not None

    def history(self, stage: str) -> int:
        """List the versions of a stage, and return how many there are."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything."""
