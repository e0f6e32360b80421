"""What is known of the stages of a store at a moment: the values that pages show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkpoint_manager.dashboard.cell import ORDER
from checkpoint_manager.dashboard.order import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkpoint_manager.dashboard.cell import Cell, State


@dataclass(frozen=True, slots=True)
class Overview:
    """What is known of a store's stages at a moment.

    Attributes:
        cells: The stages that were looked at, by name.
        names: The names of all of them; until all were looked at, deleted and planted ones may be among them.
        is_complete: Whether all were looked at.
        order: The names of most of them in the order of the pipeline.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    names: Sequence[str] = ()
    is_complete: bool = False
    order: Sequence[str] = ()

    @property
    def total(self) -> int:
        """How many stages there are."""
        return len(self.cells) if self.is_complete else max(len(self.names), len(self.cells))

    @property
    def counts(self) -> list[tuple[State, int]]:
        """How many stages have each state, the worst first."""
        counts = Counter(cell.state for cell in self.cells.values())
        return [(state, counts[state]) for state in ORDER if counts[state]]

    def in_order(self) -> Sequence[str]:
        """Return the names of all stages in the order of the pipeline; until all were looked at, sorted by name."""
        if self.is_complete:
            return [cell.stage for cell in self.known_in_order()]
        return sorted({*self.names, *self.cells}) if self.cells.keys() - set(self.names) else self.names

    def known_in_order(self) -> list[Cell]:
        """Return the stages that were looked at, and those that have never run, in the order of the pipeline."""
        known = [self.cells[stage] for stage in self.order if stage in self.cells]
        if len(known) == len(self.cells):
            return known
        new = {stage: self.cells[stage] for stage in self.cells.keys() - set(self.order)}  # since all were looked at
        return known + [new[stage] for stage in in_order(new)]
