"""``NamedTuple`` of :mod:`typing`, made in a fifth of the time: an import of the library makes more than forty.

The one of :mod:`typing` compiles the annotation of each field, to check what type checkers check better, and the constructor of
each class. Here the constructor is compiled once for each number of fields. Such a class can have no other base class.

``_make`` of such a class is the constructor of ``tuple``: it makes one without a call of Python, and does not count the fields.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414  # for export
else:

    @functools.cache
    def _of_length(count: int) -> type:
        return namedtuple("_OfLength", [f"field{number}" for number in range(count)])  # noqa: PYI024  # what is checked is above

    def _repr(self: tuple) -> str:
        fields = ", ".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({fields})"

    def _replace(self: tuple, /, **changes: object) -> tuple:
        changed = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(changes)}")
        return changed

    class _Maker(type):
        def __new__(cls, name: str, _: tuple[type, ...], content: dict[str, Any]) -> type:
            """Return the class of a body: its annotations are the fields, and their values the defaults."""
            fields = tuple(content["__annotations__"])
            defaults = {field: content.pop(field) for field in fields if field in content}
            like = _of_length(len(fields))
            given = {**vars(like)}
            read = {field: given.pop(other) for field, other in zip(fields, like._fields, strict=True)}
            code = like.__new__.__code__.replace(co_varnames=("_cls", *fields))
            new = FunctionType(code, like.__new__.__globals__, "__new__", (*defaults.values(),))
            new.__qualname__ = f"{name}.__new__"
            about = {
                "__doc__": f"{name}({', '.join(fields)})",
                "_fields": fields,
                "_field_defaults": defaults,
                "__match_args__": fields,
            }
            methods = {"__new__": new, "__repr__": _repr, "_replace": _replace, "__replace__": _replace}
            made = type(name, (tuple,), given | read | about | methods | content)
            made._make = staticmethod(functools.partial(tuple.__new__, made))
            return made

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})
