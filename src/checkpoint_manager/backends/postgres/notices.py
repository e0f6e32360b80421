"""Notices of runs: what the holder of a run's lock tells other processes, in the table of records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager.backends.base import HeldRun
from checkpoint_manager.backends.postgres.lock_keys import Kind, key_of
from checkpoint_manager.backends.postgres.look import LOOK_BYTES
from checkpoint_manager.backends.stage_names import MAX_STAGE_BYTES, decoded

if TYPE_CHECKING:
    from checkpoint_manager.backends.postgres.statements import Statements

_NOTICE = "run "
"""What the name of a notice of a run begins with, in the table of records."""
_MOST_NAME_BYTES = 64
"""More than the name of a notice of ours has."""


def write(statements: Statements, stage: str, name: str, notice: bytes) -> None:
    """Write the notice of a run. It need not survive a crash of the server."""
    statement = f"""WITH later AS (SELECT set_config('synchronous_commit', 'off', true))
        INSERT INTO {statements.quoted}.record (stage, name, stamp, data) SELECT $1, $2, gen_random_uuid(), $3 FROM later
        ON CONFLICT (stage, name) DO UPDATE SET stamp = excluded.stamp, data = excluded.data"""
    statements.change("write to", statement, (stage.encode(), f"{_NOTICE}{name}", notice), stage)


def remove(statements: Statements, stage: str, name: str) -> None:
    """Remove the notice of a run."""
    statement = f"""WITH later AS (SELECT set_config('synchronous_commit', 'off', true))
        DELETE FROM {statements.quoted}.record USING later WHERE stage = $1 AND name = $2"""
    statements.change("write to", statement, (stage.encode(), f"{_NOTICE}{name}"), stage)


def held_runs(statements: Statements) -> list[HeldRun]:
    """Return the runs whose lock is held, with their notices."""
    query = f"""SELECT stage, substr(name, length($1) + 1), CASE WHEN octet_length(data) <= $2 THEN data ELSE '' END
        FROM {statements.quoted}.record
        WHERE starts_with(name, $1) AND octet_length(stage) <= $3 AND octet_length(name) <= $4"""
    rows = statements.rows("look for runs in", query, (_NOTICE, LOOK_BYTES, MAX_STAGE_BYTES, _MOST_NAME_BYTES))
    told = [(stage, name, data) for encoded, name, data in rows if (stage := decoded(encoded)) is not None]
    if not told:
        return []
    query = """SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
        AND granted AND mode = 'ExclusiveLock'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    held = {key for (key,) in statements.rows("look for runs in", query)}
    return [HeldRun(*run) for run in told if key_of(Kind.RUN, statements.schema, *run[:2]) in held]
