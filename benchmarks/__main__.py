"""The one command. It prints tables to stdout, and what it is doing to stderr.

With ``.[bench]`` installed it runs at once; else it first makes an environment of its own for the libraries to compare with.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.summary import Result
    from benchmarks.workloads.context import Context

WORKLOADS = ("save", "load", "skip", "versions", "contention", "start", "memory", "space", "rotation")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    folder = Path(tempfile.mkdtemp(prefix="checkpoint-manager-benchmark-", dir=options.folder))
    os.environ.update(HOME=str(folder), XDG_STATE_HOME=str(folder / "state"))  # what a store remembers stays on this disk, too
    try:
        _run(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(options: argparse.Namespace, folder: Path) -> None:
    from benchmarks import aims, table
    from benchmarks.contenders import registry
    from benchmarks.scale import SCALES
    from benchmarks.workloads.context import Context

    (folder / "check").mkdir()
    field = registry.gather(folder / "check", {})
    context = Context(folder, field, SCALES[options.scale])
    results = [result for name in options.only for result in _workload(name, context)]
    judged = aims.judge(results, field)
    print(table.render(results, field, judged))
    if options.json:
        record = {
            "results": [asdict(result) for result in results],
            "aims": [asdict(aim) | {"met": aim.met} for aim in judged],
        }
        options.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _workload(name: str, context: Context) -> list[Result]:
    from benchmarks.workloads import contention, histories, loading, memory, rotation, saving, skipping, space, starting

    modules = (saving, loading, skipping, histories, contention, starting, memory, space, rotation)
    return dict(zip(WORKLOADS, modules, strict=True))[name].run(context)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the library beside floors and peers.")
    parser.add_argument("--only", type=_names, default=WORKLOADS, metavar="NAME,…", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--scale", choices=("full", "quick", "tiny"), default="full", help="how much is measured")
    parser.add_argument("--quick", dest="scale", action="store_const", const="quick", help="less than a minute, to look")
    parser.add_argument("--folder", type=Path, default=_disk(), help="the disk to measure on (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, for programs")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(WORKLOADS):
        raise argparse.ArgumentTypeError(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    return names


def _disk() -> Path:
    """Return a folder that is on a disk where there is one: /tmp often is not."""
    lasting = Path("/var/tmp")
    return lasting if lasting.is_dir() else Path(tempfile.gettempdir())


if __name__ == "__main__":
    sys.exit(main())
