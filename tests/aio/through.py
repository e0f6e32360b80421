"""A CheckpointManager of which every call goes through an AsyncCheckpointManager and an event loop."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from checkpoint_manager import AsyncCheckpointManager

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class ThroughAnEventLoop:
    """The async manager, called and not awaited: what checks a CheckpointManager checks it, too."""

    def __init__(self, runner: asyncio.Runner, *args: Any, **kwargs: Any) -> None:
        self._runner = runner
        self._wrapped: object = AsyncCheckpointManager(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if name == "keys":
            keys = ThroughAnEventLoop.__new__(ThroughAnEventLoop)
            keys._runner, keys._wrapped = self._runner, found
            return keys
        return self._called(found) if inspect.iscoroutinefunction(found) else found

    def _called(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._runner.run(function(*args, **kwargs))
