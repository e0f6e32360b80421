"""``NamedTuple`` of :mod:`typing` without its check of the annotations, which type checkers do better.

That check compiles the annotation of each field, and takes more than half of the time in which a class is made. An import of
the library makes more than forty. Such a class can have no other base class.

``_make`` of such a class is the constructor of ``tuple``: it makes one without a call of Python, and does not count the fields.
"""

from __future__ import annotations

from collections import namedtuple
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414  # for export
else:

    class _Maker(type):
        def __new__(cls, name: str, _: tuple[type, ...], content: dict[str, Any]) -> type:
            """Return the class of a body: its annotations are the fields, and their values the defaults."""
            fields = content["__annotations__"]
            defaults = [content.pop(field) for field in fields if field in content]
            made = namedtuple(name, fields, defaults=defaults, module=content.pop("__module__"))  # noqa: PYI024  # see above
            made._make = staticmethod(partial(tuple.__new__, made))
            for attribute, value in content.items():
                setattr(made, attribute, value)
            return made

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {})
