"""What a workload is given: who takes part, where, and how much to do."""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders.ours import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from multiprocessing.context import ForkServerContext, SpawnContext

    from benchmarks.contenders.base import Contender
    from benchmarks.contenders.registry import Field
    from benchmarks.scale import Scale


@dataclass(frozen=True, slots=True)
class Context:
    """What a workload is given."""

    folder: Path
    field: Field
    scale: Scale

    @contextlib.contextmanager
    def place(self, *, is_large: bool = False) -> Iterator[Path]:
        """Make an empty folder on the disk under test, which stays until the end unless ``is_large``.

        An ext4 without a journal does not give the number of a file that was just deleted to a new one. After thousands of
        deletions it looks long for a free number, and whoever makes a file for each save would pay for that.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield folder
        finally:
            if is_large:
                shutil.rmtree(folder, ignore_errors=True)

    def choose(
        self,
        floors: Collection[str] = (),
        where: Callable[[type[Contender]], bool] = lambda _: True,
        *,
        slow: bool = False,
        variants: Collection[str] = (),
    ) -> list[type[Contender]]:
        """Return who takes part in a workload: the library, these floors and variants of it, and the peers that are wanted.

        Args:
            floors: Their names.
            where: Who else is left out, if false.
            slow: Whether there is time for those that start programs.
            variants: Of the library, by name.
        """
        named = {*floors, *variants}
        return [
            kind
            for kind in self.field
            if (kind.name in named or (kind.kind != "floor" and kind.name not in VARIANTS))
            and (slow or not kind.slow)
            and where(kind)
        ]

    def without_versions(self) -> dict[str, str]:
        """Return the peers that keep no versions, each with that for a reason."""
        return {kind.name: "it keeps no versions" for kind in self.field if kind.kind == "peer" and "versions" in kind.lacks}

    def tell(self, what: str) -> None:
        """Say what is being done."""
        print(what, file=sys.stderr, flush=True)


def fresh_processes() -> SpawnContext | ForkServerContext:
    """Return how to start processes that share nothing with this one but what was imported."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["benchmarks.contenders.registry"])
    return processes


def folder_of(kind: type[Contender], place: Path) -> Path:
    """Return a contender's own folder, made if it is not there."""
    folder = place / "".join(letter if letter.isalnum() else "-" for letter in kind.name)
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def opened(kinds: list[type[Contender]], place: Path) -> Iterator[list[Contender]]:
    """Open each contender on its own folder."""
    contenders = [kind(folder_of(kind, place)) for kind in kinds]
    try:
        yield contenders
    finally:
        for contender in contenders:
            contender.close()
