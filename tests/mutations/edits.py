"""Small edits of one function, class or constant, made on its syntax tree: comments and line breaks do not matter.

An edit finds its place by a piece of code, as ``ast.unparse`` writes it. A statement or condition is found by a
piece of its text, without the text of the statements inside it. An edit that finds no place, or several, is an error, unless it
says which of how many (``at``, ``of``).
"""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class PlaceError(Exception):
    """An edit, or the symbol that it edits, is not there exactly once."""


@dataclass(frozen=True, kw_only=True)
class Edit(ABC):
    """One edit; number ``at`` of the ``of`` places that it would fit, or all of them if that is None."""

    at: int | None = 0
    of: int = 1

    @abstractmethod
    def places(self, symbol: ast.AST) -> list[Callable[[], object]]:
        """Return what makes the edit, for each place in the symbol that it fits."""

    def apply(self, symbol: ast.AST) -> None:
        """Edit the symbol in place."""
        places = self.places(symbol)
        if len(places) != self.of:
            raise PlaceError(f"{self} fits {len(places)} places instead of {self.of}")
        for number, place in enumerate(places):
            if self.at in {None, number}:
                place()


@dataclass(frozen=True)
class Delete(Edit):
    """Delete the statement that contains ``text``."""

    text: str

    def places(self, symbol: ast.AST) -> list[Callable[[], object]]:
        def delete(block: list[ast.stmt], index: int) -> Callable[[], object]:
            return lambda: block.__setitem__(index, ast.Pass())

        return [delete(block, index) for block, index in _statements(symbol, self.text)]


@dataclass(frozen=True)
class Swap(Edit):
    """Exchange the statement that contains ``text`` with the one below it."""

    text: str

    def places(self, symbol: ast.AST) -> list[Callable[[], object]]:
        def swap(block: list[ast.stmt], index: int) -> Callable[[], object]:
            return lambda: block.__setitem__(slice(index, index + 2), block[index : index + 2][::-1])

        return [swap(block, index) for block, index in _statements(symbol, self.text) if index + 1 < len(block)]


@dataclass(frozen=True)
class Decide(Edit):
    """Replace the condition that contains ``text`` by ``outcome``."""

    text: str
    outcome: bool

    def places(self, symbol: ast.AST) -> list[Callable[[], object]]:
        return [
            _setter(node, field, index, ast.Constant(self.outcome))
            for node, field, index, test in _conditions(symbol)
            if self.text in ast.unparse(test)
        ]


@dataclass(frozen=True)
class Replace(Edit):
    """Replace the expression ``old`` by ``new``."""

    old: str
    new: str

    def places(self, symbol: ast.AST) -> list[Callable[[], object]]:
        old, new = _normal(self.old), ast.parse(self.new, mode="eval").body
        return [
            _setter(node, field, index, new)
            for node, field, index, child in _children(symbol)
            if isinstance(child, ast.expr) and ast.unparse(child) == old
        ]


@dataclass(frozen=True)
class Drop(Edit):
    """Drop the argument, element, or term of ``and``, ``or`` or ``|`` that reads ``text``, such as ``x`` or ``name=x``."""

    text: str

    def places(self, symbol: ast.AST) -> list[Callable[[], object]]:
        return [drop for node in ast.walk(symbol) for drop in self._of(node)]

    def _of(self, node: ast.AST) -> Iterator[Callable[[], object]]:
        lists: list[list[ast.expr]] = []
        if isinstance(node, ast.Call):
            lists.append(node.args)
            for keyword in node.keywords:
                if ast.unparse(keyword) == self.text:
                    yield _remover(node.keywords, keyword)
        elif isinstance(node, ast.BoolOp):
            lists.append(node.values)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            lists.append(node.elts)
        for each in lists:
            yield from (_remover(each, part) for part in each if ast.unparse(part) == self.text)
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
                for kept, dropped in ((value.left, value.right), (value.right, value.left)):
                    if ast.unparse(dropped) == self.text:
                        yield _setter(node, field, None, kept)


@dataclass(frozen=True)
class Body(Edit):
    """Replace the whole body of a function by ``code``."""

    code: str

    def places(self, symbol: ast.AST) -> list[Callable[[], object]]:
        if not isinstance(symbol, ast.FunctionDef | ast.AsyncFunctionDef):
            return []
        return [lambda: setattr(symbol, "body", ast.parse(self.code).body)]


@dataclass(frozen=True)
class Both(Edit):
    """Make two edits that belong together, as a writer's and a reader's."""

    first: Edit
    second: Edit

    def places(self, symbol: ast.AST) -> list[Callable[[], object]]:
        return [lambda: (self.first.apply(symbol), self.second.apply(symbol))]


def edited(source: str, symbol: str, edit: Edit) -> str:
    """Return a module with one edit made in one of its symbols, such as ``append`` or ``Store.append``; empty: in all of it.

    Raises:
        PlaceError: There is no such symbol, or the edit does not fit exactly one place in it.
    """
    module = ast.parse(source)
    place = _find(module, symbol)
    before = ast.unparse(place)
    edit.apply(place)
    if ast.unparse(ast.fix_missing_locations(place)) == before:
        raise PlaceError(f"{edit} changes nothing in {symbol}")
    after = ast.unparse(ast.fix_missing_locations(module))
    compile(after, "<mutant>", "exec")
    return after


def _find(module: ast.Module, symbol: str) -> ast.AST:
    node: ast.AST = module
    for name in filter(None, symbol.split(".")):
        found = [each for each in _definitions(node) if name in _names(each)]
        if len(found) != 1:
            raise PlaceError(f"there are {len(found)} of {name} in {symbol}")
        node = found[0]
    return node


def _definitions(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a body, and those inside its ifs and withs."""
    for statement in getattr(node, "body", []):
        yield statement
        if isinstance(statement, ast.If | ast.With | ast.Try | ast.For):
            yield from _definitions(statement)


def _names(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case _:
            return []


def _statements(symbol: ast.AST, text: str) -> Iterator[tuple[list[ast.stmt], int]]:
    """Yield each statement whose own text contains ``text``, as a block and an index in it."""
    for node in ast.walk(symbol):
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                yield from ((value, index) for index, each in enumerate(value) if text in _own_text(each))


def _own_text(statement: ast.stmt) -> str:
    parts = [value for field, value in ast.iter_fields(statement) if field not in {"body", "orelse", "finalbody", "handlers"}]
    if not hasattr(statement, "body"):
        return ast.unparse(statement)
    flat = [each for part in parts for each in (part if isinstance(part, list) else [part])]
    return " ".join(ast.unparse(each) for each in flat if isinstance(each, ast.AST))


def _children(symbol: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    for node in ast.walk(symbol):
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                yield node, field, None, value
            elif isinstance(value, list):
                yield from ((node, field, index, each) for index, each in enumerate(value) if isinstance(each, ast.AST))


def _conditions(symbol: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    for node, field, index, child in _children(symbol):
        if field == "test" or (isinstance(node, ast.comprehension) and field == "ifs"):
            yield node, field, index, child


def _setter(node: ast.AST, field: str, index: int | None, new: ast.AST) -> Callable[[], object]:
    if index is None:
        return lambda: setattr(node, field, new)
    return lambda: getattr(node, field).__setitem__(index, new)


def _remover(parts: list[ast.expr] | list[ast.keyword], part: ast.AST) -> Callable[[], object]:
    return lambda: parts.remove(part)  # type: ignore[arg-type]


def _normal(code: str) -> str:
    return ast.unparse(ast.parse(code, mode="eval"))
