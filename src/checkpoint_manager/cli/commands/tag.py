"""``tag``: name versions, which protects them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.each_stage import tell_troubles, trouble_fields, with_each
from checkpoint_manager.cli.exit_codes import Exit, UsageError, exit_of
from checkpoint_manager.cli.hints import command
from checkpoint_manager.cli.options import sealed_reason_option, store_options
from checkpoint_manager.cli.output import say, version_fields, write_json, write_line, write_table
from checkpoint_manager.cli.selector import Selector, at_option, stage_names

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.manager import CheckpointManager


@click.command()
@click.argument("selector", shell_complete=stage_names, metavar="[STAGE[@VERSION]]", required=False)
@click.argument("name", required=False)
@click.option("--delete", "unwanted", is_flag=True, help="Remove the tag, which then no longer protects its version.")
@click.option("--all", "every", is_flag=True, help="Tag the newest completed or cleared version of every stage.")
@click.option("--force", is_flag=True, help="Move a tag that names another version.")
@sealed_reason_option
@at_option
@store_options
def tag(
    access: Access,
    selector: str | None,
    name: str | None,
    at: datetime | None,
    reason: str | None,
    *,
    unwanted: bool,
    every: bool,
    force: bool,
) -> int:
    """Tag a version of a STAGE with a NAME, which protects it from deletion. Without a NAME, list the tags.

    With --all, every stage's newest completed or cleared version gets the NAME: `restore --all --tag NAME` goes back to it.

    \b
    Examples:
      checkpoint-manager tag train@7 good --reason "tested by hand"
      checkpoint-manager tag train
      checkpoint-manager tag --delete train good
      checkpoint-manager tag --all release-7
    """
    if every:
        if selector is None or name is not None or unwanted or at is not None:
            raise UsageError("--all needs a tag, and nothing else", hint=f"Write: {command('tag --all NAME')}")
        _tag_all(access, selector, reason, force=force)
        return Exit.DONE
    if unwanted and (name is None or force or at is not None):
        raise UsageError(
            "--delete needs a stage and a tag, and nothing else", hint=f"Write: {command('tag --delete STAGE NAME')}"
        )
    if name is None and (force or at is not None or reason is not None):
        raise UsageError("the tag is missing", hint=f"Write: {command('tag STAGE@VERSION NAME')}")
    cm = access.open()
    if name is None and selector is not None:
        cm.get_version(selector)  # of one stage, its error is that of the command
    if selector is None or name is None:
        return _list(access, cm, cm.stages() if selector is None else [selector])
    if unwanted:
        _untag(access, cm, selector, name, reason)
    else:
        _tag(access, cm, Selector.find(cm, selector, at), name, reason, force=force)
    return Exit.DONE


def _untag(access: Access, cm: CheckpointManager, stage: str, name: str, reason: str | None) -> None:
    cm.untag(stage, name, reason=reason)
    if access.as_json:
        write_json("tag", {"stage": stage, "deleted": name})
    else:
        say(f"tag {name} of stage {printable(stage)} removed: it no longer protects its version")


def _tag(access: Access, cm: CheckpointManager, chosen: Selector, name: str, reason: str | None, *, force: bool) -> None:
    number = cm.get_version(chosen.stage).number if chosen.version is None else chosen.version
    version = cm.tag(chosen.stage, number, name, force=force, reason=reason)
    if access.as_json:
        write_json("tag", {"tag": name, "version": version_fields(version)})
    else:
        write_line(f"{printable(version.stage)}@{version.number} {name}")


def _tag_all(access: Access, name: str, reason: str | None, *, force: bool) -> None:
    cm = access.open()
    tagged = cm.tag_pipeline(name, force=force, reason=reason)
    if access.as_json:
        write_json("tag", {"tag": name, "versions": list(map(version_fields, tagged))})
        return
    for version in tagged:
        write_line(f"{printable(version.stage)}@{version.number} {name}")
    unfinished = sorted(set(cm.stages()).difference(version.stage for version in tagged))
    if not tagged:
        say("no stage was completed yet, and there is nothing to tag")
    elif unfinished:
        say(f"not tagged, because they have no completed version: {', '.join(map(printable, unfinished))}")


def _list(access: Access, cm: CheckpointManager, stages: list[str]) -> int:
    def of(stage: str) -> dict[str, int]:
        cm.get_version(stage)  # raises if there is no such stage
        return cm.tags(stage)

    tags, troubles = with_each(stages, of)
    rows = [(stage, name, number) for stage, named in tags.items() for name, number in named.items()]
    if access.as_json:
        told = [{"stage": stage, "tag": name, "version": number} for stage, name, number in rows]
        write_json("tag", {"tags": told, "problems": trouble_fields(troubles)})
        return next(map(exit_of, troubles.values()), Exit.DONE)
    if rows:
        write_table(("STAGE", "TAG", "VERSION"), [(stage, name, str(number)) for stage, name, number in rows])
    elif not troubles:
        say(f"no tags yet. Add one: {command('tag STAGE@VERSION NAME')}")
    return tell_troubles(troubles)
