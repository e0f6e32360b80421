"""Cuts the power of one scenario after the other, each in a process of its own. Started once, told by standard input."""

from __future__ import annotations

import traceback
from dataclasses import asdict
from typing import Any

from tests import forking
from tests.hosting import serve
from tests.powercut.run import cut_everywhere, prepare


def cut(task: dict[str, Any]) -> Any:
    """Cut the power of a scenario."""

    def found() -> dict[str, Any]:
        try:
            return asdict(cut_everywhere(**task))
        except Exception:
            return {"problems": [traceback.format_exc()], "states": 0}

    return forking.answer(found)


if __name__ == "__main__":
    prepare()
    serve(cut)
