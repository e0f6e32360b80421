"""``status``: each stage with its newest version, judged as ``has`` would: read and verified as a whole."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager._text import counted, escaped
from checkpoint_manager.cli.exit_codes import Exit, UsageError, exit_of
from checkpoint_manager.cli.hints import explain, name_store
from checkpoint_manager.cli.options import Seconds, several_stores_options
from checkpoint_manager.cli.output import folded, new_table, say, show_size, show_time, write_json, write_line, write_table
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.cli.version_notes import stage_notes
from checkpoint_manager.cli.watch import need_a_terminal, watch
from checkpoint_manager.errors import (
    CheckpointError,
    FormatError,
    IntegrityError,
    LockTimeoutError,
    RollbackError,
    StorageError,
)
from checkpoint_manager.stages.display import items
from checkpoint_manager.stages.report import duration

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager, KeyFile, Passphrase
    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.reports import OnProgress, Running, StageStatus

_TROUBLE = ((RollbackError, "rolled-back"), (IntegrityError, "damaged"), (FormatError, "unreadable"))
_FIELDS = ("stage", "status", "version", "created_at", "size", "note", "problem")
_COLUMNS = ("STAGE", "STATUS", "VERSION", "SAVED", "SIZE", "NOTE")


@click.command()
@click.option("--watch", "watched", is_flag=True, help="Refresh until q or Ctrl-C is pressed. Needs a terminal.")
@click.option(
    "--interval",
    type=Seconds(0.1, 86_400),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --watch waits in between.",
)
@several_stores_options
def status(accesses: list[Access], *, watched: bool, interval: float, is_list: bool, as_json: bool) -> int:
    """Show each stage with its newest version, and whether it is whole.

    Exits with 13 if one is not, and with 20 if the operating system does not let one be read.

    A stage whose function or loop runs now, in whatever process, is shown as running: since when, by whom, and how far it is.

    A stage is new if its program has defined it, and it has no version yet.

    A stage is stale if it was made of a result of another stage that is out of date. Running the pipeline brings it up to date.

    \b
    Examples:
      checkpoint-manager status --store checkpoints
      checkpoint-manager status --watch
      checkpoint-manager status --store etl --store training
      checkpoint-manager status --scan /srv/pipelines
    """
    if watched:
        return _watch(accesses, interval, is_list=is_list, as_json=as_json)
    return _show_list(accesses, as_json=as_json) if is_list else _show(accesses[0])


def _show(access: Access) -> int:
    cm = access.open()
    with progress_of("reading") as step:
        look = _Look(cm)
        rows = look.rows(step)
    if access.as_json:
        write_json("status", {"store": access.location, "stages": rows})
    else:
        _write(access, rows)
    return look.code


def _write(access: Access, rows: list[dict[str, Any]]) -> None:
    if not rows:
        say(f"no stages yet in {access.shown}")
        return
    write_table(*_table(rows))
    for row in rows:
        if row["problem"]:
            say(f"error: {row['problem']}")


def _show_list(accesses: list[Access], *, as_json: bool) -> int:
    """Show several stores. One that can't be read does not hide the others; then the exit code is 3, unless one is damaged."""
    found: list[dict[str, Any]] = []
    secret = accesses[0].key_given()
    for access in accesses:
        name_store(access.shown)
        rows, problem, code = _rows_of(access, secret)
        found.append({"store": access.location, "stages": rows, "problem": problem, "exit_code": int(code)})
        if not as_json:
            if len(found) > 1:
                write_line("")
            write_line(access.shown)
            _write(access, rows) if problem is None else say(f"error: {problem}")
    if as_json:
        write_json("status", {"stores": found})
    codes = {each["exit_code"] for each in found}
    return Exit.INTEGRITY if Exit.INTEGRITY in codes else Exit.DONE if codes == {Exit.DONE} else Exit.PARTLY


def _rows_of(access: Access, secret: KeyFile | Passphrase | None) -> tuple[list[dict[str, Any]], str | None, Exit]:
    """Return the rows of a store; or why it can't be read, and the exit code for that."""
    try:
        with access.open(key=secret) as cm:
            look = _Look(cm)
            return look.rows(), None, look.code
    except CheckpointError as error:
        return [], explain(error), exit_of(error)


def _watch(accesses: list[Access], interval: float, *, is_list: bool, as_json: bool) -> int:
    need_a_terminal("status --watch")
    if as_json:
        raise UsageError("--watch is for people, and --json for programs", hint="Give one of them")
    if not is_list:
        look = _Look(accesses[0].open())
        return watch(lambda: _drawn(look), accesses[0].shown, interval, "stage")
    secret = accesses[0].key_given()
    looks = [(access.shown, _look_at(access, secret)) for access in accesses]

    def draw() -> list[list[str]]:
        lines: list[list[str]] = []
        for shown, look in looks:
            name_store(shown)
            lines += [[shown], *([line] for line in itertools.chain.from_iterable(_drawn(look)))]
        return lines

    return watch(draw, counted(len(accesses), "store"), interval, "line")


