"""``find``: the versions of all stages that meet criteria, each shown as soon as it is read."""

from __future__ import annotations

import itertools
import json
import shlex
from typing import TYPE_CHECKING, Any

import click
import orjson

from checkpoint_manager._format.notes import own_metadata
from checkpoint_manager._text import printable
from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.options import KEY_AND_VALUE, Number, store_options
from checkpoint_manager.cli.output import new_table, say, show_size, show_time, version_fields, write_json_list, write_text
from checkpoint_manager.cli.selector import MOMENT
from checkpoint_manager.cli.version_notes import note_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.models import Version

_STATUSES = ("completed", "progress", "failed", "cleared", "damaged", "unreadable", "missing")
_COLUMNS = ("STAGE", "VERSION", "STATUS", "SAVED", "SIZE", "METADATA")
_FIRST_PAGE, _PAGE = 20, 200


@click.command()
@click.option("--stage-prefix", default="", metavar="TEXT", help="Find versions of stages whose name begins with this.")
@click.option("--status", type=click.Choice(_STATUSES), help="Find versions of this status.")
@click.option(
    "--since", type=MOMENT, metavar="TIME", help="Find versions saved since then: 2026-11-20T14:00, or an age such as 1d."
)
@click.option(
    "--metadata",
    "pairs",
    type=KEY_AND_VALUE,
    multiple=True,
    metavar="KEY=VALUE",
    help="Find versions with this metadata. A VALUE that is JSON, such as 3 or true, is taken as that; write '\"3\"' for text. "
    "May be repeated: all must be there.",
)
@click.option("--limit", type=Number(1), metavar="N", help="Show at most N.")
@store_options
def find(
    access: Access,
    stage_prefix: str,
    status: str | None,
    since: datetime | None,
    pairs: tuple[tuple[str, str], ...],
    limit: int | None,
) -> int:
    """Find versions in all stages, by stage and newest first.

    If damaged, unreadable or missing ones are among them, it exits with 13.

    \b
    Examples:
      checkpoint-manager find --status failed --since 1d
      checkpoint-manager find --stage-prefix train/ --metadata run=a7
    """
    metadata = {key: _value(text) for key, text in pairs}
    found = access.open().find(stage_prefix=stage_prefix, status=status, since=since, metadata=metadata, limit=limit)
    statuses: set[str] = set()
    versions = _noted(found, statuses)
    if access.as_json:
        write_json_list("find", {}, "versions", map(_fields, versions))
    else:
        _write_pages(versions)
        if not statuses:
            say("no version meets these criteria")
            _say_how_to_find_text(pairs)
    return Exit.INTEGRITY if statuses & {"damaged", "unreadable", "missing"} else Exit.DONE


def _noted(versions: Iterator[Version], statuses: set[str]) -> Iterator[Version]:
    """Yield versions, and add the status of each to a set."""
    for version in versions:
        statuses.add(version.status)
        yield version


def _say_how_to_find_text(pairs: Iterable[tuple[str, str]]) -> None:
    """Say how to look for text that is JSON as well, such as the 3 that ``save --metadata epoch=3`` keeps as text."""
    for key, value in pairs:
        if not isinstance(_value(value), str):
            quoted = shlex.quote(f"{key}={json.dumps(value)}")
            say(f"{printable(value)} was taken for JSON; to look for the text, write --metadata {printable(quoted)}")


def _value(text: str) -> Any:  # noqa: ANN401  # any JSON value
    """Return the value that a text is as JSON, or the text, if it is not JSON that metadata can hold."""
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
        orjson.dumps(value)  # no integer beyond 64 bits, and not too many brackets
    except (TypeError, ValueError, RecursionError):
        return text
    return value


def _write_pages(versions: Iterator[Version]) -> None:
    table, size = new_table(_COLUMNS), _FIRST_PAGE
    while page := list(itertools.islice(versions, size)):
        write_text(table.page(map(_row, page)))
        size = _PAGE


def _row(version: Version) -> tuple[str, ...]:
    metadata = ", ".join(f"{name}={value}" for name, value in own_metadata(version.metadata).items())
    saved, size = show_time(version.created_at), show_size(version.total_size)
    return (version.stage, str(version.number), version.status, saved, size, metadata)


def _fields(version: Version) -> dict[str, Any]:
    return {**version_fields(version), "metadata": own_metadata(version.metadata), **note_fields(version)}
