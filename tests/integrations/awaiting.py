"""Async tests and the examples of docstrings, each in an event loop of its own."""

from __future__ import annotations

import ast
import asyncio
import itertools
import textwrap
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import ModuleType


def awaited(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of an async function."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))  # type: ignore[arg-type]

    return run


def run_example(module: ModuleType, **names: object) -> dict[str, Any]:
    """Run the first example of a module's docstring, and return its names."""
    lines = str(module.__doc__).split("::\n", 1)[1].split("\n")
    example = itertools.takewhile(lambda line: not line or line.startswith("    "), lines)
    code = compile(textwrap.dedent("\n".join(example)), "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, names)
    if running is not None:
        asyncio.run(running)
    return names
