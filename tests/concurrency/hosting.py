"""The process that runs programs, seen from the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests import hosting

if TYPE_CHECKING:
    from pathlib import Path

    from tests.concurrency.program import Program


class Host(hosting.Host):
    """A process that runs programs, one after the other; it ends with the ``with`` block."""

    def __init__(self) -> None:
        super().__init__("tests.concurrency.host")

    def run(self, program: Program, store: Path | str, home: Path) -> dict[str, Any]:
        """Run a program in a store, and return what its writers told."""
        answer: dict[str, Any] = self.ask({"directory": str(store), "home": str(home), "program": program.as_json()})
        return answer
