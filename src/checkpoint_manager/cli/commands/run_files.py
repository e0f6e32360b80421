"""What ``run`` compares beside the command line: the files that a command reads and writes, its folder, variables and stdin."""

from __future__ import annotations

import hashlib
import os
import select
import stat
import tempfile
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from checkpoint_manager._text import printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Iterable

_PIECE = 1024 * 1024
_SILENT_WAIT = 3.0
"""How long nothing may come from stdin until that is said, in seconds."""


def digests_of(paths: Iterable[str]) -> dict[str, str]:
    """Return the digests of the contents of files that a command reads.

    Raises:
        UsageError: One of them can't be read, or is not a file.
    """
    found = {}
    for path in paths:
        content = digest_of(path)
        if content is None:
            raise UsageError(f"the input {printable(path)} is not a file that can be read", hint="Name files that are there")
        found[storable(path)] = content
    return found


def digest_of(path: str) -> str | None:
    """Return the digest of a file's content, read in pieces; None if it is not a regular file, or can't be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def changed_output(result: object, paths: Iterable[str]) -> str:
    """Return why the outputs of a command are not what its result says they were; empty if they are."""
    outputs = result.get("outputs") if isinstance(result, dict) else None
    known = outputs if isinstance(outputs, dict) else {}
    for path in paths:
        now = digest_of(path)
        if now is None or now != known.get(storable(path)):
            return f"output {printable(path)} {'is missing' if now is None else 'changed'}"
    return ""


class Stdin(NamedTuple):
    """What a command gets as stdin.

    Attributes:
        digest: Of its content; empty if it is not read here.
        copy: A copy of it; None if the command gets that of this program.
        start: Where the command begins to read in a file; None if it is not a file.
    """

    digest: str = ""
    copy: BinaryIO | None = None
    start: int | None = None

    def rewind(self) -> None:
        """Let the next command read it from the beginning, where that is possible."""
        if self.copy is not None:
            self.copy.seek(0)
        elif self.start is not None:
            os.lseek(0, self.start, os.SEEK_SET)


INHERITED = Stdin()


def stdin_of() -> Stdin:
    """Return the content of stdin, to compare it and to give it to more than one command.

    A terminal, and what is not a file or a pipe, has no content. A pipe is read to its end, into memory where the system has
    files there.
    """
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # closed
        return INHERITED
    if stat.S_ISREG(mode):
        start = os.lseek(0, 0, os.SEEK_CUR)
        with os.fdopen(os.dup(0), "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        os.lseek(0, start, os.SEEK_SET)
        return Stdin(content, start=start)
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return INHERITED
    copy: BinaryIO = os.fdopen(os.memfd_create("stdin"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()  # noqa: SIM115
    hasher = hashlib.sha256()
    if not select.select([0], [], [], _SILENT_WAIT)[0]:
        say("waiting for the end of stdin, which is read first: add < /dev/null if the command does not read it")
    while piece := os.read(0, _PIECE):
        hasher.update(piece)
        copy.write(piece)
    return Stdin(hasher.hexdigest(), copy)


def storable(path: str) -> str:
    """Return a path as text that JSON can hold."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
