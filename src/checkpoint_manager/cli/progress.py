"""How far something is that takes more than a second: on stderr, and only where someone watches."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager.models import OnProgress

_SECONDS = 1.0


@contextlib.contextmanager
def progress_of(what: str) -> Iterator[OnProgress]:
    """Show a bar while the block runs, from its second second on.

    Yields the callback; until it is called, the bar only says that something is done.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415  # takes as long as the rest of the program
    from rich.progress import Progress as Bar  # noqa: PLC0415

    bar = Bar(console=Console(stderr=True), transient=True, redirect_stdout=False)
    task = bar.add_task(what, total=None)
    ended = threading.Event()

    def start_later() -> None:
        if not ended.wait(_SECONDS):
            bar.start()

    starter = threading.Thread(target=start_later, daemon=True)
    starter.start()
    try:
        yield lambda progress: bar.update(task, completed=progress.done, total=progress.total)
    finally:
        ended.set()
        starter.join()
        bar.stop()
