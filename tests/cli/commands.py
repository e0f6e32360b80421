"""The program's commands, as its users find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager.cli.app import commands

if TYPE_CHECKING:
    from collections.abc import Iterator


def each_command(group: click.Group = commands, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield each command with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from each_command(command, *words, name)
        else:
            yield (*words, name), command


COMMANDS = dict(each_command())
