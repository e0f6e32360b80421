"""What the library promised itself, and whether this run shows it. Each aim is a ratio or a figure of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.contenders import databases, floors
from benchmarks.contenders.lean import LEAN
from benchmarks.contenders.ours import OURS
from benchmarks.scale import MB
from benchmarks.summary import figure
from benchmarks.workloads import arrays
from benchmarks.workloads.saving import CPU, JOURNALED
from benchmarks.workloads.starting import ADDED, HAS, NEEDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contenders.registry import Field
    from benchmarks.summary import Result


@dataclass(frozen=True, slots=True)
class Aim:
    """One aim.

    Attributes:
        text: What is aimed at.
        measured: The figure; None: what it needs was not measured in this run.
        limit: What it may be at most, or must be at least.
        at_least: Which of the two.
        unit: Empty: a ratio.
        lean: What the fastest program that we know reaches (:mod:`benchmarks.contenders.lean`); None: it was not measured.
    """

    text: str
    measured: float | None
    limit: float
    at_least: bool = False
    unit: str = ""
    lean: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None: not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def decision(self) -> str:
        """The same in words."""
        return {None: "", True: "met", False: "not met"}[self.met]

    @property
    def shown(self) -> str:
        """The figure, for people."""
        return "" if self.measured is None else self._show(self.measured)

    @property
    def lean_shown(self) -> str:
        """What the lean program reaches, for people."""
        return "" if self.lean is None else self._show(self.lean)

    @property
    def limit_shown(self) -> str:
        """The limit, for people."""
        return f"{'>=' if self.at_least else '<='} {self._show(self.limit)}"

    def _show(self, value: float) -> str:
        return figure(value, self.unit) if self.unit else f"{value:.2f}"


def judge(results: Sequence[Result], field: Field) -> list[Aim]:
    """Return all aims, as far as the results show them."""
    found = {result.key: result for result in results}
    return [
        *_of_small_saves(found),
        *_of_large_saves(found, field),
        *_of_reading(found),
        *_of_starting(found),
        *_of_contention(found),
        *_of_upkeep(found),
        *_of_arrays(found),
        _of_memory(found),
    ]


def _median(found: dict[str, Result], key: str, contender: str = OURS) -> float | None:
    return found[key].median(contender) if key in found else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _of_small_saves(found: dict[str, Result]) -> list[Aim]:
    disks = (
        ("", "", ((floors.SAME_PROTOCOL, 1.25), (databases.LANGGRAPH, 0.75))),
        (
            JOURNALED,
            ", on ext4 with a journal",
            ((floors.SAME_PROTOCOL, 0.9), (databases.LANGGRAPH, 0.75), (databases.SQLITE, 1.3)),
        ),
    )
    aims = [
        _beside(found, f"save 1 KiB, {nones}{where}: beside {other}", f"{disk}save/1 KiB/{nones}", other, limit)
        for disk, where, limits in disks
        for nones in ("None", "no None")
        for other, limit in limits
    ]
    title = f"save 1 KiB, None: the processor's time beside {floors.SAME_PROTOCOL}"
    return [*aims, _beside(found, title, f"save/1 KiB/None{CPU}", floors.SAME_PROTOCOL, 1.75)]


def _beside(found: dict[str, Result], text: str, key: str, other: str, limit: float, ours: str = OURS) -> Aim:
    """Return an aim for our time in multiples of another contender's, beside that of the lean program."""
    least = _median(found, key, other)
    return Aim(text, _ratio(_median(found, key, ours), least), limit, lean=_ratio(_median(found, key, LEAN), least))


def _of_large_saves(found: dict[str, Result], field: Field) -> list[Aim]:
    sealed = [kind.name for kind in field if kind.kind == "peer" and "encrypt" not in kind.lacks]
    aims = []
    for key in (f"save/{size}/{nones}" for size in ("1 MB", "10 MB") for nones in ("None", "no None")):
        others = [(value, name) for name in sealed if (value := _median(found, key, name)) is not None]
        quickest, peer = min(others, default=(None, "the quickest encrypted peer"))
        title = key.replace("/", " ", 1).replace("/", ", ")
        ours = _median(found, key)
        aims.append(_beside(found, f"{title}: beside {floors.JSON_BARE}", key, floors.JSON_BARE, 1.3))
        lean = _ratio(quickest, _median(found, key, LEAN))
        aims.append(Aim(f"{title}: {peer} beside ours", _ratio(quickest, ours), 1.0, at_least=True, lean=lean))
    return aims


