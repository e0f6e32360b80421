"""Data as a tree, in parts: as many rows as a page can hold, and pointers to what is left out.

What is shown is JSON with forms: an object with one key that begins with ``!`` is a value that JSON does not have. A pointer is
a JSON pointer (RFC 6901). It is sent in the body of a form, because a key may be data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

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


def _node(key: str, value: Any, pointer: str, budget: _Budget, start: int = 0, depth: int = 0) -> Node:  # noqa: ANN401
    budget.left -= 1
    elements = _elements(value)
    if elements is None:
        kind, text = _scalar(value)
        return Node(key, kind, pointer, text)
    kind, items = elements
    node = Node(key, kind, pointer, str(len(items)))
    end = start + _MOST_IN_GROUP if depth < _MOST_LEVELS else start
    for name, element, step in items[start:end]:
        if budget.left <= 0:
            end = start + len(node.children)
            break
        node.children.append(_node(name, element, pointer + step, budget, depth=depth + 1))
    if end < len(items):
        node.more = end
    node.is_folded = depth > 0 and len(items) > _MOST_IN_GROUP // 2
    return node


def _elements(value: Any) -> tuple[str, list[tuple[str, Any, str]]] | None:  # noqa: ANN401
    """Return the kind of what holds other values, and of each its name, itself and the step to it; None: it holds none."""
    if isinstance(value, list):
        return "list", [(str(index), each, f"/{index}") for index, each in enumerate(value)]
    if not isinstance(value, dict):
        return None
    form = next(iter(value)) if len(value) == 1 else ""
    content = value.get(form)
    if form in _LISTS and isinstance(content, list):
        return form[1:], [(str(index), each, f"/{form}/{index}") for index, each in enumerate(content)]
    if form == "!dict" and isinstance(content, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in content):
        return "dict", [(orjson.dumps(key).decode(), each, f"/{form}/{index}/1") for index, (key, each) in enumerate(content)]
    if form.startswith("!"):
        return None
    return "object", [(key, each, f"/{escaped(key)}") for key, each in value.items()]


def _scalar(value: Any) -> tuple[str, str]:  # noqa: ANN401, PLR0911  # one for each kind
    match value:
        case None:
            return "null", "null"
        case bool():
            return "true or false", "true" if value else "false"
        case int() | float():
            return "number", str(value)
        case str():
            return "text", value if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}… ({len(value)} characters)"
        case dict():
            ((form, content),) = value.items()
            if form == "!content" and isinstance(content, list) and len(content) >= 3:
                return str(content[0]), f"{content[1]}{f', {content[2]} bytes' if len(content) > 3 else ''}"
            return form.removeprefix("!") or "form", _form(content)
        case _:
            return type(value).__name__, str(value)[:_MOST_CHARACTERS]


def _form(content: Any) -> str:  # noqa: ANN401
    """Return what a value says that JSON does not have."""
    text = str(content)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}… ({len(text)} characters)"


def _found(value: Any, pointer: str, wanted: str) -> tuple[list[Node], bool]:  # noqa: ANN401
    """Return the values whose key or text holds what is searched for, in order."""
    found: list[Node] = []
    waiting, looked_at = [("", value, pointer)], 0
    while waiting:
        key, each, here = waiting.pop()
        looked_at += 1
        if looked_at > _MOST_SEARCHED or len(found) >= _MOST_FOUND:
            return found, True
        elements = _elements(each)
        kind, text = (elements[0], str(len(elements[1]))) if elements is not None else _scalar(each)
        if wanted in key.casefold() or (elements is None and wanted in text.casefold()):
            more = 0 if elements is not None and elements[1] else None
            found.append(Node(here or "data", kind, here, text, more=more))
        for name, element, step in reversed(elements[1] if elements is not None else []):
            waiting.append((name, element, here + step))
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
