"""Codecs by type and by name: how the types that the library does not know are saved and loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkpoint_manager._arguments import elements, wrong
from checkpoint_manager._loading import load
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._text import is_unicode
from checkpoint_manager.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkpoint_manager._format.embedded import Embedded, Reader
    from checkpoint_manager.models import Codec

_MAX_NAME = 255


class Codecs(NamedTuple):
    """The codecs of a manager, and what becomes of the arrays, frames and tensors in the data that is written or read.

    Attributes:
        by_type: The codecs by the types of the values.
        by_name: The codecs by their names.
        embedded: Takes the contents that are written; None where there may be none.
        contents: Reads the contents; None where there may be none.
    """

    by_type: Mapping[type, Codec[Any]]
    by_name: Mapping[str, Codec[Any]]
    embedded: Embedded | None = None
    contents: Reader | None = None


NO_CODECS = Codecs({}, {})


def checked(codecs: object) -> Codecs:
    """Return the codecs that the caller gave, by type and by name.

    Raises:
        ArgumentError: One of them is not a codec, or two of them have the same type or name.
    """
    found = [_checked(each) for each in elements("codecs", codecs, "a list of Codec")]
    result = Codecs({each.type: each for each in found}, {each.name: each for each in found})
    if not len(result.by_type) == len(result.by_name) == len(found):
        message = "two codecs have the same type or the same name"
        raise ArgumentError(message, hint="Give each type one codec, and each codec a name of its own", argument="codecs")
    return result


def _checked(given: object) -> Codec[Any]:
    if not isinstance(given, load("checkpoint_manager.models").Codec):
        raise wrong("codecs", given, "a list of Codec")
    codec: Codec[Any] = given
    if not isinstance(codec.type, type):
        raise wrong("type of a codec", codec.type, "a class")
    if load("checkpoint_manager._format.values").is_known(codec.type):
        message = f"{codec.type.__qualname__} needs no codec"
        raise ArgumentError(message, hint="Leave it out: the library saves this type itself", argument="codecs")
    name: object = codec.name
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not is_unicode(name):
        raise wrong("name of a codec", name, f"a text of 1 to {_MAX_NAME} characters")
    for what, function in (("encode of a codec", codec.encode), ("decode of a codec", codec.decode)):
        if not callable(function):
            raise wrong(what, function, "a function")
    return codec