def _of_reading(found: dict[str, Result]) -> list[Aim]:
    early, late = _median(found, "versions/save at 10"), _median(found, "versions/save at 10000")
    first_early, first_late = _median(found, "versions/first save at 10"), _median(found, "versions/first save at 10000")
    return [
        Aim("save at version 10,000: beside version 10", _ratio(late, early), 1.05),
        Aim("the same, the first save of a manager", _ratio(first_late, first_early), 1.05),
        _beside(
            found, f"has_checkpoint, 1 KiB, asked again: beside the {floors.SEALED}", "skip/again of 10000", floors.SEALED, 1.6
        ),
        _beside(found, f"load_checkpoint, 1 KiB: beside the {floors.SEALED}", "load/1 KiB", floors.SEALED, 1.6),
        Aim(
            "has_checkpoint of 10,000 stages, never looked at",
            _median(found, "skip/all of 10000"),
            1.0,
            unit="s",
            lean=_median(found, "skip/all of 10000", LEAN),
        ),
        Aim("history of 10,000 versions", _median(found, "versions/history"), 0.5, unit="s"),
    ]


def _of_starting(found: dict[str, Result]) -> list[Aim]:
    has, lean, needed = (_median(found, "start/command", name) for name in (HAS, LEAN, NEEDED))
    return [
        Aim("open a store", _median(found, "start/open"), 0.003, unit="s"),
        Aim("import CheckpointManager, added to its dependencies", _median(found, "start/import", ADDED), 0.020, unit="s"),
        Aim(f"the command has: beside {NEEDED}", _ratio(has, needed), 1.5, lean=_ratio(lean, needed)),
    ]


def _of_upkeep(found: dict[str, Result]) -> list[Aim]:
    return [
        Aim("log of 50,000 versions", _median(found, "upkeep/log of 50000"), 10.0, unit="s"),
        Aim("memory of that log, beyond one of 5,000", _median(found, "upkeep/memory of log of 50000"), 8 * MB, unit="bytes"),
        Aim("verify", _median(found, "upkeep/verify 100 MB"), 60.0, at_least=True, unit="MB/s"),
        Aim("status of 10,000 stages", _median(found, "upkeep/status of 10000"), 2.5, unit="s"),
        Aim("repair of 10,000 stages", _median(found, "upkeep/repair of 10000"), 5.0, unit="s"),
    ]


def _of_arrays(found: dict[str, Result]) -> list[Aim]:
    save, load = "arrays/save", "arrays/load"
    size = found[save].title.removeprefix("save ") if save in found else "1 GiB"
    saved = (
        (f"an array of {size}, attached", OURS),
        (f"an array of {size} in the data", arrays.IN_THE_DATA),
        (f"a file of {size}, attached", arrays.A_FILE),
    )
    return [
        *(
            _beside(found, f"save {what}: beside {other}", save, other, 1.0, ours=name)
            for other in (arrays.SYNCED, arrays.EARLY)
            for what, name in saved
        ),
        *(
            Aim(
                f"load {what}: speed beside {other}",
                _ratio(_median(found, load, other), _median(found, load, name)),
                0.8,
                at_least=True,
                lean=_ratio(_median(found, load, other), _median(found, load, LEAN)),
            )
            for (what, name), other in zip(saved, (arrays.COPIED, arrays.COPIED, arrays.SYNCED), strict=True)
        ),
    ]


def _of_contention(found: dict[str, Result]) -> list[Aim]:
    (apart, together, waiting), lean = _contended(found, OURS), _contended(found, LEAN)
    return [
        Aim("8 processes on eight stages: throughput beside 1 process", apart, 2.5, at_least=True, lean=lean[0]),
        Aim("8 processes on one stage: throughput beside 1 process", together, 1.0, at_least=True, lean=lean[1]),
        Aim(
            "8 processes on one stage: p99 of a save, waiting included, beside the median of 1 process",
            waiting,
            12.0,
            lean=lean[2],
        ),
    ]


def _contended(found: dict[str, Result], contender: str) -> tuple[float | None, float | None, float | None]:
    """Return the throughput of 8 processes on a stage each, and on one, and what one waits, in multiples of one process."""
    alone = _median(found, "contention/1 process/throughput", contender)
    apart = _median(found, "contention/8 processes on a stage each/throughput", contender)
    together = _median(found, "contention/8 processes on one stage/throughput", contender)
    key = "contention/8 processes on one stage/waiting"
    p99 = next((row.p99 for row in found[key].rows if row.contender == contender), None) if key in found else None
    waiting = _ratio(p99, _median(found, "contention/1 process/waiting", contender))
    return _ratio(apart, alone), _ratio(together, alone), waiting


def _of_memory(found: dict[str, Result]) -> Aim:
    text = "peak memory of a save of 100 MB, beyond the payload: at most its JSON and 16 MB"
    return Aim(text, _median(found, "memory/save 100 MB"), 116 * MB, unit="bytes")
