"""What a process does to files, as the kernel saw it: read from a log of strace, in the order in which it happened.

Only what matters to a power cut is kept: what is made, written, linked, renamed, removed and synced, below one directory; and
marks, which the process sets by asking for the status of a path that begins with :data:`MARK`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MARK = "/acknowledged/"
_TRACED = (
    *("open", "openat", "close", "write", "pwrite64", "ftruncate", "fsync", "fdatasync", "link", "linkat", "rename"),
    *("renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "stat", "newfstatat"),
)
OPTIONS = ("-f", "-xx", "-s", "100000000", "-e", f"trace={','.join(_TRACED)}")


@dataclass(frozen=True)
class Make:
    """A file or directory came into being under a path."""

    path: str
    directory: bool


@dataclass(frozen=True)
class Write:
    """Bytes were written to what stands at a path, or was made there."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    """A file was cut to a length."""

    file: int
    length: int


@dataclass(frozen=True)
class Sync:
    """A file or directory was synced."""

    file: int


@dataclass(frozen=True)
class Open:
    """A path was opened as this file, for what follows."""

    file: int
    path: str


@dataclass(frozen=True)
class Link:
    """A file got a second name."""

    old: str
    new: str


@dataclass(frozen=True)
class Rename:
    """A name was moved."""

    old: str
    new: str


@dataclass(frozen=True)
class Unlink:
    """A name was removed."""

    path: str


@dataclass(frozen=True)
class Mark:
    """The process said something."""

    text: str


Step: TypeAlias = Make | Write | Cut | Sync | Open | Link | Rename | Unlink | Mark

_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_CLOSE = re.compile(r"\d+ +close\(\d+")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_ASKING = {"stat", "newfstatat"}
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def read(log: Path, root: str) -> list[Step]:
    """Return the steps in a log, of what lies below ``root``."""
    reader = _Reader(root.rstrip("/") + "/")
    for line in _whole(log.read_text(errors="replace").splitlines()):
        match = _LINE.match(line)
        if match and (not match[3].startswith("-") or match[1] in _ASKING):
            reader.take(match[1], match[2], int(match[3]))
    return reader.steps


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a log of several threads, those of an interrupted call joined where it ended.

    A ``close`` counts where it began: from then on, another thread may be given the number of its descriptor.
    """
    begun: dict[str, str] = {}
    for line in lines:
        if line.endswith(" <unfinished ...>"):
            start = line.removesuffix(" <unfinished ...>")
            if is_close := _CLOSE.match(start):
                yield f"{is_close[0]}) = 0"
            begun[start.split()[0]] = "" if is_close else start
        elif match := _RESUMED.match(line):
            yield (start + match[2]) if (start := begun.pop(match[1])) else ""
        else:
            yield line


