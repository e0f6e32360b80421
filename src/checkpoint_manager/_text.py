"""Escaping of untrusted text before it is shown.

Stage names, paths, labels, host names and stored text may come from an attacker. Shown as they are, they could move a
terminal's cursor, forge a line of a log, or reverse the direction of the text that follows. :func:`printable` prepares such a
text for use inside a sentence. :func:`escaped` is the last guard: every error message and every log record passes through it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from checkpoint_manager._loading import load

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PRINTED_CHARACTERS = 300
"""The limit above which only the beginning and the end of a text are shown; no stage name is that long."""


def printable(text: str, limit: int = MAX_PRINTED_CHARACTERS) -> str:
    """Return untrusted text in a form that is safe inside a sentence.

    Text with unprintable characters (control characters, line separators, bidirectional marks, or the surrogates of a file name
    that is not UTF-8) is returned as a quoted Python literal. Long text is shortened in the middle. Other text is unchanged.
    """
    if len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return text if text.isprintable() else repr(str(text))


def escaped(text: str) -> str:
    """Return a whole message as one line: unprintable characters are escaped, and the rest is unchanged."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in text)


def is_unicode(text: str) -> bool:
    """Return whether a text is valid Unicode, and not half a surrogate pair: only that can be written in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def with_article(noun: str) -> str:
    """Return a noun, such as the name of a type, with its indefinite article."""
    return f"an {noun}" if noun[:1].lower() in {"a", "e", "i", "o", "u"} else f"a {noun}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that names what is nearest to a misspelt name; empty if nothing is near."""
    # 64 characters and a thousand names: what a store holds decides how long this takes.
    near: list[str] = load("difflib").get_close_matches(name[:64], list(islice(known, 1000)), n=1, cutoff=0.6)
    return f" (did you mean {printable(near[0])}?)" if near else ""


def counted(number: int, noun: str) -> str:
    """Return a number of things, with the plural where it is not one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
