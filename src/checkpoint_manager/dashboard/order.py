"""The order of a pipeline's stages: each after the stages that it was made of, and otherwise as they were first saved.

A stage that has never run comes after the stage that its program defines before it. Of stages that were made of one another,
the one that was first saved comes first.
"""

from __future__ import annotations

import heapq
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkpoint_manager.dashboard.cell import Cell

_LATE = datetime.max.replace(tzinfo=UTC)
_Key: TypeAlias = tuple[datetime, int, str]


def in_order(cells: Mapping[str, Cell]) -> list[str]:
    """Return the names of stages in the order of the pipeline."""
    keys: dict[str, _Key] = {}
    following: dict[str, list[str]] = {}
    missing = dict.fromkeys(cells, 0)  # how many of its inputs stand further down
    for stage, cell in cells.items():
        before = _defined_before(cell, cells)
        keys[stage] = (cell.began or _began(before, cells), cell.defined.index(stage) + 1 if cell.defined else 0, stage)
        for source in {*cell.inputs, *before[-1:]}:
            if source != stage and source in cells:
                following.setdefault(source, []).append(stage)
                missing[stage] += 1
    ready = [keys[stage] for stage, count in missing.items() if not count]
    heapq.heapify(ready)
    rest = iter(sorted(keys.values()))
    found: dict[str, None] = {}
    while len(found) < len(cells):
        # Where nothing is ready, the rest were made of one another.
        *_, stage = heapq.heappop(ready) if ready else next(key for key in rest if key[2] not in found)
        if stage in found:
            continue
        found[stage] = None
        for each in following.get(stage, ()):
            missing[each] -= 1
            if not missing[each]:
                heapq.heappush(ready, keys[each])
    return list(found)


def _defined_before(cell: Cell, cells: Mapping[str, Cell]) -> list[str]:
    """Return the stages that the program defines before a stage that has never run; for any other stage, none."""
    return [stage for stage in cell.defined[: cell.defined.index(cell.stage)] if stage in cells] if cell.defined else []


def _began(stages: list[str], cells: Mapping[str, Cell]) -> datetime:
    """Return when a stage was first saved: the last of these that has a version."""
    return next((began for stage in reversed(stages) if (began := cells[stage].began) is not None), _LATE)
