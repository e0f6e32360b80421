"""What changed between two versions, as values, as text for people, and as a patch for programs.

Finding the changes is in :mod:`checkpoint_manager._operations.compare`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson

from checkpoint_manager.models import display

if TYPE_CHECKING:
    from checkpoint_manager.models import Version

Path: TypeAlias = tuple[str | int, ...]

_MOST_CHARACTERS = 80
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
        path: Where: keys and indexes from the top; as in the new version, of what was removed as in the old one.
        old: What was there; None if it was added.
        new: What is there now; None if it was removed.
        pointer: Where a patch finds it once the operations before it are done, as a JSON pointer (RFC 6901).
    """

    kind: Literal["added", "removed", "changed"]
    path: Path
    old: Any = field(repr=False)
    new: Any = field(repr=False)
    pointer: str

    @property
    def where(self) -> str:
        """The path as errors and reports show it, such as ``$.rows[3].name``."""
        return "$" + "".join(map(_step, self.path))


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between two versions of a stage.

    Values are compared as JSON: ``1``, ``1.0`` and ``true`` are three different ones. The order of keys is no difference.

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
        """Return the operations that make the new data of the old (RFC 6902, JSON Patch)."""
        operations: list[dict[str, Any]] = []
        for change in reversed(self.changes):  # from the end: what is done there moves nothing that comes before it
            operation: dict[str, Any] = {"op": _OPERATIONS[change.kind], "path": change.pointer}
            operations.append(operation if change.kind == "removed" else operation | {"value": change.new})
        return operations

    def as_dicts(self, *, redact: bool = False) -> list[dict[str, Any]]:
        """Return the differences as JSON values; with ``redact``, what kind of value instead of the value."""
        shown = _kind_of if redact else _same
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
        """Return a line for each difference.

        Args:
            redact: Show where and what kind of value, and no value.
            colour: Mark added, removed and changed ones with colours of a terminal.
        """
        return "\n".join(_line(change, redact=redact, colour=colour) for change in self.changes)


def _line(change: Change, *, redact: bool, colour: bool) -> str:
    shown = _kind_of if redact else _text_of
    values = [shown(value) for kind, value in (("added", change.old), ("removed", change.new)) if kind != change.kind]
    line = f"{_SIGNS[change.kind]} {display(change.where)}: {' → '.join(values)}"
    return f"{_COLOURS[change.kind]}{line}{_PLAIN}" if colour else line


def _same(value: Any) -> Any:  # noqa: ANN401  # JSON is what it is
    return value


def _text_of(value: Any) -> str:  # noqa: ANN401
    text = display(orjson.dumps(value).decode())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _kind_of(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    return _KINDS[type(value)]


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{orjson.dumps(step).decode()}]"
