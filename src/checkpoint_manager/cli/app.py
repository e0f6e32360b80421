"""The program: its commands, each in a module of its own that is loaded when the command is called."""

from __future__ import annotations

import os
from importlib import import_module
from keyword import iskeyword
from typing import TYPE_CHECKING

import click

from checkpoint_manager import _version
from checkpoint_manager.cli import COMPLETION, NAME
from checkpoint_manager.cli.group import Commands
from checkpoint_manager.cli.interrupts import held_back

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = {
    "init": "Create a store and its key.",
    "list": "List the names of the stages.",
    "status": "Show the newest version of each stage.",
    "log": "List the versions of a stage, newest first.",
    "find": "Find versions in all stages by status, time or metadata.",
    "show": "Print the data of a version as JSON.",
    "has": "Tell by the exit code whether a stage is done.",
    "save": "Save JSON from a file or stdin.",
    "tag": "Tag versions, which protects them; list the tags.",
    "diff": "Show what changed between two versions.",
    "restore": "Make an earlier version the newest.",
    "run": "Run a command as a stage, unless it is done.",
    "report": "Show what all processes of a run did.",
    "clear": "Mark a stage as not done.",
    "delete": "Delete versions for good.",
    "prune": "Delete the versions that no rule keeps.",
    "verify": "Read and check every version.",
    "repair": "Set damaged files aside, and remove leftovers.",
    "export": "Write histories into an encrypted bundle.",
    "import": "Verify a bundle, and add its versions.",
    "copy": "Copy the store to another place.",
    "key": "See and change what opens the store.",
    "doctor": "Check the set-up, and say what to do.",
    "completion": "Print a completion script for your shell.",
    "dashboard": "Show stores in a browser.",
    "demo": "Watch real programs be killed, go on and go back.",
}
"""What the list of commands says of each; the list loads none of their modules."""


class _Program(Commands):
    """The commands of the program; the module of each is loaded when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's own signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # likewise
        if cmd_name not in _COMMANDS:
            return None
        with held_back():
            module = import_module(f"checkpoint_manager.cli.commands.{cmd_name}{'_' * iskeyword(cmd_name)}")
        return next(value for value in vars(module).values() if isinstance(value, click.Command) and value.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version.__version__, prog_name=NAME)
def commands() -> None:
    """Look into a checkpoint store, go back to an earlier version, check and repair it, change its keys.

    \b
    Example:
      checkpoint-manager status --store checkpoints

    The store is the one of --store, or else of CHECKPOINT_MANAGER_STORE, or else the directory checkpoints.

    The key comes from --key SOURCE, or else from CHECKPOINT_MANAGER_KEY_FILE, _PASSPHRASE, _PASSPHRASE_FILE or
    _PASSPHRASE_COMMAND, or else from your own key file. A SOURCE is file:PATH (a key file), passphrase-file:PATH,
    cmd:COMMAND (one that prints the passphrase), fd:N (an open descriptor) or prompt.

    \b
    Exit codes:
      0 done, 1 no, 2 usage, 3 partly done
      10 no store, 11 locked, 12 key, 13 integrity
      14 not found, 15 declined, 16 conflict
      20 I/O, 70 internal, 130 interrupted
    """
    with held_back():
        from checkpoint_manager.cli.output import show_warnings  # noqa: PLC0415  # the list of commands does not need it

    show_warnings()


def run(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    try:
        if instruction := os.environ.get(COMPLETION):
            from click.shell_completion import shell_complete  # noqa: PLC0415  # only for a shell that completes

            return shell_complete(commands, {}, NAME, COMPLETION, instruction)
        with commands.make_context(NAME, list(arguments)) as context:
            return int(commands.invoke(context) or 0)
    except click.exceptions.Exit as ended:  # after --help, for example
        return ended.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the one place: a bug must not look like an answer either
        with held_back():
            from checkpoint_manager.cli import failure  # noqa: PLC0415  # what only a failure needs, --help does not wait for

        return failure.tell(error, NAME, arguments)
