"""Data as a tree, in parts: as many rows as a page can hold, and pointers to what is left out.

What is shown is JSON with forms: an object with one key that begins with ``!`` is a value that JSON does not have. A pointer is
a JSON pointer (RFC 6901). It is sent in the body of a form, because a key may be data.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ROWS = 400
"""How many values a page shows."""
_MOST_IN_GROUP = 50
"""How many elements of a list or an object are shown before a link to the rest."""
_MOST_LEVELS = 24
"""How many levels deep a page shows."""
_MOST_CHARACTERS = 2000
_LISTS = frozenset({"!tuple", "!set", "!frozenset"})
_MOST_FOUND = 100
_MOST_SEARCHED = 2_000_000


@dataclass(slots=True)
class Node:
    """One value.

    Attributes:
        key: Its key or index, or the empty string at the top.
        kind: ``object``, ``list``, ``text``, ``number``, ``true or false``, ``null``, or the name of a form.
        pointer: Where it is.
        text: What it says; for an object or a list, how long it is.
        children: What is in it, as far as it is shown.
        more: The place of the first element that is not shown; None if all are.
        is_folded: Whether it is shown without its elements at first.
    """

    key: str
    kind: str
    pointer: str
    text: str
    children: list[Node] = field(default_factory=list)
    more: int | None = None
    is_folded: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the data.

    Attributes:
        nodes: What is shown: one tree, or what a search found.
        pointer: Where it begins.
        steps: The names and pointers of what it is in, from the top.
        start: The place of the first element that is shown.
        search: What was searched for.
        is_cut: Whether a search ended early.
    """

    nodes: list[Node]
    pointer: str = ""
    steps: tuple[tuple[str, str], ...] = ()
    start: int = 0
    search: str = ""
    is_cut: bool = False


def part(data: Any, pointer: str = "", start: int = 0, search: str = "") -> Part:  # noqa: ANN401  # JSON is what it is
    """Return what a pointer leads to, from an element on; or what a search in it finds.

    Raises:
        LookupError: It leads nowhere.
    """
    keys = _keys_of(pointer)
    value, steps, here = data, [("data", "")], ""
    for key in keys:
        value = _inside(value, key)
        here += f"/{escaped(key)}"
        steps.append((key, here))
    if search:
        nodes, is_cut = _found(value, pointer, search.casefold())
        return Part(nodes, pointer, tuple(steps), 0, search, is_cut)
    budget = _Budget(MOST_ROWS)
    return Part([_node(keys[-1] if keys else "", value, pointer, budget, start)], pointer, tuple(steps), start)


def value_at(data: Any, pointer: str) -> Any:  # noqa: ANN401
    """Return the value that a pointer leads to.

    Raises:
        LookupError: It leads nowhere.
    """
    for key in _keys_of(pointer):
        data = _inside(data, key)
    return data


@dataclass(slots=True)
class _Budget:
    left: int


class _Group(NamedTuple):
    """What holds other values.

    Attributes:
        kind: What it is called.
        value: The list or the object of them.
        form: The key of the form that they are in; empty if they are in none.
    """

    kind: str
    value: list[Any] | dict[str, Any]
    form: str = ""

    def elements(self, start: int = 0, end: int | None = None) -> Iterator[tuple[str, Any, str]]:
        """Yield the name of each element, itself, and the step to it."""
        if isinstance(self.value, dict):
            for key, each in itertools.islice(self.value.items(), start, end):
                yield key, each, f"/{escaped(key)}"
            return
        step = f"/{self.form}" if self.form else ""
        for index in range(start, len(self.value) if end is None else min(end, len(self.value))):
            each = self.value[index]
            if self.form == "!dict":
                yield orjson.dumps(each[0]).decode(), each[1], f"{step}/{index}/1"
            else:
                yield str(index), each, f"{step}/{index}"


def _node(key: str, value: Any, pointer: str, budget: _Budget, start: int = 0, depth: int = 0) -> Node:  # noqa: ANN401
    budget.left -= 1
    group = _group(value)
    if group is None:
        kind, text = _scalar(value)
        return Node(key, kind, pointer, text)
    node = Node(key, group.kind, pointer, str(len(group.value)))
    end = start + _MOST_IN_GROUP if depth < _MOST_LEVELS else start
    for name, element, step in group.elements(start, end):
        if budget.left <= 0:
            end = start + len(node.children)
            break
        node.children.append(_node(name, element, pointer + step, budget, depth=depth + 1))
    if end < len(group.value):
        node.more = end
    node.is_folded = depth > 0 and len(group.value) > _MOST_IN_GROUP // 2
    return node


def _group(value: Any) -> _Group | None:  # noqa: ANN401
    """Return a value as what holds other values; None if it holds none."""
    if isinstance(value, list):
        return _Group("list", value)
    if not isinstance(value, dict):
        return None
    form = next(iter(value)) if len(value) == 1 else ""
    content = value.get(form)
    if form in _LISTS and isinstance(content, list):
        return _Group(form[1:], content, form)
    if form == "!dict" and isinstance(content, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in content):
        return _Group("dict", content, form)
    return None if form.startswith("!") else _Group("object", value)


def _scalar(value: Any) -> tuple[str, str]:  # noqa: ANN401  # JSON is what it is
    match value:
        case None:
            return "null", "null"
        case bool():
            return "true or false", "true" if value else "false"
        case int() | float():
            return "number", str(value)
        case str():
            return "text", value if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}… ({len(value)} characters)"
        case _:
            ((form, content),) = value.items()
            if form == "!content" and isinstance(content, list) and len(content) >= 3:
                return str(content[0]), f"{content[1]}{f', {content[2]} bytes' if len(content) > 3 else ''}"
            return form.removeprefix("!") or "form", _form(content)


def _form(content: Any) -> str:  # noqa: ANN401
    """Return what a value says that JSON does not have."""
    text = str(content)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}… ({len(text)} characters)"


def _found(value: Any, pointer: str, wanted: str) -> tuple[list[Node], bool]:  # noqa: ANN401
    """Return the values whose key or text holds what is searched for, in order."""
    found: list[Node] = []
    waiting, looked_at = [(pointer, iter([("", value, "")]))], 0
    while waiting:
        above, following = waiting[-1]
        key, each, step = next(following, (None, None, ""))
        if key is None:
            waiting.pop()
            continue
        looked_at += 1
        if looked_at > _MOST_SEARCHED or len(found) >= _MOST_FOUND:
            return found, True
        group, here = _group(each), above + step
        kind, text = _scalar(each) if group is None else (group.kind, str(len(group.value)))
        if wanted in key.casefold() or (group is None and wanted in text.casefold()):
            found.append(Node(here or "data", kind, here, text, more=0 if group is not None and group.value else None))
        if group is not None:
            waiting.append((here, group.elements()))
    return found, False


def _inside(value: Any, key: str) -> Any:  # noqa: ANN401
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and key.isascii() and key.isdecimal() and int(key[:18]) < len(value):
        return value[int(key)]
    raise LookupError(key)


def _keys_of(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise LookupError(pointer)
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def escaped(key: str) -> str:
    """Return a key as a step of a pointer."""
    return key.replace("~", "~0").replace("/", "~1")
