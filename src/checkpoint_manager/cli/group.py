"""A group of commands that answers a misspelt one with the nearest."""

from __future__ import annotations

import click

from checkpoint_manager.cli.exit_codes import UnknownCommandError


class Commands(click.Group):
    """A group of commands."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called, or raise :class:`UnknownCommandError`."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            raise UnknownCommandError(args[0], tuple(known))
        return super().resolve_command(ctx, args)
