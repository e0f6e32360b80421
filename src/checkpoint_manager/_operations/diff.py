"""The differences between two versions: as values, as text, and as a JSON Patch.

What is compared is JSON with forms (:mod:`checkpoint_manager._format.values`): no codec and no library is needed for it. Two
values are equal if their JSON with sorted keys is equal: ``1``, ``1.0`` and ``true`` all differ. Tuples and sets are compared
by their elements as lists are, dicts of any keys by their keys, and every other form as a whole.

Each element of a list is compared by its text, once. Lists are aligned by what they have in common at both ends, then by the
elements that each has exactly once (the longest run of them in one order, as in patience diff): an element inserted in front
is one change. What lies between two aligned elements is aligned again in the same way, ``_MOST_SPLITS`` times at most: so the
time taken is that of sorting, whatever the lists hold. What is left then is compared pair by pair.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson

from checkpoint_manager._format import payload
from checkpoint_manager._format.embedded import TAG, stored_forms
from checkpoint_manager._format.payload_faults import MAX_DEPTH
from checkpoint_manager._format.seal import SLICE_BYTES
from checkpoint_manager._format.values import tag_of
from checkpoint_manager._operations import text_diff
from checkpoint_manager._operations.load import Loaded, load_version
from checkpoint_manager._text import counted, printable, with_article
from checkpoint_manager.errors import CheckpointNotFoundError, FormatError, Hint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import Version

Path: TypeAlias = tuple[Any, ...]

_MOST_CHARACTERS = 80
_MOST_SPLITS = 16
"""Lists that people edit take two or three; lists made for it would take as many as they have elements."""
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_COLOURS = {"added": "\x1b[32m", "removed": "\x1b[31m", "changed": "\x1b[33m"}
_PLAIN = "\x1b[0m"
_OPERATIONS = {"added": "add", "removed": "remove", "changed": "replace"}
_KINDS = {type(None): "null", bool: "true or false", int: "an integer", float: "a float"}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        kind: ``added``, ``removed`` or ``changed``.
        path: Where: the keys and indexes that lead to it in the new version, or in the old one if it was removed. A key that
            is not text is given as JSON.
        old: What was there, as JSON; None if it was added. A value that JSON does not have is an object with one key, as in
            ``{"!datetime": "2026-11-23T10:00:00"}``; :mod:`checkpoint_manager._format.values` lists them.
        new: What is there now, likewise; None if it was removed.
        pointer: Where a patch finds it once the operations before it are done, as a JSON pointer (RFC 6901).
    """

    kind: Literal["added", "removed", "changed"]
    path: Path
    old: Any = field(repr=False)
    new: Any = field(repr=False)
    pointer: str
    is_pair: bool = field(default=False, repr=False)
    """Whether a patch adds it as a pair, of its key and value."""

    @property
    def where(self) -> str:
        """The path as errors and reports show it, such as ``$.rows[3].name``."""
        return "$" + "".join(map(_step, self.path))


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between two versions of a stage.

    Values are compared with their types: ``1``, ``1.0`` and ``True`` all differ. The order of keys does not matter.

    Attributes:
        old: The earlier version.
        new: The later one.
        changes: The differences, in the order of the paths.
    """

    old: Version
    new: Version
    changes: tuple[Change, ...]

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.changes)

    def as_patch(self) -> list[dict[str, Any]]:
        """Return the operations (RFC 6902, JSON Patch) that turn the old data into the new, both as ``show`` prints them."""
        operations: list[dict[str, Any]] = []
        for change in reversed(self.changes):  # from the end: what is done there moves nothing that comes before it
            operation: dict[str, Any] = {"op": _OPERATIONS[change.kind], "path": change.pointer}
            new = _as_shown(change.new)
            value = [change.path[-1], new] if change.is_pair else new
            operations.append(operation if change.kind == "removed" else operation | {"value": value})
        return operations

    def as_dicts(self, *, redact: bool = False) -> list[dict[str, Any]]:
        """Return the differences as JSON values; with ``redact``, the kind of each value in place of the value."""
        shown = _kind_of if redact else _as_shown
        found: list[dict[str, Any]] = []
        for change in self.changes:
            fields: dict[str, Any] = {"kind": change.kind, "path": list(change.path)}
            if change.kind != "added":
                fields["old"] = shown(change.old)
            if change.kind != "removed":
                fields["new"] = shown(change.new)
            found.append(fields)
        return found

    def as_text(self, *, redact: bool = False, colour: bool = False) -> str:
        """Return a line for each difference. Where texts of several lines differ, the lines that differ follow it.

        Of a long text, only the part that differs is shown, with a few characters around it.

        Args:
            redact: Show the path and the kind of each value, and no values.
            colour: Mark added, removed and changed ones with colours of a terminal.
        """
        return "\n".join(_line(change, redact=redact, colour=colour) for change in self.changes)


def diff(store: Store, stage: str, old: int | None, new: int | None) -> Diff:
    """Return what changed between two versions: by default, the newest one and the one before it.

    Raises:
        CheckpointNotFoundError: A version does not exist, or there is none before the later one.
        FormatError: The data of one is nested more deeply than can be compared.
        IntegrityError, RollbackError: As for :func:`load_version`.
    """
    before, after = _load_pair(store, stage, old, new)
    try:
        forms = [payload.form(loaded.data) for loaded in (before, after)]
        for form in forms:
            orjson.dumps(form)
        _identify(forms, (before, after))
        found = changes(*forms)
    except (TypeError, RecursionError):  # a bundle may bring data that is nested more deeply than what can be saved
        where = f"version {before.version} or {after.version} of stage {printable(stage)} in {store.backend.location}"
        message = f"{where} is nested deeper than {MAX_DEPTH} levels, and can't be compared"
        raise FormatError(message, hint="Load both, and compare what is of interest") from None
    return Diff(before.entry.as_version(stage, before.version), after.entry.as_version(stage, after.version), found)


def _identify(forms: Sequence[Any], of: Sequence[Loaded]) -> None:
    """Add digests to those arrays, frames and tensors of two versions that may be the same."""
    found = [[tuple(content) for content in stored_forms(form)] for form in forms]
    in_both = set(found[0]) & set(found[1])
    for form, loaded in zip(forms, of, strict=True):
        at = 0
        for content in stored_forms(form):
            size = content[2]
            if tuple(content) in in_both and loaded.contents is not None and 0 <= size <= loaded.contents.size - at:
                digest = hashlib.sha256()
                with loaded.contents.open(at, size) as file:
                    while piece := file.read(SLICE_BYTES):
                        digest.update(piece)
                content.append(digest.hexdigest())
            at += size


def _load_pair(store: Store, stage: str, old: int | None, new: int | None) -> tuple[Loaded, Loaded]:
    later = new if new is not None else store.history.look(stage).number
    second = load_version(store, stage, later)
    if old is None:
        old = store.history.before(stage, later)
        if old is None:
            message = f"stage {printable(stage)} in {store.backend.location} has no version before version {later}"
            raise CheckpointNotFoundError(message, hint=Hint.SEE_HISTORY, stage=stage, version=later)
    return load_version(store, stage, old), second


def changes(old: Any, new: Any) -> tuple[Change, ...]:  # noqa: ANN401  # JSON is what it is
    """Return the differences, in the order of the paths."""
    return tuple(_compare(old, new, (), ""))


def _compare(old: Any, new: Any, path: Path, pointer: str) -> Iterator[Change]:  # noqa: ANN401
    tag = _common_tag(old, new)
    if tag in _ELEMENTS:
        yield from _compare_lists(old[tag], new[tag], path, f"{pointer}/{tag}")
    elif tag == "!dict":
        yield from _compare_pairs(old[tag], new[tag], path, f"{pointer}/{tag}")
    elif tag is None and type(old) is dict and type(new) is dict:
        yield from _compare_objects(old, new, path, pointer)
    elif type(old) is list and type(new) is list:
        yield from _compare_lists(old, new, path, pointer)
    elif _text(old) != _text(new):
        yield Change("changed", path, old, new, pointer)


_ELEMENTS = ("!tuple", "!set", "!frozenset")


def _common_tag(old: Any, new: Any) -> str | None:  # noqa: ANN401
    """Return the key of two forms of one kind that contain others; None if neither is a form, and empty otherwise."""
    tags = [tag_of(each) if type(each) is dict else None for each in (old, new)]
    if tags == [None, None]:
        return None
    contents = [each[tag] for each, tag in zip((old, new), tags, strict=True) if tag is not None]
    if tags[0] != tags[1] or not all(type(each) is list for each in contents):
        return ""
    is_paired = all(type(pair) is list and len(pair) == 2 for each in contents for pair in each)
    return tags[0] if tags[0] in _ELEMENTS or (tags[0] == "!dict" and is_paired) else ""


def _compare_pairs(old: list[Any], new: list[Any], path: Path, pointer: str) -> Iterator[Change]:
    """Compare dicts of any keys. What is added stands at the end, so that a patch need not move what is there."""
    before, after = ({_text(key): value for key, value in pairs} for pairs in (old, new))
    for index, (key, value) in enumerate(old):
        text, here = _text(key), (*path, key)
        if text not in after:
            yield Change("removed", here, value, None, f"{pointer}/{index}")
        else:
            yield from _compare(value, after[text], here, f"{pointer}/{index}/1")
    for key, value in new:
        if _text(key) not in before:
            yield Change("added", (*path, key), None, value, f"{pointer}/-", is_pair=True)


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


def _aligned(old: Sequence[bytes], new: Sequence[bytes], splits: int = _MOST_SPLITS) -> Iterator[tuple[int, int]]:
    """Yield the indexes of elements that stay, ascending in both lists."""
    shorter = min(len(old), len(new))
    head = next((index for index in range(shorter) if old[index] != new[index]), shorter)
    yield from ((index, index) for index in range(head))
    most = shorter - head
    tail = next((index for index in range(most) if old[-1 - index] != new[-1 - index]), most)
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    if middle_old and middle_new and splits:
        at_old = at_new = 0
        for same_old, same_new in [*_in_one_order(_once_in_both(middle_old, middle_new)), (len(middle_old), len(middle_new))]:
            # Between two anchors, the ends may have more in common.
            between = middle_old[at_old:same_old], middle_new[at_new:same_new]
            if between != (middle_old, middle_new):
                yield from ((head + at_old + left, head + at_new + right) for left, right in _aligned(*between, splits - 1))
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


def _line(change: Change, *, redact: bool, colour: bool) -> str:
    line = f"{_SIGNS[change.kind]} {printable(change.where)}: {_shown(change, redact=redact)}"
    return f"{_COLOURS[change.kind]}{line}{_PLAIN}" if colour else line


def _shown(change: Change, *, redact: bool) -> str:
    if not redact and isinstance(change.old, str) and isinstance(change.new, str) and change.kind == "changed":
        if "\n" in change.old and "\n" in change.new:
            return "".join(f"\n    {line}" for line in text_diff.changed_lines(change.old, change.new)).lstrip(" ")
        if max(len(change.old), len(change.new)) > _MOST_CHARACTERS // 2:
            return text_diff.changed_part(change.old, change.new)
    shown = _kind_of if redact else _text_of
    values = [shown(value) for kind, value in (("added", change.old), ("removed", change.new)) if kind != change.kind]
    return " → ".join(values)


def _as_shown(value: Any) -> Any:  # noqa: ANN401  # JSON is what it is
    """Return a value as ``show`` prints it: without the digests that were added to compare it."""
    if next(stored_forms(value), None) is None:
        return value
    copy = orjson.loads(orjson.dumps(value))
    for content in stored_forms(copy):
        del content[3:]
    return copy


def _text_of(value: Any) -> str:  # noqa: ANN401
    if type(value) is dict and value.keys() == {TAG} and [*stored_forms(value)]:
        digest = "".join(f" ({printable(str(each))[:8]}…)" for each in value[TAG][3:])
        return f"{_kind_of(value)}{digest}"
    text = printable(orjson.dumps(value).decode())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _kind_of(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, str):
        return f"a text of {counted(len(value), 'character')}"
    if isinstance(value, list):
        return f"a list of {counted(len(value), 'element')}"
    if isinstance(value, dict):
        return f"an object of {counted(len(value), 'key')}" if tag_of(value) is None else _kind_of_form(value)
    return _KINDS[type(value)]


def _kind_of_form(form: dict[str, Any]) -> str:
    ((tag, content),) = form.items()
    if tag == TAG and type(content) is list and len(content) > 1:
        return printable(f"{content[1]} of {content[0]}")
    noun = "key" if tag == "!dict" else "element"
    count = f" of {counted(len(content), noun)}" if tag in {*_ELEMENTS, "!dict"} and type(content) is list else ""
    name = {"!codec": "a value with a codec", "!bytes": "bytes"}.get(tag)
    return name or f"{with_article(tag[1:])}{count}"


def _step(step: Any) -> str:  # noqa: ANN401  # a key, or an index
    return f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{orjson.dumps(step).decode()}]"
