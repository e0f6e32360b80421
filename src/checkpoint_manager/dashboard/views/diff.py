"""The page that compares two versions: their details and, behind a button that is logged, their data."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager._format.notes import own_metadata
from checkpoint_manager.dashboard.views.call import RefusedError, check_size, is_revealed

if TYPE_CHECKING:
    from starlette.responses import Response

    from checkpoint_manager import Diff, Version
    from checkpoint_manager.dashboard.views.call import Call

_MOST_CHANGES = 300
_MOST_CHARACTERS = 600


def show(call: Call) -> Response:
    """Compare two versions: their details and, if this session has revealed both, their data."""
    old, new = _pair(call)
    if not all(is_revealed(call, version) for version in (old, new)):
        return _page(call, old, new)
    _check_size(call, old, new)
    if not call.store.can_read(old.stage, old.number):
        return _page(call, old, new, is_being_read=True)
    diff = call.store.cm.diff(new.stage, old.number, new.number)
    counts = Counter(change.kind for change in diff.changes)
    start = call.number("start") or 0
    return _page(call, old, new, counts=counts, changes=_rows(diff, start), start=start, length=_MOST_CHANGES)


def reveal(call: Call) -> Response:
    """Note that the data of both versions is asked for, and show their differences."""
    old, new = _pair(call)
    _check_size(call, old, new)
    for version in (old, new):
        call.session.reveal(call.store.id, version.stage, version.number)
        call.note("reveal", "revealed data", stage=version.stage, version=version.number)
    return call.go(f"{call.at('/diff', stage=new.stage, old=old.number, new=new.number)}#data")


def _check_size(call: Call, old: Version, new: Version) -> None:
    check_size(call.command(f"diff STAGE {old.number} {new.number}", new.stage), old, new)


def _page(call: Call, old: Version, new: Version, **values: Any) -> Response:  # noqa: ANN401  # whatever the template shows
    known: dict[str, Any] = {"counts": None, "changes": None, "start": 0, "is_being_read": False}
    return call.page("diff.html", old=old, new=new, metadata=_metadata(old, new), **(known | values))


def _pair(call: Call) -> tuple[Version, Version]:
    one, other = call.number("old"), call.number("new")
    if one is None or other is None:
        raise RefusedError(400, "Two versions are needed", "Choose two in the table of a stage.")
    cm = call.store.cm
    return cm.get_version(call.stage, min(one, other)), cm.get_version(call.stage, max(one, other))


def _metadata(old: Version, new: Version) -> list[tuple[str, str, str]]:
    """Return the details of both that differ, as text."""
    facts = [
        {"state": each.status, "bytes": each.total_size, **{f"metadata {k}": v for k, v in own_metadata(each.metadata).items()}}
        for each in (old, new)
    ]
    names = dict.fromkeys([*facts[0], *facts[1]])
    pairs = [(name, *(_text(each[name]) if name in each else "" for each in facts)) for name in names]
    return [(name, before, after) for name, before, after in pairs if before != after]


def _rows(diff: Diff, start: int) -> list[dict[str, Any]]:
    """Return a part of the differences, as text."""
    part = type(diff)(diff.old, diff.new, diff.changes[start : start + _MOST_CHANGES])
    rows = zip(part.changes, part.as_dicts(), strict=True)
    return [
        {"kind": change.kind, "where": change.where, **{name: _text(row[name]) for name in ("old", "new") if name in row}}
        for change, row in rows
    ]


def _text(value: object) -> str:
    """Return a value as JSON; a text as it is."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}… ({len(text)} characters)"
