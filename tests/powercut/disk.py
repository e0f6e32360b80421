"""What may be left on a disk when the power is cut, as far as a file system promises anything.

* Of a file, what was synced is there. Of what was written since, any beginning is there, whole blocks of it alone, zeros in
  their place, or nothing.
* Of a directory, the names that were there at its last sync are there. Each change of a name since is there or not, whatever
  became of the other ones: of a rename, the new name may be there and the old one too.
* A name and the file's content do not depend on one another.

This is stricter than most file systems: what holds here holds on all of them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tests.powercut.recording import Cut, Link, Make, Mark, Open, Rename, Step, Sync, Unlink, Write

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

BLOCK_BYTES = 4096
MOST_CHANGES = 7
"""Up to so many unsynced names, all subsets are tried; beyond, a choice of them."""
CHOSEN_SUBSETS = 24


@dataclass(eq=False)
class File:
    """A file: what is durable of it, and every content it may have instead."""

    durable: bytes = b""
    content: bytes = b""
    possible: list[bytes] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        for end in range(BLOCK_BYTES - offset % BLOCK_BYTES, len(data), BLOCK_BYTES):
            self._may_be(self._with(offset, data[:end]))
            self._may_be(self._with(offset, bytes(end) + data[end:]))
        if offset + len(data) > len(self.content):
            self._may_be(self._with(offset, bytes(len(data))))
        self.content = self._with(offset, data)
        self._may_be(self.content)

    def cut(self, length: int) -> None:
        self.content = self.content[:length].ljust(length, b"\0")
        self._may_be(self.content)

    def sync(self) -> None:
        self.durable = self.content
        self.possible = []

    def states(self) -> list[bytes]:
        return [self.durable, *self.possible]

    def _with(self, offset: int, data: bytes) -> bytes:
        padded = self.content.ljust(offset, b"\0")
        return padded[:offset] + data + padded[offset + len(data) :]

    def _may_be(self, content: bytes) -> None:
        if content != self.durable and content not in self.possible:
            self.possible.append(content)


Node: TypeAlias = "File | Directory"


@dataclass(eq=False)
class Directory:
    """A directory: the names that are durable, those that are there, and each change in between."""

    durable: dict[str, Node] = field(default_factory=dict)
    names: dict[str, Node] = field(default_factory=dict)
    changes: list[tuple[str, Node | None]] = field(default_factory=list)

    def change(self, name: str, node: Node | None) -> None:
        if node is None:
            del self.names[name]
        else:
            self.names[name] = node
        self.changes.append((name, node))

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.changes = []

    def states(self, dice: random.Random) -> list[dict[str, Node]]:
        count = len(self.changes)
        if count <= MOST_CHANGES:
            kept = [set(subset) for size in range(count + 1) for subset in itertools.combinations(range(count), size)]
        else:
            everything = set(range(count))
            kept = [set(), everything, *(everything - {one} for one in everything), *({one} for one in everything)]
            kept += [{one for one in everything if dice.random() < 0.5} for _ in range(CHOSEN_SUBSETS)]
        states: list[dict[str, Node]] = []
        for subset in kept:
            names = dict(self.durable)
            for index in sorted(subset):
                name, node = self.changes[index]
                if node is None:
                    names.pop(name, None)
                else:
                    names[name] = node
            if names not in states:
                states.append(names)
        return states


Tree: TypeAlias = "tuple[tuple[str, bytes | Tree], ...]"


class Disk:
    """A directory tree on a disk that may lose its power.

    Args:
        root: Its path in the recording.
        directories: Paths of directories that are there from the start, durably.
    """

    def __init__(self, root: str, directories: tuple[str, ...]) -> None:
        self._prefix = root.rstrip("/") + "/"
        self._root = Directory()
        self._open: dict[int, Node] = {}
        self.marks: list[str] = []
        for path in directories:
            self._make(path, Directory())
            self._parent(path)[0].sync()

    def take(self, step: Step) -> None:
        """Follow one step."""
        match step:
            case Make(path, directory):
                folder, name = self._parent(path)
                if name not in folder.names:  # a recording of a later process does not know what an earlier one made
                    folder.change(name, Directory() if directory else File())
            case Open(file, path):
                self._open[file] = self._node(path)
            case Write(file, offset, data):
                self._file(file).write(offset, data)
            case Cut(file, length):
                self._file(file).cut(length)
            case Sync(file):
                self._open[file].sync()
            case Link(old, new):
                self._make(new, self._node(old))
            case Rename(old, new):
                node = self._node(old)
                directory, name = self._parent(new)
                if directory.names.get(name) is not node:  # two names of one file: rename does nothing
                    directory.change(name, node)
                    self._unlink(old)
            case Unlink(path):
                self._unlink(path)
            case Mark(text):
                self.marks.append(text)

    def after_a_power_cut(self, limit: int, dice: random.Random) -> Iterator[Tree]:
        """Yield the trees that may be left: all of them, or ``limit`` if there are more."""
        nodes = list(self._nodes(self._root))
        choices = [list(range(len(node.states()))) if isinstance(node, File) else node.states(dice) for node in nodes]
        count = 1
        for choice in choices:
            count *= len(choice)
        if count <= limit:
            combinations: Iterator[tuple[object, ...]] = itertools.product(*choices)
        else:
            combinations = (tuple(dice.choice(choice) for choice in choices) for _ in range(limit))
        for combination in combinations:
            yield _tree(self._root, dict(zip(map(id, nodes), combination, strict=True)))

    def _nodes(self, directory: Directory) -> Iterator[Node]:
        yield directory
        seen: set[int] = set()
        for node in [*directory.durable.values(), *(node for _, node in directory.changes if node is not None)]:
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, Directory):
                yield from self._nodes(node)
            elif node.possible:
                yield node

    def _make(self, path: str, node: Node) -> None:
        directory, name = self._parent(path)
        directory.change(name, node)

    def _unlink(self, path: str) -> None:
        directory, name = self._parent(path)
        directory.change(name, None)

    def _file(self, number: int) -> File:
        node = self._open[number]
        assert isinstance(node, File)
        return node

    def _parent(self, path: str) -> tuple[Directory, str]:
        *folders, name = path.removeprefix(self._prefix).split("/")
        here = self._root
        for folder in folders:
            below = here.names[folder]
            assert isinstance(below, Directory)
            here = below
        return here, name

    def _node(self, path: str) -> Node:
        if path + "/" == self._prefix:
            return self._root
        directory, name = self._parent(path)
        return directory.names[name]


def _tree(directory: Directory, chosen: dict[int, object]) -> Tree:
    names = chosen.get(id(directory), directory.durable)
    assert isinstance(names, dict)
    entries: list[tuple[str, bytes | Tree]] = []
    for name, node in sorted(names.items()):
        if isinstance(node, Directory):
            entries.append((name, _tree(node, chosen)))
        else:
            index = chosen.get(id(node), 0)
            assert isinstance(index, int)
            entries.append((name, node.states()[index]))
    return tuple(entries)


def build(tree: Tree, place: Path) -> None:
    """Make a tree in a real directory."""
    place.mkdir(mode=0o700)
    for name, content in tree:
        if isinstance(content, tuple):
            build(content, place / name)
        else:
            (place / name).write_bytes(content)
            (place / name).chmod(0o600)
