"""``log``: the versions of a stage, each shown as soon as it is read."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import click
import orjson

from checkpoint_manager._format.notes import own_metadata
from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.exit_codes import Exit, UsageError
from checkpoint_manager.cli.hints import command, sentence
from checkpoint_manager.cli.options import KEY_AND_VALUE, Number, store_options
from checkpoint_manager.cli.output import (
    new_table,
    say,
    show_size,
    show_time,
    version_fields,
    write_json,
    write_json_list,
    write_table,
    write_text,
)
from checkpoint_manager.cli.selector import MOMENT, stage_names, tags_by_version
from checkpoint_manager.cli.version_notes import note_fields, stage_notes
from checkpoint_manager.errors import Hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.manager import CheckpointManager
    from checkpoint_manager.models import Reason, Version

_STATUSES = ("completed", "progress", "failed", "cleared", "damaged", "unreadable", "missing")
_WRONG = {"damaged", "missing", "unreadable"}
_FIRST_PAGE, _PAGE = 20, 200
_COLUMNS = ("VERSION", "STATUS", "SAVED", "SIZE", "BY", "NOTE")


@click.command()
@click.argument("stage", shell_complete=stage_names)
@click.option("--limit", type=Number(1), metavar="N", help="Show only the N newest of the versions asked for.")
@click.option(
    "--since", type=MOMENT, metavar="TIME", help="Show versions saved since then: 2026-11-20T14:00, or an age such as 1d."
)
@click.option(
    "--status", "statuses", type=click.Choice(_STATUSES), multiple=True, help="Show versions of this status. May be repeated."
)
@click.option(
    "--grep-metadata",
    "wanted",
    type=KEY_AND_VALUE,
    multiple=True,
    metavar="KEY=VALUE",
    help="Show versions with this metadata; a value that is not text is written as JSON. May be repeated: all must be there.",
)
@click.option("--reasons", is_flag=True, help="Show why tags were given or removed and versions deleted, instead of versions.")
@store_options
def log(
    access: Access,
    stage: str,
    limit: int | None,
    since: datetime | None,
    statuses: tuple[str, ...],
    wanted: tuple[tuple[str, str], ...],
    *,
    reasons: bool,
) -> int:
    """List the versions of a STAGE, newest first. Damaged, unreadable and missing ones are marked; then it exits with 13.

    Who saved a version, BY, is what the saving process said of itself.

    \b
    Examples:
      checkpoint-manager log train
      checkpoint-manager log train --limit 10 --status failed --since 1d
      checkpoint-manager log train --grep-metadata run=a7
      checkpoint-manager log train --reasons
    """
    if reasons and (statuses or wanted):
        raise UsageError("--reasons has no status and no metadata", hint="Leave out --status and --grep-metadata")
    cm = access.open()
    if reasons:
        _show_reasons(access, stage, _reasons_of(cm, stage, since)[:limit])
        return Exit.DONE
    tags = tags_by_version(cm, stage)
    chosen = (
        version
        for version in _each(cm, stage)
        if (not statuses or version.status in statuses)
        and (since is None or (version.created_at is not None and version.created_at >= since))
        and all(_holds(version, key, value) for key, value in wanted)
    )
    counts = Counter[str]()
    versions = _counted(itertools.islice(chosen, limit), counts)
    if access.as_json:
        fields = ({**_fields(version), "tags": tags.get(version.number, [])} for version in versions)
        write_json_list("log", {"stage": stage}, "versions", fields)
    else:
        _write_pages(versions, tags)
        _say_what_is_wrong(stage, counts)
    return Exit.INTEGRITY if _WRONG & counts.keys() else Exit.DONE


def _reasons_of(cm: CheckpointManager, stage: str, since: datetime | None) -> list[Reason]:
    found = cm.reasons(stage)
    if not found:
        cm.get_version(stage)  # raises if there is no such stage
    return [each for each in found if since is None or each.at >= since]


def _show_reasons(access: Access, stage: str, reasons: list[Reason]) -> None:
    if access.as_json:
        write_json("log", {"stage": stage, "reasons": [each._asdict() for each in reasons]})
    elif reasons:
        rows = [(show_time(each.at), _what_was_done(each), _versions(each), each.by, each.text) for each in reasons]
        write_table(("WHEN", "WHAT", "VERSIONS", "BY", "REASON"), rows)
    else:
        say(f"no reason was given for a tag or a deletion in stage {printable(stage)}")


def _what_was_done(reason: Reason) -> str:
    return f"{reason.action} {reason.tag}" if reason.tag else reason.action


def _versions(reason: Reason) -> str:
    if reason.versions == 1:
        return str(reason.first)
    of = "" if reason.versions == reason.last - reason.first + 1 else f"{reason.versions} of "
    return f"{of}{reason.first} to {reason.last}"


def _counted(versions: Iterable[Version], counts: Counter[str]) -> Iterator[Version]:
    """Yield versions, and count each by its status."""
    for version in versions:
        counts[version.status] += 1
        yield version


def _write_pages(versions: Iterator[Version], tags: Mapping[int, list[str]]) -> None:
    table, size = new_table(_COLUMNS), _FIRST_PAGE
    while page := list(itertools.islice(versions, size)):
        write_text(table.page(_row(version, tags.get(version.number, [])) for version in page))
        size = _PAGE


def _say_what_is_wrong(stage: str, counts: Counter[str]) -> None:
    if not counts:
        say(f"no version of stage {printable(stage)} meets these criteria")
    lost, unreadable = counts["damaged"] + counts["missing"], counts["unreadable"]
    if lost:
        of = f"{lost} of {counted(counts.total(), 'version')}"
        say(f"error: {of} {'is' if lost == 1 else 'are'} damaged or missing. {sentence(Hint.VERIFY_AND_REPAIR)}")
    if unreadable:
        of = f"{unreadable} of {counted(counts.total(), 'version')}"
        say(f"error: the operating system does not let {of} be read. See which and why with: {command('verify')}")


def _each(cm: CheckpointManager, stage: str) -> Iterator[Version]:
    version = None
    for version in cm.iter_history(stage):
        yield version
    if version is None:
        cm.get_version(stage)  # raises, and says what is wrong


def _holds(version: Version, key: str, value: str) -> bool:
    metadata = own_metadata(version.metadata)
    if key not in metadata:
        return False
    found = metadata[key]
    return (found if isinstance(found, str) else orjson.dumps(found).decode()) == value


def _row(version: Version, tags: list[str]) -> tuple[str, ...]:
    return (
        str(version.number),
        version.status,
        show_time(version.created_at),
        show_size(version.total_size),
        "-" if version.origin is None else f"{version.origin.user}@{version.origin.host}",
        ", ".join([*(f"tag {name}" for name in tags), *_notes(version)]),
    )


def _fields(version: Version) -> dict[str, Any]:
    return {**version_fields(version), "metadata": own_metadata(version.metadata), **note_fields(version)}


def _notes(version: Version) -> list[str]:
    restored = [] if version.restored_from is None else [f"restored from {version.restored_from}"]
    attached = (f"{each.name} ({show_size(each.size)})" for each in version.attachments)
    metadata = (f"{name}={value}" for name, value in own_metadata(version.metadata).items())
    arrays = [f"arrays in the data ({show_size(version.arrays_size)})"] if version.arrays_size else []
    return [*restored, *stage_notes(version), *arrays, *attached, *metadata]
