"""The origin of a stage's function, recorded with each result so that another function of the same name does not reuse it.

The origin is a text, ``module:qualified.name``, derived from the code itself, whatever a decorator wrote into ``__name__``:

* A function in a package is named by its module: ``pipeline.clean:rows``. The package may lie anywhere.
* A function in a script, or in a module that lies beside one, is named by its file, seen from the store's directory:
  ``../etl/clean.py:rows``. So two scripts of one name are told apart, and a project may be moved together with its store. If it
  is moved without it, its stages run again. For a store that is not a directory, the file's whole path counts.
* A function in a notebook is named by the notebook's file, where the notebook's server tells it (Jupyter, VS Code). In an
  interactive session there is no file: only the function's name counts.
* Functions in the variables of an enclosing function belong to it, which tells decorators' wrappers apart by what they wrap:
  ``tools:logged.<locals>.wrapper(function=pipeline.clean:rows)``.
* A function of this library, such as the one that runs a command as a stage, is named without its module.
* A lambda is named by its bytecode as well, which another version of Python may compile differently: then it runs again.

Changes of the function's code are recognised by :mod:`checkpoint_manager.stages.code`, not here.

Some functions can't be told apart by this: those that one ``def`` makes again and again, with other variables around them, and
two of one name in one scope. The second one is refused (:func:`check_sibling`).
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import types
from typing import TYPE_CHECKING, Any

from checkpoint_manager.errors import FingerprintError
from checkpoint_manager.stages.fingerprint import digest, underlying
from checkpoint_manager.stages.module_names import module_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_LEVELS = 5
_MAX_BYTES = 1000
_OWN, _LIBRARY = "checkpoint_manager.stages.", "checkpoint_manager."


def origin_of(function: Callable[..., Any], location: str) -> str:
    """Return the origin of a function.

    Args:
        function: The function.
        location: Where the store is; scripts are named as seen from there.
    """
    encoded = _origin(function, location, 0).encode("utf-8", "backslashreplace")  # names of files may be any bytes
    if len(encoded) <= _MAX_BYTES:
        return encoded.decode()
    return f"{encoded[:_MAX_BYTES].decode('utf-8', 'ignore')}… {hashlib.sha256(encoded).hexdigest()[:32]}"


def check_sibling(old: Callable[..., Any], new: Callable[..., Any], name: str) -> None:
    """Refuse a second function of the same origin if the two may differ.

    A function that is defined again in a notebook, or by a module that is loaded again, replaces the one before.

    Raises:
        ValueError: They are made by one ``def`` with other variables around them, or stand in one scope.
    """
    if _is_sibling(underlying(old), underlying(new), 0):
        raise ValueError(
            f"two functions are {name}, and their results can't be told apart. Make what they differ in an argument, "
            'give each another name, @cm.stage("…"), or use functools.wraps in the decorator around them'
        )


def _origin(function: Any, location: str, level: int) -> str:  # noqa: ANN401  # any callable
    owner = getattr(function, "__self__", None)
    called = underlying(function)
    if isinstance(called, types.FunctionType):
        module = called.__globals__.get("__name__", "")
        if module.startswith(_OWN):  # a stage within: what counts is the function that it decorates
            return _origin(called.__wrapped__, location, level)  # type: ignore[attr-defined]
        if module.startswith(_LIBRARY):
            return f"checkpoint_manager:{called.__code__.co_name}"
        name = called.__code__.co_qualname
        if called.__name__ == "<lambda>" or called.__code__.co_name == "<lambda>":
            name += f" {_digest_of(called.__code__)}"
        if isinstance(owner, type):
            name += f" of {module_name(_variables(owner.__module__), owner.__module__, location)}:{owner.__qualname__}"
        inner = [f"{each}={_origin(value, location, level + 1)}" for each, value in _functions_in(called)]
        around = f"({', '.join(inner)})" if inner and level < _MAX_LEVELS else ""
        return f"{module_name(called.__globals__, module, location)}:{name}{around}"
    named = called if isinstance(called, type | types.BuiltinFunctionType) else type(called)
    module = named.__module__ or type(owner).__module__  # of a built-in method, that of its object
    return f"{module_name(_variables(module), module, location)}:{named.__qualname__}"


def _variables(module: str) -> dict[str, Any]:
    return getattr(sys.modules.get(module), "__dict__", {})


def _functions_in(function: types.FunctionType) -> list[tuple[str, Any]]:
    """Return the functions in the variables of the functions around this one, by name."""
    found = [(name, value) for name, value in _variables_around(function) if callable(value)]
    return [(name, value) for name, value in found if isinstance(underlying(value), types.FunctionType)]


def _variables_around(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not set yet
            continue


def _digest_of(code: types.CodeType) -> str:
    constants = [_digest_of(each) if isinstance(each, types.CodeType) else each for each in code.co_consts]
    hasher = hashlib.sha256()
    for part in (code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants):
        hasher.update(digest(part, "the lambda", "Use def").encode())
    return hasher.hexdigest()[:16]


def _is_sibling(old: object, new: object, level: int) -> bool:
    if old is new or not (isinstance(old, types.FunctionType) and isinstance(new, types.FunctionType)):
        return False
    if old.__code__ is not new.__code__:
        return _are_in_one_scope(old.__code__, new.__code__)
    before, now = dict(_variables_around(old)), dict(_variables_around(new))
    return before.keys() != now.keys() or any(not _is_same(before[name], now[name], level) for name in now)


def _is_same(old: object, new: object, level: int) -> bool:
    """Return whether two variables hold the same: one object, equal values, or functions that are not siblings."""
    if old is new:
        return True
    if callable(old) and callable(new) and level < _MAX_LEVELS:
        first, second = underlying(old), underlying(new)
        if isinstance(first, types.FunctionType) and isinstance(second, types.FunctionType):
            return first.__qualname__ == second.__qualname__ and not _is_sibling(first, second, level + 1)
    try:
        return digest(old, "", "") == digest(new, "", "")
    except FingerprintError:
        return False


def _are_in_one_scope(old: types.CodeType, new: types.CodeType) -> bool:
    """Return whether the code that is running now, a module's or a function's, defines both."""
    frame = inspect.currentframe()
    while frame is not None:
        codes = [each for each in frame.f_code.co_consts if isinstance(each, types.CodeType)]
        if any(each is new for each in codes):
            return any(each is old for each in codes)
        frame = frame.f_back
    return False
