"""The progress bar, drawn by rich. A module of its own: rich takes as long to load as the rest of the program."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager.reports import OnProgress

_SECONDS = 1.0


@contextlib.contextmanager
def bar(what: str) -> Iterator[OnProgress]:
    """Show a bar while the block runs, from its second second on. Yields the callback that moves it."""
    drawn = Bar(console=Console(stderr=True), transient=True, redirect_stdout=False)
    task = drawn.add_task(what, total=None)
    ended = threading.Event()

    def start_later() -> None:
        if not ended.wait(_SECONDS):
            drawn.start()

    starter = threading.Thread(target=start_later, daemon=True)
    starter.start()
    try:
        yield lambda progress: drawn.update(task, completed=progress.done, total=progress.total)
    finally:
        ended.set()
        starter.join()
        drawn.stop()
