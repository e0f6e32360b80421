"""Fingerprints of code: digests of a function and of those that it calls, to recognise a change.

**What is compared.** The function, the functions that a decorator wraps in it, and the functions and classes of the same module
that they name, and so on. Of each, the source as Python's parser reads it: comments, docstrings, formatting and line numbers
make no difference, and neither do the place of the file and the version of Python. And what the source does not say: the
defaults of its parameters, and the variables of the functions around it, as far as they are numbers, texts and the like.

**Constants**: a global variable that the function names, and that its file sets to a number, a text or a tuple of such, as in
``RATE = 0.2`` or ``SIZE = 4 * 1024``, is compared by its value, too; not so one that a function of the file sets with
``global``. In a notebook, the cells that were run are one file.

**What is not compared**: other global variables, other modules, files, and what is called by another way than its name.
The names of other modules that a function uses are told once, in the log.

**Without source**, as for a function made by ``exec``, or if the function was edited since Python read its file, the bytecode
is compared. It belongs to one version of Python: with another one, the function runs again. Source counts only if it compiles
to the code that runs, so that a file that was edited meanwhile never stands for the code before.

A function written in C has no code to compare.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import functools
import hashlib
import linecache
import sys
import threading
import time
import types
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from checkpoint_manager._format.notes import CodeNote
from checkpoint_manager.errors import FingerprintError
from checkpoint_manager.stages.fingerprint import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_MOST_NAMED = 100
"""For how many functions the digest of each is kept, to tell later which one changed."""
_MOST_SOURCES = 16
_ATTEMPTS = 20
_FUTURE_ANNOTATIONS = 0x1000000
_CACHED = type(functools.lru_cache(len))
_ABSENT = object()
_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
_CONSTANT = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.unaryop, ast.operator, ast.expr_context)
_WITHOUT_MEANING = {"ctx", "type_comment", "kind", "type_ignores"}
STAGE = "_checkpoint_stage"
"""The attribute of a decorated function that says what is compared of it when another stage calls it."""


class Inner(NamedTuple):
    """The part of a stage that is compared when another stage calls it.

    Attributes:
        function: The decorated function.
        revision: Its revision.
        is_compared: Whether its code counts, too.
    """

    function: Callable[..., Any]
    revision: int | str
    is_compared: bool


class Code:
    """The code of a function, read when it is first called.

    Attributes:
        note: The digests.
        unseen: What the function uses and the digests don't cover: modules, or the function itself.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._walk = walk = _Walk()
        walk.follow(function)
        named = dict(list(walk.parts.items())[:_MOST_NAMED])
        whole = hashlib.sha256(repr(sorted(walk.parts.items())).encode())
        constants = dict(list(walk.constants.items())[:_MOST_NAMED])
        self.note = CodeNote(whole.hexdigest()[:32], named, constants) if walk.parts else None
        self.unseen = tuple(sorted(walk.unseen))

    @property
    def is_current(self) -> bool:
        """Whether the names that the function uses still refer to the same objects."""
        variables = all(each.variables.get(each.name, _ABSENT) is each.value for each in self._walk.names)
        codes = all(function.__code__ is code for function, code in self._walk.codes)
        return variables and codes and all(_content(cell) is value for cell, value in self._walk.cells)


class _Name(NamedTuple):
    """A global variable that was examined."""

    variables: Mapping[str, Any]
    name: str
    value: object


