"""The command ``python -m benchmarks``: prints tables to stdout and progress to stderr.

Without the extra ``bench``, it first makes an environment of its own for the libraries to compare with.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.aims import Aim
    from benchmarks.contenders.base import Contender
    from benchmarks.contenders.registry import Field
    from benchmarks.summary import Result
    from benchmarks.workloads.context import Context

WORKLOADS = ("save", "load", "skip", "versions", "contention", "start", "memory", "arrays", "space", "rotation", "upkeep")
DRAWN = {"save", "skip", "contention"}
"""What the chart shows."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    if not options.no_install and not bootstrap.complete():
        bootstrap.restart_inside(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is removed
    folder = Path(tempfile.mkdtemp(prefix="checkpoint-manager-benchmark-", dir=options.folder))
    # What a save writes into the user's state directory is measured too, so it belongs on the disk under test.
    os.environ.update(HOME=str(folder), **{f"XDG_{name}_HOME": str(folder / name) for name in ("STATE", "DATA", "CACHE")})
    try:
        is_whole = _run(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not is_whole:
        sys.exit(1)


def _run(options: argparse.Namespace, folder: Path) -> bool:
    """Measure, and write what is asked for; return whether every workload had results."""
    from benchmarks import aims, chart, environment, table
    from benchmarks.contenders import registry
    from benchmarks.scale import SCALES
    from benchmarks.workloads.context import Context

    started = time.perf_counter()
    place = environment.describe(folder)
    for warning in environment.warnings(place):
        print(f"warning: {warning}", file=sys.stderr)
    (folder / "check").mkdir()
    field = registry.gather(folder / "check", bootstrap.reasons(), lambda kind: _left_out(kind, options))
    context = Context(folder, field, SCALES[options.scale])
    measured = {name: _workload(name, context) for name in options.only}
    results = [result for each in measured.values() for result in each]
    judged = aims.judge(results, field)
    print(environment.lines(place), table.render(results, field, judged), sep="\n\n")
    if options.json:
        options.json.write_text(_lines(_summary(options.scale, place, field, results, judged)))
    if options.page:
        options.page.write_text(f"{environment.lines(place)}\n\n{table.aims_as_text(judged)}\n")
    if options.svg and any(measured.get(name) for name in DRAWN):
        disk = place["filesystem"].partition(" ")[0]
        caption = f"{place['cpu']}, {place['cores']} cores, {disk}, {place['kernel']}, {place['python']}"
        options.svg.write_text(chart.draw(results, field, caption))
    context.tell(f"done in {time.perf_counter() - started:.0f} s")
    return all(measured.values())


def _left_out(kind: type[Contender], options: argparse.Namespace) -> str:
    if kind.kind == "peer" and options.peers.lower() not in kind.name.lower():
        return "left out by --peers"
    return "left out of short runs, for it is slow" if kind.slow and options.scale != "full" else ""


def _workload(name: str, context: Context) -> list[Result]:
    from benchmarks.workloads import (
        arrays,
        contention,
        histories,
        loading,
        memory,
        rotation,
        saving,
        skipping,
        space,
        starting,
        upkeep,
    )

    modules = (saving, loading, skipping, histories, contention, starting, memory, arrays, space, rotation, upkeep)
    started = time.perf_counter()
    results: list[Result] = []
    try:
        results = dict(zip(WORKLOADS, modules, strict=True))[name].run(context)
    except Exception:  # noqa: BLE001  # what the other workloads measured in minutes is not lost
        traceback.print_exc()
        context.tell(f"{name}: failed, and is left out")
    context.tell(f"{name}: {time.perf_counter() - started:.0f} s")
    return results


def _summary(
    scale: str, place: dict[str, Any], field: Field, results: Sequence[Result], judged: Sequence[Aim]
) -> dict[str, Any]:
    return {
        "environment": place | {"scale": scale},
        "contenders": {
            kind.name: {"kind": kind.kind, "setting": field.settings[kind.name], "does_not": sorted(kind.lacks)}
            for kind in field
        },
        "absent": field.absent,
        "results": {
            result.key: {
                "unit": result.unit,
                "median": {row.contender: _short(row.median) for row in result.rows},
                "p99": {row.contender: _short(row.p99) for row in result.rows if row.p99 is not None},
            }
            for result in results
        },
        "aims": {
            aim.text: {"measured": aim.shown, "limit": aim.limit_shown, "lean": aim.lean_shown, "met": aim.met}
            for aim in judged
        },
    }


def _short(value: float) -> float:
    """Return a figure to four digits: no run is more exact than that."""
    return float(f"{value:.4g}")


def _lines(summary: dict[str, Any]) -> str:
    """Return the summary as JSON with one line for each contender, result and aim."""
    parts = []
    for name, group in summary.items():
        lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in group.items()]
        parts.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the library beside floors and peers.")
    parser.add_argument("--only", type=_names, default=WORKLOADS, metavar="NAME,…", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--peers", default="", metavar="TEXT", help='only those whose names hold this text; "none" for none')
    parser.add_argument("--scale", choices=("full", "quick", "tiny"), default="full", help="how much is measured")
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick", help="less than a minute, to look")
    parser.add_argument("--folder", type=Path, default=_disk(), help="the disk to measure on (default: %(default)s)")
    parser.add_argument("--json", type=_file, metavar="FILE", help="write a summary of the results, for programs")
    parser.add_argument("--page", type=_file, metavar="FILE", help="write the machine and the aims on one page, for people")
    parser.add_argument("--svg", type=_file, metavar="FILE", help="draw a chart of them")
    parser.add_argument("--no-install", action="store_true", help="compare only with what this Python can import")
    options = parser.parse_args(arguments)
    if options.svg and not DRAWN & set(options.only):
        parser.error("the chart shows save, skip and contention: measure one of them, or leave --svg away")
    return options


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(WORKLOADS):
        raise argparse.ArgumentTypeError(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    return names


def _file(text: str) -> Path:
    """Refuse at the start what could not be written in the end."""
    path = Path(text)
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"the folder {path.parent} can't be made: {error.strerror}") from None
    return path


def _disk() -> Path:
    """Return a folder that is on a disk where there is one: /tmp often is not."""
    lasting = Path("/var/tmp")
    return lasting if lasting.is_dir() else Path(tempfile.gettempdir())


if __name__ == "__main__":
    main()
