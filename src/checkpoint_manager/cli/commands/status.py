"""``status``: each stage with its newest version, judged as ``has`` would: read and verified as a whole."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import say, show_size, show_time, table_text, write_json, write_text
from checkpoint_manager.cli.preview import newest_of
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.models import Progress, display

if TYPE_CHECKING:
    from checkpoint_manager.manager import CheckpointManager
    from checkpoint_manager.models import OnProgress

_COLUMNS = ("STAGE", "STATUS", "VERSION", "SAVED", "SIZE")


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, until q or Ctrl-C is pressed. Needs a terminal.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 86_400),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --watch waits in between.",
)
@store_options
def status(access: Access, *, watch: bool, interval: float) -> int:
    """Show each stage with its newest version, and whether it is whole.

    \b
    Examples:
      checkpoint-manager status --store checkpoints
      checkpoint-manager status --watch
    """
    if watch:
        return _watch(access, interval)
    cm = access.open()
    with progress_of("reading") as step:
        rows = _Look(access, cm).rows(step)
    if access.as_json:
        write_json("status", {"store": str(access.store), "stages": rows})
    elif not rows:
        say("no stages yet: nothing was saved in this store")
    else:
        write_text(table_text(_COLUMNS, map(_cells, rows)))
    return 0


def _watch(access: Access, interval: float) -> int:
    from checkpoint_manager.cli.watching import need_a_terminal, watch  # noqa: PLC0415  # --help does not wait for it

    need_a_terminal("status --watch")
    if access.as_json:
        raise click.UsageError("--watch is for people, and --json for programs: give one of them")
    look = _Look(access, access.open())
    return watch(lambda: table_text(_COLUMNS, map(_cells, look.rows())), f"{display(str(access.store))}", interval)


class _Look:
    """Looks at a store, once or again and again; what has not changed since is not read once more."""

    def __init__(self, access: Access, cm: CheckpointManager) -> None:
        self._history = access.store / "history"
        self._cm = cm
        self._seen: dict[str, tuple[object, dict[str, Any]]] = {}

    def rows(self, step: OnProgress = lambda _: None) -> list[dict[str, Any]]:
        """Return what there is to say of each stage."""
        stages = self._cm.stages()
        rows: list[dict[str, Any]] = []
        for stage in stages:
            rows.append(self._row(stage))
            step(Progress(len(rows), len(stages), "stages", stage))
        return rows

    def _row(self, stage: str) -> dict[str, Any]:
        stamp, row = self._seen.get(stage, (None, {}))
        if stamp is None or stamp != self._stamp(stage, row["version"]):
            before = self._stamp(stage, None)
            row = self._read(stage)
            stamp = self._stamp(stage, row["version"])
            self._seen[stage] = (stamp if stamp and stamp[:1] == before else None, row)
        return row

    def _stamp(self, stage: str, version: int | None) -> tuple[object, ...] | None:
        """Return what changes when a version is added to the stage, or the file of this one is written to."""
        from checkpoint_manager.backends.local import layout as tree  # noqa: PLC0415  # --help does not wait for it
        from checkpoint_manager.backends.stage_names import to_filename  # noqa: PLC0415  # likewise

        directory = self._history / to_filename(stage)
        with contextlib.suppress(OSError):
            added = (os.stat(directory).st_mtime_ns,)
            if version is None:
                return added
            file = os.stat(directory / tree.version_name(version), follow_symlinks=False)
            return (*added, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns)
        return None

    def _read(self, stage: str) -> dict[str, Any]:
        try:
            version = newest_of(self._cm, stage).version
        except IntegrityError as error:
            return {"stage": stage, "status": "damaged", "version": error.version, "created_at": None, "size": None}
        return {
            "stage": stage,
            "status": version.status,
            "version": version.number,
            "created_at": version.created_at,
            "size": version.size,
        }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["stage"],
        row["status"],
        str(row["version"] or ""),
        show_time(row["created_at"]) if row["created_at"] else "",
        show_size(row["size"]) if row["size"] is not None else "",
    )
