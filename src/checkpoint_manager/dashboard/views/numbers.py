"""A number over the versions of a stage, such as the loss over epochs: a JSON pointer is picked, and a chart shows it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from checkpoint_manager.dashboard import line_chart, tree
from checkpoint_manager.dashboard.views.call import check_size
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from starlette.responses import Response

    from checkpoint_manager.dashboard.views.call import Call

_MOST_VERSIONS, _MOST_BYTES = 200, 64 * 1024 * 1024
_MOST_OFFERED = 60


def show(call: Call) -> Response:
    """Show the forms. No data is read yet."""
    return _page(call)


def offer(call: Call) -> Response:
    """Offer the numbers that the newest completed version holds."""
    newest = itertools.islice(call.store.cm.iter_history(call.stage), _MOST_VERSIONS)
    version = next((each for each in newest if each.status == "completed"), None)
    if version is None:
        return _page(call, is_looked=True)
    check_size(call.command(f"show STAGE@{version.number}", call.stage), version)
    call.note("reveal", "looked for numbers in the data", stage=call.stage, version=version.number)
    data = call.store.cm.get_json(call.stage, version.number).data
    offered = itertools.islice(_pointers(data, ""), _MOST_OFFERED)
    return _page(call, offered=list(offered), is_looked=True)


def chart(call: Call) -> Response:
    """Show the number at a pointer in each version, as far as there is one."""
    pointer = call.asked("at")
    call.note("reveal", f"read a number of up to {_MOST_VERSIONS} versions", stage=call.stage)
    points, left_out = _read(call, pointer)
    return _page(call, at=pointer, points=points, left_out=left_out, drawn=line_chart.draw(points))


def _page(call: Call, **values: Any) -> Response:  # noqa: ANN401  # whatever the template shows
    known: dict[str, Any] = {"offered": [], "is_looked": False, "at": "", "points": [], "left_out": 0, "drawn": None}
    return call.page("numbers.html", **(known | values), stage=call.stage)


def _read(call: Call, pointer: str) -> tuple[list[tuple[int, float]], int]:
    """Return the number in each version, oldest first, and how many versions were left out."""
    points: list[tuple[int, float]] = []
    left_out, read = 0, 0
    for version in itertools.islice(call.store.cm.iter_history(call.stage), _MOST_VERSIONS):
        if version.status not in {"completed", "progress"} or version.size is None or read + version.size > _MOST_BYTES:
            left_out += 1
            continue
        read += version.size
        try:
            value = tree.value_at(call.store.cm.get_json(call.stage, version.number).data, pointer)
        except (CheckpointError, LookupError):
            left_out += 1
            continue
        number = _number(value)
        if number is None:
            left_out += 1
        else:
            points.append((version.number, number))
    return points[::-1], left_out


def _number(value: Any) -> float | None:  # noqa: ANN401  # JSON is what it is
    """Return a value as a number, if it is one; a scalar of numpy is one, too."""
    if isinstance(value, dict) and list(value) == ["!numpy"] and isinstance(value["!numpy"], list):
        value = next(reversed(value["!numpy"]), None)  # a bundle's maker may have left it empty
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None


def _pointers(value: Any, here: str) -> Any:  # noqa: ANN401
    """Yield the pointers of numbers, in order."""
    if _number(value) is not None:
        yield here
    elif isinstance(value, dict):
        for key, each in value.items():
            if not key.startswith("!"):
                yield from _pointers(each, f"{here}/{tree.escaped(key)}")
    elif isinstance(value, list):
        for index, each in enumerate(value[:10]):
            yield from _pointers(each, f"{here}/{index}")