class _Walk:
    """A collector of the digests of a function and of those that it calls.

    Attributes:
        parts: The digests by the qualified names.
        constants: The digests of constants by their names.
        unseen: What could not be seen.
        names: The global variables that were looked at.
        codes: The functions, each with its code.
        cells: The variables around functions that were looked at.
    """

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.constants: dict[str, str] = {}
        self.unseen: set[str] = set()
        self.names: list[_Name] = []
        self.codes: list[tuple[types.FunctionType, types.CodeType]] = []
        self.cells: list[tuple[types.CellType, object]] = []
        self._seen: dict[int, object] = {}
        self._next: deque[Any] = deque()

    def follow(self, function: object) -> None:
        """Add a function and everything that it refers to."""
        self._next.append(function)
        while self._next:
            found = self._next.popleft()
            if id(found) not in self._seen:
                self._seen[id(found)] = found
                self._visit(found)

    def _visit(self, found: Any) -> None:  # noqa: ANN401  # any callable
        stage = _attribute(found, STAGE)
        if isinstance(stage, Inner):
            if stage.is_compared:
                self._next.append(stage.function)
            else:
                self._add(getattr(stage.function, "__qualname__", "a stage"), repr(stage.revision).encode())
        elif isinstance(found, types.FunctionType):
            self._visit_function(found)
        elif isinstance(found, type):
            self._visit_class(found)
        elif type(found) is functools.partial:
            self._next.append(found.func)
        elif type(found) is _CACHED:
            self._next.append(found.__wrapped__)
        elif isinstance(found, types.MethodType | staticmethod | classmethod):
            self._next.append(found.__func__)
        elif isinstance(found, types.BuiltinFunctionType) or not callable(found):
            self.unseen.add(f"{getattr(found, '__qualname__', type(found).__qualname__)} (which is not written in Python)")
        else:
            self._next.append(type(found).__call__ if isinstance(type(found).__call__, types.FunctionType) else type(found))

    def _visit_function(self, function: types.FunctionType) -> None:
        code, variables = function.__code__, function.__globals__
        self.codes.append((function, code))
        source = _source_of(code.co_filename, variables)
        node = None if source is None else source.node_of(code)
        body = _bytes_of_code(code) if node is None else b"".join(_encoded(node, is_outermost=True))
        defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
        around = list(self._around(function))
        plain = [_plain(value) for value in (*defaults, *(value for _, value in around))]
        self._add(code.co_qualname, b"\0".join([body, *plain]))
        self._next.extend(value for _, value in around if isinstance(value, types.FunctionType))
        wrapped = _attribute(function, "__wrapped__")
        if callable(wrapped):
            self._next.append(wrapped)
        self._look_up(_names_in_code(code) if node is None else _names_in(node), variables, function.__module__)
        if node is not None:
            self._note_imports(node)
        if source is not None and node is not None:
            constants = source.constants | (_constants_of_cells() if _is_interactive(variables) else set())
            self._add_constants(constants.intersection(_names_in(node), _names_in_code(code)), variables)

    def _add_constants(self, names: Iterable[str], variables: Mapping[str, Any]) -> None:
        for name in sorted(names):
            if plain := _plain(variables.get(name, _ABSENT)):
                self.constants[name] = hashlib.sha256(plain).hexdigest()[:16]

    def _visit_class(self, kind: type) -> None:
        variables = vars(sys.modules.get(kind.__module__, types))
        methods = list(_methods_of(kind))
        files = dict.fromkeys([variables.get("__file__"), *(each.__code__.co_filename for each in methods)])
        sources = (_source_of(file, variables) for file in files)
        node = next(filter(None, (source.class_of(kind, methods) for source in sources if source is not None)), None)
        if node is not None:
            self._add(kind.__qualname__, b"".join(_encoded(node)))
            self._look_up(_names_in(node), methods[0].__globals__ if methods else variables, kind.__module__)
            self._note_imports(node)
        elif methods:
            self._add(kind.__qualname__, repr(sorted(vars(kind))).encode())
            self._next.extend(methods)
        else:
            self.unseen.add(f"{kind.__qualname__} (whose source is not known)")

    def _around(self, function: types.FunctionType) -> Iterator[tuple[str, object]]:
        """Yield the variables of the functions around one, by name, without those that it changes itself."""
        changed = _changed_around(function.__code__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name not in changed:
                value = _content(cell)
                self.cells.append((cell, value))
                yield name, value

    def _look_up(self, names: Iterable[str], variables: Mapping[str, Any], module: str) -> None:
        """Add the functions and classes that names stand for, and note those of other modules."""
        for name in sorted(set(names)):
            value = variables.get(name, _ABSENT)
            self.names.append(_Name(variables, name, value))
            if value is _ABSENT or value is None:
                continue
            inner = _innermost(value)
            if isinstance(value, types.ModuleType):
                self._note_module(value.__name__)
            elif inner.__globals__ is variables if isinstance(inner, types.FunctionType) else _module_of(value) == module:
                self._next.append(value if callable(inner) else type(value))
            elif callable(inner):
                self._note_module(_module_of(inner))

    def _note_imports(self, node: ast.AST) -> None:
        for each in ast.walk(node):
            if isinstance(each, ast.Import):
                for alias in each.names:
                    self._note_module(alias.name)
            elif isinstance(each, ast.ImportFrom):
                self._note_module("." * each.level + (each.module or ""))

    def _note_module(self, name: str) -> None:
        top = name.partition(".")[0] or name
        if top not in sys.stdlib_module_names and top not in {"builtins", "checkpoint_manager", ""}:
            self.unseen.add(f"module {top}")

    def _add(self, name: str, content: bytes) -> None:
        number, free = 1, name
        while free in self.parts:
            number += 1
            free = f"{name} ({number})"
        self.parts[free] = hashlib.sha256(content).hexdigest()[:16]


def _innermost(value: Any) -> Any:  # noqa: ANN401  # whatever a variable holds
    """Return the function below decorators, partials and methods."""
    for _ in range(20):
        stage = _attribute(value, STAGE)
        inner = stage.function if isinstance(stage, Inner) else None
        if inner is None and type(value) is functools.partial:
            inner = value.func
        if inner is None and isinstance(value, types.MethodType):
            inner = value.__func__
        if inner is None:
            inner = _attribute(value, "__wrapped__")
        if inner is None:
            break
        value = inner
    return value


def _methods_of(kind: type) -> Iterator[types.FunctionType]:
    """Yield the functions that a class defines itself, below properties and class methods, too."""
    for value in vars(kind).values():
        parts = (value.fget, value.fset, value.fdel) if isinstance(value, property) else (value,)
        for part in parts:
            function = part.__func__ if isinstance(part, staticmethod | classmethod) else part
            if isinstance(function, types.FunctionType) and function.__module__ == kind.__module__:
                yield function


def _attribute(value: object, name: str) -> Any:  # noqa: ANN401  # whatever it holds
    """Return an attribute of the object itself, or None, without calling a ``__getattr__`` of the caller's."""
    try:
        return vars(value).get(name)
    except Exception:  # noqa: BLE001  # no attributes, or a proxy whose object is not there now
        return None


def _module_of(value: object) -> str:
    """Return the module of a function or a class, or of an object's class."""
    module = _attribute(value, "__module__") if isinstance(value, type) else getattr(type(value), "__module__", "")
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        module = value.__module__
    return module if isinstance(module, str) else ""


def _content(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return _ABSENT


def _plain(value: object) -> bytes:
    """Return a digest of an immutable value; nothing for any other, which the code alone does not determine."""
    if type(value) is tuple and not all(_plain(each) for each in value):
        return b""
    if type(value) not in _UNCHANGEABLE:
        return b""
    try:
        return digest(value, "", "").encode()
    except FingerprintError:
        return b""


_UNCHANGEABLE = {type(None), bool, int, float, complex, str, bytes, range, tuple}


# Sources


class _Source:
    """The source of one file, and the code that it compiles to.

    Attributes:
        text: The source.
        constants: The names of the variables that the file sets to a constant, and nothing but its top level sets.
    """

    def __init__(self, text: str, file: str) -> None:
        self.text, self._file = text, file
        with warnings.catch_warnings():  # of the code, which the user has seen when it was imported
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            whole = compile(text, file, "exec", dont_inherit=True)
        self._codes: dict[str, list[types.CodeType]] = {}
        for code in _codes_in(whole):
            self._codes.setdefault(code.co_qualname, []).append(code)
        self._nodes: dict[tuple[str, int], list[ast.AST]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                line = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                self._nodes.setdefault((node.name, line), []).append(node)
            elif isinstance(node, ast.Lambda):
                self._nodes.setdefault(("<lambda>", node.lineno), []).append(node)
        self.constants = _constants_in(tree)

    def node_of(self, code: types.CodeType) -> ast.AST | None:
        """Return the source of a code; None if this file does not compile to it, or it is not certain which part does."""
        wanted = _bare(code)
        return self._one(each for each in self._codes.get(code.co_qualname, ()) if _bare(each) == wanted)

    def class_of(self, kind: type, methods: Iterable[types.FunctionType]) -> ast.AST | None:
        """Return the source of a class; None if the file does not compile to the methods that it has."""
        codes = [each.__code__ for each in methods if each.__code__.co_filename == self._file]  # others were generated
        wanted = {_bare(each) for each in codes if each.co_qualname.startswith(f"{kind.__qualname__}.")}
        found = self._codes.get(kind.__qualname__, ())
        return self._one(each for each in found if wanted <= {_bare(inner) for inner in _codes_in(each)})

    def _one(self, codes: Iterable[types.CodeType]) -> ast.AST | None:
        code = next(iter(codes), None)
        nodes = [] if code is None else self._nodes.get((code.co_name, code.co_firstlineno), [])
        return nodes[0] if len(nodes) == 1 else None


def _constants_in(tree: ast.Module, known: Iterable[str] = ()) -> set[str]:
    """Return the known constants, and the variables that the top level sets to a constant, without those a function sets."""
    found = set(known)
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and _is_constant(statement.value, found):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found - {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def _is_constant(value: ast.expr | None, known: set[str]) -> bool:
    """Return whether an expression is made of constants and operators alone."""
    return value is not None and all(
        each.id in known if isinstance(each, ast.Name) else isinstance(each, _CONSTANT) for each in ast.walk(value)
    )


def _is_interactive(variables: Mapping[str, Any]) -> bool:
    return variables.get("__name__") == "__main__" and "__file__" not in variables


def _constants_of_cells() -> set[str]:
    """Return the variables that the cells of a notebook set to a constant: linecache keeps them, without a time of a file."""
    found: set[str] = set()
    for entry in tuple(linecache.cache.values()):
        if len(entry) > 1 and entry[1] is None:
            with contextlib.suppress(SyntaxError, ValueError, RecursionError):
                found = _constants_in(ast.parse("".join(entry[2])), found)
    return found


_sources: dict[str, _Source | None] = {}


def _source_of(file: object, variables: Mapping[str, Any]) -> _Source | None:
    """Return the source of a file, as it is now; None if there is none that can be read."""
    if not isinstance(file, str):
        return None
    for attempt in range(_ATTEMPTS):
        try:
            return _read_source(file, variables)
        except (SyntaxError, ValueError, RecursionError):  # edited, and not finished
            return None
        except (KeyError, SystemError):  # another thread uses linecache or the parser, and neither is made for that
            time.sleep(attempt * 0.002 * (1 + threading.get_ident() // 4096 % 5))
    return None


def _read_source(file: str, variables: Mapping[str, Any]) -> _Source | None:
    linecache.checkcache(file)
    text = "".join(linecache.getlines(file, dict(variables)))
    known = _sources.get(file)
    if known is not None and known.text == text:
        return known
    if not text:
        return None
    source = _Source(text, file)
    if len(_sources) >= _MOST_SOURCES:
        _sources.clear()
    _sources[file] = source
    return source


def _codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _codes_in(each)


def _bare(code: types.CodeType) -> types.CodeType:
    """Return a code object without its position in the source."""
    constants = tuple(_bare(each) if isinstance(each, types.CodeType) else each for each in code.co_consts)
    flags = code.co_flags & ~_FUTURE_ANNOTATIONS
    return code.replace(co_firstlineno=1, co_linetable=b"", co_filename="", co_consts=constants, co_flags=flags)


def _names_in(node: ast.AST) -> Iterator[str]:
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name))


def _names_in_code(code: types.CodeType) -> Iterator[str]:
    return (name for each in _codes_in(code) for name in each.co_names)


def _changed_around(code: types.CodeType) -> set[str]:
    """Return the variables of the functions around it that a function assigns: what it counts or collects there."""
    found: set[str] = set()
    for each in _codes_in(code):
        found |= {str(step.argval) for step in _steps(each) if step.opname in {"STORE_DEREF", "DELETE_DEREF"}}
    return found


def _steps(code: types.CodeType) -> Iterator[dis.Instruction]:
    return dis.get_instructions(code) if code.co_freevars else iter(())


# Encodings: a name or a length precedes each part, so that two never have the same encoding


def _encoded(node: Any, *, is_outermost: bool = False) -> Iterator[bytes]:  # noqa: ANN401  # of the tree, or a plain value
    """Yield the encoding of a tree: the same in each version of Python that reads the source alike."""
    if isinstance(node, list):
        yield b"[%d" % len(node)
        for each in node:
            yield from _encoded(each)
    elif isinstance(node, ast.JoinedStr):
        yield b"(JoinedStr"
        yield from _encoded(_joined_text(node))
        yield b")"
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}".encode()
        for name in sorted(node._fields):
            value = getattr(node, name, None)
            if name == "body" and isinstance(node, _DOCUMENTED):
                value = _without_docstring(value)
            is_left_out = name in _WITHOUT_MEANING or (is_outermost and name == "decorator_list")
            if is_left_out or value is None and not isinstance(node, ast.Constant) or value == []:  # noqa: RUF021
                continue
            yield f" {name}=".encode()
            yield from _encoded(value)
        yield b")"
    else:
        text = hex(node) if type(node) is int else repr(node)
        encoded = text.encode("utf-8", "surrogatepass")
        yield f"{type(node).__name__} {len(encoded)} ".encode() + encoded


def _without_docstring(body: Any) -> Any:  # noqa: ANN401  # a list of statements
    first = body[0] if body else None
    is_documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1:] if is_documented else body


def _joined_text(node: ast.JoinedStr) -> list[Any]:
    """Return the parts of an f-string, texts joined: Python 3.12 cuts them at other places than 3.11."""
    parts: list[Any] = []
    for value in node.values:
        if isinstance(value, ast.Constant):
            if parts and isinstance(parts[-1], str):
                parts[-1] += str(value.value)
            elif value.value:
                parts.append(str(value.value))
        else:
            parts.append(value)
    return parts


def _bytes_of_code(code: types.CodeType) -> bytes:
    """Return the encoding of a function without source, which holds for this version of Python only."""
    constants = [_bytes_of_code(each) if isinstance(each, types.CodeType) else _constant(each) for each in code.co_consts]
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & ~_FUTURE_ANNOTATIONS)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    parts = (sys.implementation.cache_tag, code.co_code, code.co_exceptiontable, names, shape, constants)
    return repr(parts).encode("utf-8", "surrogatepass")


def _constant(value: object) -> bytes:
    if isinstance(value, frozenset):
        return b"frozenset " + b" ".join(sorted(map(_constant, value)))
    if isinstance(value, tuple):
        return b"tuple " + repr([_constant(each) for each in value]).encode()
    text = hex(value) if type(value) is int else repr(value)
    return f"{type(value).__name__} {text}".encode("utf-8", "surrogatepass")
