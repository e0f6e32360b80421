"""The results as text, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.summary import figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.aims import Aim
    from benchmarks.contenders.registry import Field
    from benchmarks.summary import Result, Row

_DOES = {"encrypt": "encrypt", "position": "position", "versions": "versions", "sync": "sync", "exclude": "exclude"}
_LEGEND = """\
"does not" names what a contender does not do at all: encrypt (the data), position (authenticate which stage and version a
checkpoint is of), versions (keep earlier ones), sync (survive a power cut), exclude (let several processes write at once).
"x ours" is the median in multiples of the library's in the same run: of times and sizes less is better, of rates more.
"runs" are interleaved, in another order each round."""
_LEAN = """\
"lean" is what the fastest program that we know reaches in the same run: the library's protocol alone
(benchmarks/contenders/lean.py). Power cuts were not tried on it, and it leaves out adoption, rollback and rotation."""


def render(results: Sequence[Result], field: Field, aims: Sequence[Aim]) -> str:
    """Return all results, the contenders with their settings, and the aims."""
    parts = [_contenders(field), _LEGEND]
    parts += [_result(result, field) for result in results]
    parts += [aims_as_text(aims)] if aims else []
    return "\n\n".join(parts)


def _contenders(field: Field) -> str:
    rows = [(kind.name, field.settings[kind.name], lacks(field, kind.name)) for kind in field]
    rows += [(name, f"absent: {reason}", "") for name, reason in field.absent.items()]
    return _columns(("contender", "setting", "does not"), rows)


def lacks(field: Field, name: str) -> str:
    """Return what a contender does not do, in few words."""
    there = field.present.get(name)
    return " ".join(word for lack, word in _DOES.items() if there and lack in there.lacks)


def _result(result: Result, field: Field) -> str:
    rows = [_row(result, row, field) for row in result.rows]
    rows += [(name, "-", "", "", "", f"absent: {reason}") for name, reason in result.absent.items()]
    return result.title + "\n" + _columns(("", "median", "p99", "x ours", "runs", "does not"), rows, right={1, 2, 3, 4})


def _row(result: Result, row: Row, field: Field) -> tuple[str, ...]:
    ratio = result.ratio(row)
    remark = "; ".join(filter(None, (lacks(field, row.contender), row.note)))
    return (
        row.contender,
        figure(row.median, result.unit),
        "" if row.p99 is None else figure(row.p99, result.unit),
        "" if ratio is None else f"{ratio:.2f}",
        str(row.runs),
        remark,
    )


def aims_as_text(aims: Iterable[Aim]) -> str:
    """Return the aims, and which are met."""
    rows = [
        (aim.text, "not measured" if aim.measured is None else aim.shown, aim.limit_shown, aim.lean_shown, aim.decision)
        for aim in aims
    ]
    return f"Aims\n{_columns(('aim', 'measured', 'limit', 'lean', ''), rows, right={1, 2, 3})}\n\n{_LEAN}"


def _columns(heads: Sequence[str], rows: Sequence[Sequence[str]], right: set[int] = frozenset()) -> str:  # type: ignore[assignment]
    widths = [max(len(row[place]) for row in (heads, *rows)) for place in range(len(heads))]
    lines = [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (heads, ["-" * width for width in widths], *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
