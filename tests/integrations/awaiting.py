"""Async tests and the examples of docstrings, each in an event loop of its own."""

from __future__ import annotations

import ast
import asyncio
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


async def run_example(module: ModuleType, **names: object) -> dict[str, Any]:
    """Run the first example of a module's docstring, and return its names."""
    example = textwrap.dedent(str(module.__doc__).split("::\n", 1)[1].split("\n**", 1)[0])
    running = eval(compile(example, "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if running is not None:
        await running
    return names
