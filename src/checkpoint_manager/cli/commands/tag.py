"""``tag``: name versions, which protects them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import say, version_fields, write_json, write_line, write_table
from checkpoint_manager.cli.selector import Selector, at_option, stage_names

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.manager import CheckpointManager


@click.command()
@click.argument("selector", shell_complete=stage_names, metavar="[STAGE[@VERSION]]", required=False)
@click.argument("name", required=False)
@click.option("--delete", "unwanted", is_flag=True, help="Remove the tag; it does not protect its version any more.")
@click.option("--force", is_flag=True, help="Move a tag that names another version.")
@at_option
@store_options
def tag(access: Access, selector: str | None, name: str | None, at: datetime | None, *, unwanted: bool, force: bool) -> None:
    """Tag a version of a STAGE with a NAME, which protects it from deletion. Without a NAME, list the tags.

    \b
    Examples:
      checkpoint-manager tag train@7 good
      checkpoint-manager tag train
      checkpoint-manager tag --delete train good
    """
    if unwanted and (name is None or force or at is not None):
        raise UsageError(
            "--delete needs a stage and a tag, and nothing else", hint="Write: checkpoint-manager tag --delete STAGE NAME"
        )
    if name is None and (force or at is not None):
        raise UsageError("the tag is missing", hint="Write: checkpoint-manager tag STAGE@VERSION NAME")
    cm = access.open()
    if selector is None or name is None:
        _list(access, cm, cm.stages() if selector is None else [selector])
    elif unwanted:
        cm.untag(selector, name)
        if access.as_json:
            write_json("tag", {"stage": selector, "deleted": name})
    else:
        chosen = Selector.find(cm, selector, at)
        version = cm.tag(chosen.stage, "latest" if chosen.version is None else chosen.version, name, force=force)
        if access.as_json:
            write_json("tag", {"tag": name, "version": version_fields(version)})
        else:
            write_line(f"{printable(version.stage)}@{version.number} {name}")


def _list(access: Access, cm: CheckpointManager, stages: list[str]) -> None:
    if len(stages) == 1:
        cm.get_version(stages[0])  # raises if there is no such stage
    rows = [(stage, name, number) for stage in stages for name, number in cm.tags(stage).items()]
    if access.as_json:
        write_json("tag", {"tags": [{"stage": stage, "tag": name, "version": number} for stage, name, number in rows]})
    elif rows:
        write_table(("STAGE", "TAG", "VERSION"), [(stage, name, str(number)) for stage, name, number in rows])
    else:
        say("no tags yet. Add one: checkpoint-manager tag STAGE@VERSION NAME")
