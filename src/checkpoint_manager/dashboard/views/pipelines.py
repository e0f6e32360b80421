"""The pages of all stores, and of one: a cell for each stage."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager._format.notes import own_metadata
from checkpoint_manager.dashboard import stores
from checkpoint_manager.dashboard.cell import ATTENTION, ORDER
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.responses import Response

    from checkpoint_manager.dashboard.cell import Cell
    from checkpoint_manager.dashboard.overview import Overview
    from checkpoint_manager.dashboard.stores import ShownStore
    from checkpoint_manager.dashboard.views.call import Call

_MOST_IN_CARD, _MOST_IN_PAGE, _MOST_IN_NEED = 120, 300, 30
_DENSE = 60
"""From so many stages on, cells are shown small."""


class Card(NamedTuple):
    """A store as a page shows it.

    Attributes:
        store: The store.
        overview: What is known of it; None if it can't be read.
        cells: The stages on this page.
        chosen: How many stages meet the filters.
        problem: Why it can't be read.
        start: The place of the first cell among those chosen.
    """

    store: ShownStore
    overview: Overview | None
    cells: list[Cell]
    chosen: int
    problem: str = ""
    start: int = 0

    @property
    def is_dense(self) -> bool:
        """Whether the cells are shown small."""
        return len(self.cells) > _DENSE


def show_all(call: Call) -> Response:
    """Show all stores, and what needs attention in them."""
    until = time.monotonic() + stores.WAIT_SECONDS
    cards = [_card(store, call.request.query_params, until, _MOST_IN_CARD) for store in call.site.stores.values()]
    needs = [
        (card.store, cell)
        for card in cards
        if card.overview is not None
        for cell in card.overview.known_in_order()
        if cell.needs_attention
    ]
    needs.sort(key=lambda each: ATTENTION.index(each[1].state))
    return call.page(
        "pipelines.html",
        cards=sorted(cards, key=_urgency),
        is_complete=all(card.overview is None or card.overview.is_complete for card in cards),
        needs=needs[:_MOST_IN_NEED],
        more=len(needs) - _MOST_IN_NEED,
        stages=sum(card.overview.total or 0 for card in cards if card.overview is not None),
        filters=_filters(call.request.query_params),
        states=ORDER,
    )


def show_store(call: Call) -> Response:
    """Show the stages of one store, some at a time."""
    until = time.monotonic() + stores.WAIT_SECONDS
    card = _card(call.store, call.request.query_params, until, _MOST_IN_PAGE, call.number("start") or 0)
    status = 200 if card.overview is not None else 502
    return call.page(
        "store.html", status, card=card, filters=_filters(call.request.query_params), states=ORDER, length=_MOST_IN_PAGE
    )


def stages_shown(store: ShownStore, query: Mapping[str, str]) -> list[str]:
    """Return the names of the stages that a page of a store shows."""
    start = query.get("start", "")
    first = int(start[:9]) if start.isascii() and start.isdecimal() else 0
    return [*_chosen(store.overview(0), query)[first : first + _MOST_IN_PAGE]]


def _card(store: ShownStore, query: Mapping[str, str], until: float, most: int, start: int = 0) -> Card:
    try:
        overview = store.overview(max(0.0, until - time.monotonic()))
        names = _chosen(overview, query)
        shown = store.look_again(names[start : start + most], overview.cells, until - time.monotonic())
    except CheckpointError as error:
        return Card(store, None, [], 0, store.explain(error))
    return Card(store, overview, shown, len(names), "", start)


def _urgency(card: Card) -> tuple[int, str]:
    """Return what sorts stores: one that can't be read first, then by their worst stage."""
    if card.overview is None:
        return -1, card.store.name
    return min((ATTENTION.index(state) for state, _ in card.overview.counts if state in ATTENTION), default=99), card.store.name


def _filters(query: Mapping[str, str]) -> dict[str, str]:
    return {name: query.get(name, "") for name in ("name", "state", "metadata")}


def _chosen(overview: Overview, query: Mapping[str, str]) -> Sequence[str]:
    """Return the names of the stages that meet the filters, in the order of the pipeline.

    Until all stages were looked at, they are sorted by name; those that were not have no state and no metadata.
    """
    filters = _filters(query)
    name, state = filters["name"].casefold(), filters["state"]
    key, _, value = filters["metadata"].partition("=")
    names = overview.in_order()
    if name:
        names = [each for each in names if name in each.casefold()]
    if state:
        names = [each for each in names if _is_in(overview.cells.get(each), state)]
    if key:
        names = [each for each in names if _has(overview.cells.get(each), key.strip(), value.strip())]
    return names


def _is_in(cell: Cell | None, state: str) -> bool:
    return cell is not None and (cell.state == state or (state == "attention" and cell.needs_attention))


def _has(cell: Cell | None, key: str, value: str) -> bool:
    """Return whether the newest version of a stage has such metadata; a value that is not text is compared as JSON."""
    metadata = {} if cell is None or cell.version is None else own_metadata(cell.version.metadata)
    if key not in metadata:
        return False
    found = metadata[key]
    return not value or (found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)) == value
