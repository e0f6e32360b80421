"""A progress bar on stderr for what takes longer than a second, where someone watches."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager.reports import OnProgress


@contextlib.contextmanager
def progress_of(what: str) -> Iterator[OnProgress]:
    """Show a bar while the block runs, from its second second on.

    Yields the callback; until it is called, the bar only says that something is done.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from checkpoint_manager.cli.bar import bar  # noqa: PLC0415  # loads rich, which takes as long as the rest

    with bar(what) as step:
        yield step
