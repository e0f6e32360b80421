"""A backend whose lock excludes nobody, as that of an object store, and which runs another writer at a chosen moment."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from checkpoint_manager.backends.base import Capabilities, RecordName, Session, VersionTakenError
from checkpoint_manager.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from checkpoint_manager.backends.base import MakePieces, Record


class LooseBackend(MemoryBackend):
    """A store in memory where only put-if-absent and compare-and-set decide.

    Several managers on it are several hosts. What is given to :meth:`before` runs once, in the middle of a call of another one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = Capabilities(lock_excludes=False, lists_over_gaps=True, durability=False, persistent=False)
        self._others: dict[str, list[Callable[[], object]]] = defaultdict(list)

    def before(self, method: str, *acts: Callable[[], object]) -> None:
        """Run each of these just before one of the next calls of a method takes effect, the first one first."""
        self._others[method] += acts

    @property
    def is_done(self) -> bool:
        """Whether all that was given to :meth:`before` has run."""
        return not any(self._others.values())

    def _meet(self, method: str) -> None:
        if self._others[method]:
            act = self._others[method].pop(0)
            held, self._others = self._others, defaultdict(list)
            act()
            self._others = held

    def lock(self, *_: Any, **__: Any) -> Any:
        return contextlib.nullcontext()

    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        data = b"".join(bytes(piece) for piece in make_pieces())
        self._meet("append")
        versions = self._versions.setdefault(stage, {})
        if version in versions:
            raise VersionTakenError
        versions[version] = data

    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        self._meet("replace")
        super().replace(stage, version, make_pieces)

    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:
        self._meet("delete")
        super().delete(stage, versions)

    def delete_attachments(self, stage: str, attachments: Iterable[str]) -> None:
        self._meet("delete_attachments")
        super().delete_attachments(stage, attachments)

    def read_record(self, name: RecordName, stage: str | None = None, **more: Any) -> Record | None:
        self._meet(f"read {name}")
        return super().read_record(name, stage, **more)

    def write_record(self, name: RecordName, stage: str | None = None, **more: Any) -> Record:
        self._meet(f"write {name}")
        return super().write_record(name, stage, **more)

    def wait_for_writers(self, timeout: float) -> None:
        pass
