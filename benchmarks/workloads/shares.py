"""Where the time of a save and of ``has_checkpoint`` goes, part by part, beside the floor of the same.

Some of the library's functions are given clocks for as long as this runs. What one part spends within another counts for the
inner one only: all parts together, and the rest between them, are the whole. A clock costs about half a microsecond itself.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from unittest import mock

import orjson

from benchmarks import payload
from benchmarks.contenders import floors
from benchmarks.contenders.base import AbsentError
from benchmarks.contenders.ours import OURS, Ours, Plain
from benchmarks.scale import KIB, MB
from benchmarks.summary import Result, row
from benchmarks.timing import Entrant, interleave
from benchmarks.workloads.context import Context, opened
from checkpoint_manager._filesystem import files
from checkpoint_manager._format import checkpoint_file as sealed_format
from checkpoint_manager._format import round_trip as fidelity
from checkpoint_manager._format import seal
from checkpoint_manager._store.history import History
from checkpoint_manager._store.last_seen import LastSeen
from checkpoint_manager._store.open_keyring import Keychain
from checkpoint_manager.backends.local.backend import LocalBackend
from checkpoint_manager.backends.local.head import Finder
from checkpoint_manager.backends.local.lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.contenders.base import Contender

_STAGE = "train"
_REST = "the rest between them"
_PARTS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("JSON", orjson, ("dumps", "loads")),
    ("each value's type looked at", fidelity, ("is_surely_faithful", "is_faithful")),
    ("metadata put together, or read", sealed_format, ("encode_entry", "decode_entry", "parse_header")),
    ("sealed, or opened", seal, ("seal", "seal_slices", "unseal", "unseal_slices")),
    ("lock taken, and freed", FileLock, ("__enter__", "__exit__")),
    ("keys compared with the file", Keychain, ("refresh",)),
    ("memory of what was seen", LastSeen, ("recall", "remember")),
    ("newest version found", History, ("_find",)),
    ("version opened, read, closed", Finder, ("open",)),
    ("version opened, read, closed", files.OpenFile, ("read", "close")),
    ("file made, and written", files, ("write_temporary",)),
    ("synced, the file and its folder", files, ("sync",)),
    ("file given its names", files, ("publish",)),
    ("file given its names", LocalBackend, ("_put_mark",)),
)


def run(context: Context) -> list[Result]:
    cases: list[tuple[str, int, type[Contender], type[Contender], Callable[[Contender, Any], object]]] = [
        ("save 1 KiB", KIB, Ours, floors.Bare, _save),
        ("save 1 MB", MB, Ours, floors.JsonBare, _save),
        ("save 1 MB, without fast", MB, Plain, floors.JsonBare, _save),
        ("has_checkpoint, 1 KiB", KIB, Ours, floors.Sealed, lambda who, _: who.has(_STAGE)),
    ]
    results = []
    for name, size, ours, floor, act in cases:
        context.tell(f"shares: {name}")
        with contextlib.suppress(AbsentError):
            results.append(_shares(context, name, payload.rows(size), (ours, floor), act))
    return results


def _save(who: Contender, given: Any) -> None:
    who.save(_STAGE, given)


def _shares(
    context: Context,
    name: str,
    value: dict[str, Any],
    kinds: tuple[type[Contender], type[Contender]],
    act: Callable[[Contender, Any], object],
) -> Result:
    clock = _Clock()
    gc.collect()
    gc.freeze()  # what the benchmark itself holds is not to slow down whoever collects garbage
    with context.place() as place, opened(list(kinds), place) as (ours, floor):
        prepared = {who: who.prepare(value) for who in (ours, floor)}
        for who, given in prepared.items():
            _save(who, given)
        entrants = [
            Entrant(OURS, lambda _: clock.whole(lambda: act(ours, prepared[ours]))),
            Entrant(floor.name, lambda _: act(floor, prepared[floor])),
        ]
        with clock.ticking():
            samples = interleave(entrants, context.scale.small)
    gc.unfreeze()
    wholes = samples.pop(OURS)
    parts = {part: clock.samples[part][-len(wholes) :] for part in clock.samples}  # what warmed up does not count
    rest = [whole - sum(each[number] for each in parts.values()) for number, whole in enumerate(wholes)]
    by_size = sorted((row(part, times) for part, times in parts.items() if any(times)), key=lambda each: -each.median)
    rows = (row(OURS, wholes), *by_size, row(_REST, rest), *(row(*figures) for figures in samples.items()))
    return Result(f"shares/{name}", f"where the time goes: {name}", "s", rows)


class _Clock:
    """Adds up what each part takes, without what other parts take within it.

    Attributes:
        samples: By part, the seconds of each whole so far.
    """

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = defaultdict(list)
        self._spent = dict.fromkeys((part for part, *_ in _PARTS), 0.0)
        self._within = 0.0

    def whole(self, act: Callable[[], object]) -> None:
        """Do something whose parts belong together."""
        for part in self._spent:
            self._spent[part] = 0.0
        act()
        for part, seconds in self._spent.items():
            self.samples[part].append(seconds)

    @contextlib.contextmanager
    def ticking(self) -> Iterator[None]:
        """Have the library's functions timed."""
        with contextlib.ExitStack() as stack:
            for part, owner, names in _PARTS:
                for name in names:
                    stack.enter_context(mock.patch.object(owner, name, self._timed(part, getattr(owner, name))))
            yield

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            outer, self._within = self._within, 0.0
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.perf_counter() - started
                self._spent[part] += taken - self._within
                self._within = outer + taken

        @functools.wraps(function)
        def pieces(*args: Any, **kwargs: Any) -> Iterator[Any]:
            ask = self._timed(part, function(*args, **kwargs).__next__)
            with contextlib.suppress(StopIteration):
                while True:
                    yield ask()

        return pieces if inspect.isgeneratorfunction(function) else timed
