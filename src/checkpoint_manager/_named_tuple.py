"""``NamedTuple`` of :mod:`typing`, made in a fifth of the time: an import of the library makes more than forty.

The one of :mod:`typing` compiles the annotation of each field, to check what type checkers check better, and the constructor of
each class. Here the constructors are compiled with this module, one for each number of fields. Such a class can have no other
base class.

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
    _new = tuple.__new__
    _CONSTRUCTORS = (
        lambda _cls: _new(_cls, ()),
        lambda _cls, a: _new(_cls, (a,)),
        lambda _cls, a, b: _new(_cls, (a, b)),
        lambda _cls, a, b, c: _new(_cls, (a, b, c)),
        lambda _cls, a, b, c, d: _new(_cls, (a, b, c, d)),
        lambda _cls, a, b, c, d, e: _new(_cls, (a, b, c, d, e)),
        lambda _cls, a, b, c, d, e, f: _new(_cls, (a, b, c, d, e, f)),
        lambda _cls, a, b, c, d, e, f, g: _new(_cls, (a, b, c, d, e, f, g)),
        lambda _cls, a, b, c, d, e, f, g, h: _new(_cls, (a, b, c, d, e, f, g, h)),
        lambda _cls, a, b, c, d, e, f, g, h, i: _new(_cls, (a, b, c, d, e, f, g, h, i)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j: _new(_cls, (a, b, c, d, e, f, g, h, i, j)),
    )
    """By the number of fields."""
    _Longest = namedtuple("_Longest", [f"field{number}" for number in range(len(_CONSTRUCTORS) - 1)])  # noqa: PYI024  # what is checked is above
    _GETTERS = [vars(_Longest)[field] for field in _Longest._fields]

    def _repr(self: tuple) -> str:
        fields = ", ".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({fields})"

    def _replace(self: tuple, /, **changes: object) -> tuple:
        changed = self._make(map(changes.pop, self._fields, self))
        if changes:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(changes)}")
        return changed

    _METHODS = {
        "__slots__": (),
        "__repr__": _repr,
        "__getnewargs__": _Longest.__getnewargs__,
        "_asdict": _Longest._asdict,
        "_replace": _replace,
        "__replace__": _replace,
    }

    class _Maker(type):
        def __new__(cls, name: str, _: tuple[type, ...], content: dict[str, Any]) -> type:
            """Return the class of a body: its annotations are the fields, and their values the defaults."""
            fields = tuple(content["__annotations__"])
            defaults = {field: content.pop(field) for field in fields if field in content}
            code = _CONSTRUCTORS[len(fields)].__code__.replace(co_varnames=("_cls", *fields))
            new = FunctionType(code, globals(), "__new__", (*defaults.values(),))
            new.__qualname__ = f"{name}.__new__"
            about = {
                "__doc__": f"{name}({', '.join(fields)})",
                "__match_args__": fields,
                "_fields": fields,
                "_field_defaults": defaults,
                "__new__": new,
            }
            read = zip(fields, _GETTERS, strict=False)  # the first ones
            made = type(name, (tuple,), {**_METHODS, **about, **dict(read), **content})
            made._make = staticmethod(functools.partial(_new, made))
            return made

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})
