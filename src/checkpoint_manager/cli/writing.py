"""Commands that write: ``init``, ``save``, ``clear``, ``delete``; and the two that only answer a script: ``has``, ``list``."""

from __future__ import annotations

import json
import sys
from typing import IO, Any, NoReturn

import click

from checkpoint_manager.cli.completing import stage_names
from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.options import Access, confirm, dry_run_option, store_options, yes_option
from checkpoint_manager.cli.output import say, version_fields, write_json, write_line
from checkpoint_manager.errors import CheckpointError, CheckpointNotFoundError
from checkpoint_manager.models import display


@click.command()
@store_options
def init(access: Access) -> None:
    """Make a store, with a key: your own key file, or the one or the passphrase given. One that is there is left as it is.

    \b
    Examples:
      checkpoint-manager init
      checkpoint-manager init --store checkpoints --passphrase-file secret.txt
    """
    cm = access.open(make=True)
    if access.as_json:
        write_json("init", {"store": str(access.store), "stages": cm.stages()})
    else:
        say(f"the store {display(str(access.store))} is ready")


@click.command()
@click.argument("stage", shell_complete=stage_names)
@store_options
def has(access: Access, stage: str) -> int:
    """Say by the exit code whether a STAGE is done: 0 if its newest version is whole, authentic and completed, else 1.

    \b
    Example:
      checkpoint-manager has train || python train.py
    """
    answer = access.open().has_checkpoint(stage)
    if access.as_json:
        write_json("has", {"stage": stage, "has": answer})
    return Exit.DONE if answer else Exit.NO


@click.command("list")
@store_options
def list_stages(access: Access) -> None:
    """List the names of the stages, one on each line, without reading what they hold.

    \b
    Example:
      checkpoint-manager list
    """
    stages = access.open().stages()
    if access.as_json:
        write_json("list", {"stages": stages})
        return
    for stage in stages:
        write_line(display(stage))


@click.command()
@click.argument("stage", shell_complete=stage_names)
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--expect", type=click.IntRange(0), metavar="VERSION", help="Refuse unless this is the newest one (0: none yet).")
@store_options
def save(access: Access, stage: str, file: IO[bytes], expect: int | None) -> None:
    """Save JSON from a FILE, or from stdin, as the newest version of a STAGE, and print the version's number.

    \b
    Examples:
      checkpoint-manager save settings settings.json
      curl -s https://example.org/rows.json | checkpoint-manager save rows
    """
    cm = access.open()  # what is wrong with the store is told before a long input is read
    version = cm.save_checkpoint(stage, _json_from(file), expected_version=expect)
    if access.as_json:
        write_json("save", {"version": version_fields(version)})
    else:
        write_line(str(version.number))


def _json_from(file: IO[bytes]) -> Any:  # noqa: ANN401  # JSON is what it is
    """Read JSON exactly, or not at all: with the standard library's reader, which keeps integers of any size."""
    if file.name in {"-", "<stdin>"} and sys.stdin.isatty():
        say("reading JSON from the terminal; end it with Ctrl-D")
    try:
        return json.loads(file.read(), parse_constant=_not_json, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{display(str(file.name))} does not hold JSON: {error}. Nothing was saved") from None


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


@click.command()
@click.argument("stage", shell_complete=stage_names, required=False)
@click.option("--all", "every", is_flag=True, help="Clear every stage.")
@yes_option
@dry_run_option
@store_options
def clear(access: Access, stage: str | None, *, every: bool, yes: bool, dry_run: bool) -> None:
    """Mark a STAGE as not done, so that it is computed again. Nothing is removed, and a restore undoes it.

    \b
    Examples:
      checkpoint-manager clear train
      checkpoint-manager clear --all --yes
    """
    if every == (stage is not None):
        raise click.UsageError("name one stage, or give --all")
    cm = access.open()
    there = cm.stages()
    if stage is not None and stage not in there:
        raise _no_such_stage(access, stage)
    chosen = there if stage is None else [stage]
    say(f"To be cleared in {display(str(access.store))}: {', '.join(map(display, chosen)) or 'nothing'}")
    if not dry_run and chosen:
        confirm("Clear?", yes=yes)
    cleared = [] if dry_run else [version for version in map(cm.clear_checkpoint, chosen) if version is not None]
    if access.as_json:
        write_json("clear", {"dry_run": dry_run, "versions": [version_fields(version) for version in cleared]})
        return
    for version in cleared:
        write_line(f"{display(version.stage)}@{version.number}")


@click.command()
@click.argument("stage", shell_complete=stage_names)
@click.argument("versions", type=click.IntRange(1), nargs=-1, required=True, metavar="VERSION...")
@yes_option
@dry_run_option
@store_options
def delete(access: Access, stage: str, versions: tuple[int, ...], *, yes: bool, dry_run: bool) -> None:
    """Delete VERSIONs of a STAGE for good. Not the newest one; and a number is never used again.

    \b
    Example:
      checkpoint-manager delete train 1 2 3
    """
    cm = access.open()
    wanted = sorted(set(versions))
    there = {version.number for version in cm.history(stage)}
    if not there:
        raise _no_such_stage(access, stage)
    for version in wanted:
        if version not in there:
            message = f"stage {display(stage)} has no version {version}: see checkpoint-manager log {display(stage)}"
            raise CheckpointNotFoundError(message, stage=stage, version=version)
    for name, version in cm.tags(stage).items():
        if version in wanted:
            message = (
                f"version {version} of stage {display(stage)} has the tag {name}, which protects it: checkpoint-manager tag "
            )
            raise CheckpointError(f"{message}--delete takes it away. Nothing was deleted", stage=stage, version=version)
    say(f"To be deleted for good, of {len(there)} versions of stage {display(stage)}: {', '.join(map(str, wanted))}")
    if not dry_run:
        confirm("Delete them?", yes=yes)
        cm.delete_versions(stage, wanted)
    if access.as_json:
        write_json("delete", {"dry_run": dry_run, "stage": stage, "versions": wanted})


def _no_such_stage(access: Access, stage: str) -> CheckpointNotFoundError:
    message = f"there is no stage {display(stage)} in {display(str(access.store))}: see checkpoint-manager list"
    return CheckpointNotFoundError(message, stage=stage)
