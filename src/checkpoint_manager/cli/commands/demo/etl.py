"""Extract, transform, load: the functions of Python's standard library go into a table, and none is lost or doubled.

Each step is a stage. One that is done is not run again: its result comes from the store. The last step is a loop, which goes on
where it was killed. It may repeat the rows since its last save, so each row has a key, and is replaced by itself.
"""

from __future__ import annotations

import ast
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from checkpoint_manager import CheckpointManager

try:
    import pandas as pd  # type: ignore[import-untyped]
except ImportError:  # then the rows stay a list
    pd = None

cm = CheckpointManager()  # the store that CHECKPOINT_MANAGER_STORE names
CRASHES = "--crash" in sys.argv


@cm.stage
def extract(folder: str) -> list[tuple[str, str, int]]:
    """Return the functions of the modules a to d in a folder: module, name, lines."""
    rows = []
    for path in sorted(Path(folder).glob("[a-d]*.py")):
        functions = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.FunctionDef)]
        rows += [(path.stem, node.name, (node.end_lineno or 0) - node.lineno + 1) for node in functions]
    print(f"  extract    {len(rows):,} functions from {folder}", flush=True)
    return rows


@cm.stage
def transform(rows: list[tuple[str, str, int]]) -> Any:
    """Return a table with what share of its module each function is."""
    if pd is None:
        sizes: dict[str, int] = {}
        for module, _, lines in rows:
            sizes[module] = sizes.get(module, 0) + lines
        table: Any = [(number, *row, row[2] / sizes[row[0]]) for number, row in enumerate(rows)]
    else:
        table = pd.DataFrame(rows, columns=["module", "name", "lines"])
        table["share"] = table.lines / table.groupby("module").lines.transform("sum")
    print(f"  transform  a {type(table).__name__} of {len(table):,} rows", flush=True)
    return table


def load(table: Any, database: str) -> int:
    """Write the table into a database, 100 rows at a time, and return how many rows this process wrote."""
    rows = table if isinstance(table, list) else [tuple(row) for row in table.itertuples()]
    batches = [rows[start : start + 100] for start in range(0, len(rows), 100)]
    written = 0
    with (
        closing(sqlite3.connect(database)) as connection,
        cm.loop("load", batches, initial=0, every_items=5, bar=False) as loop,
    ):
        connection.execute("CREATE TABLE IF NOT EXISTS function (id INTEGER PRIMARY KEY, module, name, lines, share)")
        if loop.done:
            print(f"  load       goes on after batch {loop.done} of {len(batches)}", flush=True)
        for batch in loop:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO function VALUES (?, ?, ?, ?, ?)", batch)
            written += len(batch)
            loop.state += len(batch)
            if CRASHES and loop.done == len(batches) // 2:
                print(f"  load       {written:,} rows so far: the power fails", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
    print(f"  load       {loop.result:,} rows, of which this process wrote {written:,}", flush=True)
    return written


def main() -> None:
    """Run the pipeline, and count what arrived."""
    rows = extract(os.path.dirname(os.__file__))
    load(transform(rows), "functions.db")
    with closing(sqlite3.connect("functions.db")) as connection:
        (there,) = connection.execute("SELECT count(*) FROM function").fetchone()
        (lines,) = connection.execute("SELECT sum(lines) FROM function").fetchone()
        longest = connection.execute("SELECT module, name, lines FROM function ORDER BY lines DESC LIMIT 1").fetchone()
    is_whole = there == len(rows) and lines == sum(row[2] for row in rows)
    verdict = "none lost, none doubled" if is_whole else "SOME ARE LOST OR DOUBLED"
    print(f"  counted    {there:,} rows of {len(rows):,}; {verdict}")
    print("  longest    {}.{}: {:,} lines".format(*longest))
    print("what ran in this process, and what did not:")
    print(cm.run_report())


if __name__ == "__main__":
    main()
