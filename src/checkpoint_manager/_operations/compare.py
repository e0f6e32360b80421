"""Finding what changed between two JSON values: typed, by path, and with lists aligned.

Two values are the same if they are written the same, keys in order: ``1``, ``1.0`` and ``true`` are not. So each element of a
list is compared by its text, once. Lists are aligned by what they have in common at both ends, then by the elements that each
has exactly once (the longest run of them in one order, as in patience diff): an element inserted in front is one change, and
the time taken is that of sorting, whatever the lists hold. What is left between two aligned elements is compared pair by pair.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager._operations.diff import Change, Path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def changes(old: Any, new: Any) -> tuple[Change, ...]:  # noqa: ANN401  # JSON is what it is
    """Return the differences, in the order of the paths."""
    return tuple(_compare(old, new, (), ""))


def _compare(old: Any, new: Any, path: Path, pointer: str) -> Iterator[Change]:  # noqa: ANN401
    if type(old) is dict and type(new) is dict:
        yield from _compare_objects(old, new, path, pointer)
    elif type(old) is list and type(new) is list:
        yield from _compare_lists(old, new, path, pointer)
    elif _text(old) != _text(new):
        yield Change("changed", path, old, new, pointer)


def _compare_objects(old: dict[str, Any], new: dict[str, Any], path: Path, pointer: str) -> Iterator[Change]:
    for key in sorted(old.keys() | new.keys()):
        here, there = (*path, key), f"{pointer}/{_escaped(key)}"
        if key not in new:
            yield Change("removed", here, old[key], None, there)
        elif key not in old:
            yield Change("added", here, None, new[key], there)
        else:
            yield from _compare(old[key], new[key], here, there)


def _compare_lists(old: list[Any], new: list[Any], path: Path, pointer: str) -> Iterator[Change]:
    before, after = list(map(_text, old)), list(map(_text, new))
    at_old = at_new = 0
    for same_old, same_new in [*_aligned(before, after), (len(old), len(new))]:
        yield from _compare_between(old, new, (at_old, same_old), (at_new, same_new), path, pointer)
        at_old, at_new = same_old + 1, same_new + 1


def _compare_between(
    old: list[Any], new: list[Any], of_old: tuple[int, int], of_new: tuple[int, int], path: Path, pointer: str
) -> Iterator[Change]:
    """Compare what lies between two elements that are the same: pair by pair, and the rest is removed or added."""
    (start, end), (new_start, new_end) = of_old, of_new
    pairs = min(end - start, new_end - new_start)
    for index in range(pairs):
        there = f"{pointer}/{start + index}"
        yield from _compare(old[start + index], new[new_start + index], (*path, new_start + index), there)
    for index in range(start + pairs, end):
        yield Change("removed", (*path, index), old[index], None, f"{pointer}/{index}")
    for index in range(new_start + pairs, new_end):
        yield Change("added", (*path, index), None, new[index], f"{pointer}/{end}")


def _aligned(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield the indexes of elements that stay, ascending in both lists."""
    shorter = min(len(old), len(new))
    head = next((index for index in range(shorter) if old[index] != new[index]), shorter)
    yield from ((index, index) for index in range(head))
    most = shorter - head
    tail = next((index for index in range(most) if old[-1 - index] != new[-1 - index]), most)
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    if middle_old and middle_new:
        at_old = at_new = 0
        for same_old, same_new in [*_in_one_order(_once_in_both(middle_old, middle_new)), (len(middle_old), len(middle_new))]:
            # Between two anchors, the ends may have more in common.
            between = middle_old[at_old:same_old], middle_new[at_new:same_new]
            if between != (middle_old, middle_new):
                yield from ((head + at_old + left, head + at_new + right) for left, right in _aligned(*between))
            if same_old < len(middle_old):
                yield head + same_old, head + same_new
            at_old, at_new = same_old + 1, same_new + 1
    yield from ((len(old) - index, len(new) - index) for index in range(tail, 0, -1))


def _once_in_both(old: Sequence[bytes], new: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return the indexes of each element that is in both lists exactly once, in the order of the new one."""
    counts_old, counts_new = Counter(old), Counter(new)
    places = {text: index for index, text in enumerate(old) if counts_old[text] == 1}
    return [(places[text], index) for index, text in enumerate(new) if counts_new[text] == 1 and text in places]


def _in_one_order(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest choice of pairs whose first numbers ascend, too."""
    ends: list[int] = []
    last_of: list[int] = []
    previous: list[int] = []
    for number, (first, _) in enumerate(pairs):
        length = bisect_left(ends, first)
        ends[length : length + 1] = [first]
        last_of[length : length + 1] = [number]
        previous.append(last_of[length - 1] if length else -1)
    chosen: list[tuple[int, int]] = []
    number = last_of[-1] if last_of else -1
    while number >= 0:
        chosen.append(pairs[number])
        number = previous[number]
    return chosen[::-1]


def _text(value: Any) -> bytes:  # noqa: ANN401
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