def _look_at(access: Access, secret: KeyFile | Passphrase | None) -> _Look | CheckpointError:
    """Return a look at a store, or why it can't be opened: that does not hide the others."""
    try:
        return _Look(access.open(key=secret))
    except CheckpointError as error:
        return error


def _drawn(look: _Look | CheckpointError) -> list[list[str]]:
    """Return the lines of each stage of a store, below those of the head; or why it can't be read."""
    try:
        if isinstance(look, CheckpointError):
            raise look
        columns, cells = _table(look.rows())
        return new_table(columns).rows(cells) if cells else [["nothing saved yet"]]
    except CheckpointError as error:
        return [folded(escaped(f"error: {explain(error)}"), sys.stdout).splitlines()]


class _Look:
    """Looks at a store, once or again and again. A version that was read is not read again.

    Attributes:
        code: The exit code after what was found.
    """

    def __init__(self, cm: CheckpointManager) -> None:
        self.code = Exit.DONE
        self._cm = cm
        self._seen: dict[str, dict[str, Any]] = {}

    def rows(self, step: OnProgress = lambda _: None) -> list[dict[str, Any]]:
        """Return the fields of each stage."""
        found = self._cm.status(verified=True, progress=step) if not self._seen else map(self._again, self._cm.status())
        rows: list[dict[str, Any]] = []
        for each in found:
            if each.error is not None and self.code != Exit.INTEGRITY:
                self.code = Exit.STORAGE if isinstance(each.error, StorageError) else Exit.INTEGRITY
            row = self._seen[each.stage] = self._seen.get(each.stage) or _row(each)
            rows.append({**row, "stale": each.stale, "running": list(map(_run_fields, each.running))})
        return rows

    def _again(self, each: StageStatus) -> StageStatus:
        """Return the state of a stage. If it has another newest version than before, that is read and verified, too."""
        row = self._seen.get(each.stage)
        if row is not None and each.newest is not None and row["version"] == each.newest.number:
            return each
        self._seen.pop(each.stage, None)
        if each.newest is None:
            return each
        try:
            return replace(each, newest=self._cm.get_json(each.stage, each.newest.number).version)
        except LockTimeoutError:
            raise
        except CheckpointError as error:  # one stage's trouble does not hide the others
            return replace(each, newest=None, error=error)


def _row(each: StageStatus) -> dict[str, Any]:
    """Return the fields of a stage, but for what may change without a new version."""
    row: dict[str, Any] = {**dict.fromkeys(_FIELDS), "stage": each.stage}
    if each.error is not None:
        state = next((state for kind, state in _TROUBLE if isinstance(each.error, kind)), "unreadable")
        return {**row, "status": state, "version": each.error.version, "problem": explain(each.error)}
    if each.newest is None:
        return {**row, "status": "new"}
    version, notes = each.newest, ", ".join(stage_notes(each.newest)) or None
    placed = {"version": version.number, "created_at": version.created_at, "size": version.total_size, "note": notes}
    return {**row, "status": version.status, **placed}


def _table(rows: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and the cells; the notes only if there are any: a narrow terminal has better use for the room."""
    width = len(_COLUMNS) if any(map(_note, rows)) else len(_COLUMNS) - 1
    return _COLUMNS[:width], [_cells(row)[:width] for row in rows]


def _note(row: dict[str, Any]) -> str:
    return ", ".join(filter(None, (*map(_run_note, row["running"][:1]), *_more(row), row["stale"])))


def _more(row: dict[str, Any]) -> list[str | None]:
    """Return the rest of the note: of a stage that runs, how many runs there are besides the one that began first."""
    if not row["running"]:
        return [row["note"]]
    others = len(row["running"]) - 1
    return [f"and {counted(others, 'run')} more"] if others else []


def _run_fields(run: Running) -> dict[str, Any]:
    """Return what a run tells, for programs."""
    origin = run.origin
    return {
        "started_at": run.started_at,
        "updated_at": run.updated_at,
        "user": None if origin is None else origin.user,
        "host": None if origin is None else origin.host,
        "pid": None if origin is None else origin.pid,
        "run": run.run_id,
        "done": run.done,
        "total": run.total,
        "expected_end": run.expected_end,
    }


def _run_note(run: dict[str, Any]) -> str:
    """Return what a run tells, for people."""
    if run["started_at"] is None:
        return "its process tells nothing that this key opens"
    now = datetime.now(UTC)
    seconds, end = (now - run["started_at"]).total_seconds(), run["expected_end"]
    return ", ".join(
        [
            *([items(run["done"], run["total"])] if run["done"] is not None else []),
            f"for {duration(max(0.0, seconds))}",
            *([f"about {duration(max(0.0, (end - now).total_seconds()))} left"] if end is not None else []),
            f"by {run['user']} on {run['host']}, process {run['pid']}",
        ]
    )


def _state(row: dict[str, Any]) -> str:
    if row["running"] and not row["problem"]:
        return "running"
    return "stale" if row["stale"] and row["status"] == "completed" else str(row["status"])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["stage"],
        _state(row),
        str(row["version"] or ""),
        show_time(row["created_at"]) if row["created_at"] else "",
        show_size(row["size"]) if row["size"] is not None else "",
        _note(row),
    )
