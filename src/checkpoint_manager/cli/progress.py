"""How far something is that takes more than a second: on stderr, and only where someone watches."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS = 1.0


@contextlib.contextmanager
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the block runs, from its second second on.

    Yields what to call with how much is done, and of how much; until then, the bar only says that something is done.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console  # noqa: PLC0415  # takes as long as the rest of the program
    from rich.progress import Progress  # noqa: PLC0415

    bar = Progress(console=Console(stderr=True), transient=True, redirect_stdout=False)
    task = bar.add_task(what, total=None)
    ended = threading.Event()

    def start_later() -> None:
        if not ended.wait(_SECONDS):
            bar.start()

    starter = threading.Thread(target=start_later, daemon=True)
    starter.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        ended.set()
        starter.join()
        bar.stop()
