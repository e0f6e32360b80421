"""Text from outside, made safe for the people who read it: the one place where that is done.

Stage names, paths, labels, host names and stored text come from files that others may write. Shown as they are, they could move
a terminal's cursor, begin a line of a log that nobody wrote, or change the direction of what follows. :func:`printable` is for
such a text inside a sentence. :func:`escaped` is the last guard: every message of an error, and every record of a log, passes
through it as a whole.
"""

from __future__ import annotations

MAX_PRINTED_CHARACTERS = 300
"""Longer than any stage name; of longer text, its beginning and its end are shown."""


def printable(text: str, limit: int = MAX_PRINTED_CHARACTERS) -> str:
    """Return text from outside as it can stand in a sentence.

    What is not printable (control characters, line separators, marks that change the direction of writing, lone surrogates of
    names that are not UTF-8) is escaped as in a Python literal, in quotes; long text is cut in its middle. Other text stays as
    it is.
    """
    if len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return text if text.isprintable() else repr(str(text))


def escaped(text: str) -> str:
    """Return a whole message as one safe line: what is not printable becomes an escape, and the rest stays as it is."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in text)
