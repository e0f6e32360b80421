"""Cuts the power of one scenario after the other, each in a process of its own. Started once, told by standard input."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tests import forking
from tests.hosting import serve
from tests.powercut.run import cut_everywhere, prepare


def cut(task: dict[str, Any]) -> Any:
    """Cut the power of a scenario."""
    return forking.answer(lambda: asdict(cut_everywhere(**task)))


if __name__ == "__main__":
    prepare()
    serve(cut)