class _Reader:
    def __init__(self, root: str) -> None:
        self.steps: list[Step] = []
        self._root = root
        self._known: set[str] = {root.rstrip("/")}
        self._open: dict[int, tuple[int, str]] = {}
        self._offsets: dict[int, int] = {}
        self._count = 0

    def take(self, name: str, arguments: str, result: int) -> None:
        strings = [ast.literal_eval(f'b"{match[1]}"') for match in _STRING.finditer(arguments)]
        assert not any(match[2] for match in _STRING.finditer(arguments)), "strace cut a string short"
        numbers = [part.strip() for part in _STRING.sub("S", arguments).split(",")]
        if name in _ASKING:
            self._asked(strings)
        elif (handler := getattr(self, f"_take_{name}", None)) is not None:
            handler(strings, numbers, result)

    def _path(self, directory: str, name: bytes) -> str:
        text = name.decode("utf-8", "surrogateescape")
        if text.startswith("/") or directory == "AT_FDCWD":
            return text
        return f"{self._open[int(directory)][1]}/{text}" if int(directory) in self._open else f"?/{text}"

    def _ours(self, *paths: str) -> bool:
        return all(path.startswith(self._root) for path in paths)

    def _opened(self, path: str, flags: str, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        if not self._ours(path):
            return
        if "O_CREAT" in flags and path not in self._known:
            self._known.add(path)
            self.steps.append(Make(path, directory=False))
        self._count += 1
        self._open[descriptor] = (self._count, path)
        self._offsets[descriptor] = 0
        self.steps.append(Open(self._count, path))

    def _take_open(self, strings: list[bytes], numbers: list[str], result: int) -> None:
        self._opened(strings[0].decode(), numbers[1], result)

    def _take_openat(self, strings: list[bytes], numbers: list[str], result: int) -> None:
        self._opened(self._path(numbers[0], strings[0]), numbers[2], result)

    def _take_close(self, _: list[bytes], numbers: list[str], __: int) -> None:
        self._open.pop(int(numbers[0]), None)

    def _take_write(self, strings: list[bytes], numbers: list[str], result: int) -> None:
        descriptor = int(numbers[0])
        if descriptor in self._open:
            self.steps.append(Write(self._open[descriptor][0], self._offsets[descriptor], strings[0][:result]))
            self._offsets[descriptor] += result

    def _take_pwrite64(self, strings: list[bytes], numbers: list[str], result: int) -> None:
        descriptor = int(numbers[0])
        if descriptor in self._open:
            self.steps.append(Write(self._open[descriptor][0], int(numbers[3]), strings[0][:result]))

    def _take_ftruncate(self, _: list[bytes], numbers: list[str], __: int) -> None:
        if int(numbers[0]) in self._open:
            self.steps.append(Cut(self._open[int(numbers[0])][0], int(numbers[1])))

    def _take_fsync(self, _: list[bytes], numbers: list[str], __: int) -> None:
        if int(numbers[0]) in self._open:
            self.steps.append(Sync(self._open[int(numbers[0])][0]))

    _take_fdatasync = _take_fsync

    def _two(self, old: str, new: str, kind: type[Link | Rename]) -> None:
        if self._ours(old, new):
            self._known.add(new)
            if kind is Rename:
                self._known.discard(old)
            self.steps.append(kind(old, new))

    def _take_link(self, strings: list[bytes], _: list[str], __: int) -> None:
        self._two(strings[0].decode(), strings[1].decode(), Link)

    def _take_linkat(self, strings: list[bytes], numbers: list[str], _: int) -> None:
        self._two(self._path(numbers[0], strings[0]), self._path(numbers[2], strings[1]), Link)

    def _take_rename(self, strings: list[bytes], _: list[str], __: int) -> None:
        self._two(strings[0].decode(), strings[1].decode(), Rename)

    def _take_renameat(self, strings: list[bytes], numbers: list[str], _: int) -> None:
        self._two(self._path(numbers[0], strings[0]), self._path(numbers[2], strings[1]), Rename)

    _take_renameat2 = _take_renameat

    def _removed(self, path: str) -> None:
        if self._ours(path):
            self._known.discard(path)
            self.steps.append(Unlink(path))

    def _take_unlink(self, strings: list[bytes], _: list[str], __: int) -> None:
        self._removed(strings[0].decode())

    def _take_unlinkat(self, strings: list[bytes], numbers: list[str], _: int) -> None:
        self._removed(self._path(numbers[0], strings[0]))

    def _made(self, path: str) -> None:
        if self._ours(path):
            self._known.add(path)
            self.steps.append(Make(path, directory=True))

    def _take_mkdir(self, strings: list[bytes], _: list[str], __: int) -> None:
        self._made(strings[0].decode())

    def _take_mkdirat(self, strings: list[bytes], numbers: list[str], _: int) -> None:
        self._made(self._path(numbers[0], strings[0]))

    def _asked(self, strings: list[bytes]) -> None:
        if strings and strings[0].startswith(MARK.encode()):
            self.steps.append(Mark(bytes.fromhex(strings[0].decode().removeprefix(MARK)).decode()))
