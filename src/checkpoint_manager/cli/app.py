"""The program: its commands, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import itertools
import os
from importlib import import_module
from keyword import iskeyword
from typing import TYPE_CHECKING

import click

from checkpoint_manager import _version
from checkpoint_manager.cli import not_interrupted
from checkpoint_manager.cli.exit_codes import DeclinedError, Exit, exit_of
from checkpoint_manager.cli.wording import for_the_command_line
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "checkpoint-manager"
COMPLETION = "_CHECKPOINT_MANAGER_COMPLETE"
"""The environment variable by which a shell asks for completions."""

_COMMANDS = {
    "init": "Make a store, with a key.",
    "list": "List the names of the stages.",
    "status": "Show each stage with its newest version, and whether it is whole.",
    "log": "List the versions of a stage, newest first.",
    "show": "Print the data of a stage as JSON, or a part of it.",
    "has": "Say by the exit code whether a stage is done.",
    "save": "Save JSON from a file or stdin.",
    "tag": "Name versions, which protects them; list the names.",
    "diff": "Show what changed between two versions.",
    "restore": "Make an earlier version the newest.",
    "run": "Run a command as a stage: only if it is not done yet.",
    "clear": "Mark a stage as not done.",
    "delete": "Delete versions for good.",
    "prune": "Delete what no rule keeps.",
    "verify": "Read and check everything.",
    "repair": "Put damaged files aside, remove leftovers.",
    "export": "Write histories into one encrypted bundle for another store.",
    "import": "Verify a bundle, and add what this store has not.",
    "key": "See and change what opens the store.",
    "doctor": "Look at all that may be set up wrongly, and say what to do.",
    "completion": "Print a script that lets your shell complete.",
    "demo": "Watch a real pipeline be killed, resume and go back.",
}
"""For each command, what the list of commands says of it: that list loads none of their modules."""


class _Commands(click.Group):
    """Commands that are loaded when they are called, and of which the nearest is offered for a mistyped one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's own signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # likewise
        if cmd_name not in _COMMANDS:
            return None
        with not_interrupted():
            module = import_module(f"checkpoint_manager.cli.commands.{cmd_name}{'_' * iskeyword(cmd_name)}")
        return next(value for value in vars(module).values() if isinstance(value, click.Command) and value.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS:
            import difflib  # noqa: PLC0415  # only for a mistyped name

            nearest = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f'did you mean "{nearest[0]}"?' if nearest else f"there are {', '.join(_COMMANDS)}"
            raise click.UsageError(f'there is no command "{args[0]}": {hint}', ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version.__version__, prog_name=NAME)
def commands() -> None:
    """Look into a checkpoint store, go back to an earlier version, check and repair it, change its keys.

    \b
    Example:
      checkpoint-manager status --store checkpoints

    The key comes from --key-file, --passphrase-file, --passphrase-command, --passphrase-fd or --ask-passphrase, or else from
    CHECKPOINT_MANAGER_KEY_FILE, _PASSPHRASE, _PASSPHRASE_FILE or _PASSPHRASE_COMMAND, or else from your own key file.

    \b
    Exit codes:
      0 done, 1 no, 2 usage, 3 partly done, 10 no store, 11 locked, 12 key,
      13 integrity, 14 not found, 15 declined, 20 I/O, 70 internal, 130 interrupted
    """
    with not_interrupted():
        from checkpoint_manager.cli.output import show_warnings  # noqa: PLC0415  # the list of commands does not wait for it

    show_warnings()


def run(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    try:
        if instruction := os.environ.get(COMPLETION):
            from click.shell_completion import shell_complete  # noqa: PLC0415  # only for a shell that completes

            return shell_complete(commands, {}, NAME, COMPLETION, instruction)
        with commands.make_context(NAME, list(arguments)) as context:
            return int(commands.invoke(context) or 0)
    except click.exceptions.Exit as ended:  # after --help, say
        return ended.exit_code
    except BrokenPipeError:  # whoever read stdout has read enough: no fault, and nothing more to do
        from checkpoint_manager.cli.output import discard_the_rest  # noqa: PLC0415  # --help does not wait for it

        discard_the_rest()
        return Exit.DONE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the one place: a bug must not look like an answer either
        code, message = _explained(error, arguments)
        _tell_error(error, code, message, as_json="--json" in itertools.takewhile(lambda word: word != "--", arguments))
        return code


def _explained(error: BaseException, arguments: Sequence[str]) -> tuple[Exit, str]:
    match error:
        case CheckpointError():
            explained = exit_of(error), for_the_command_line(str(error))
        case click.ClickException():
            explained = Exit.USAGE, _usage(error)
        case DeclinedError():
            explained = Exit.DECLINED, "declined: nothing was changed"
        case click.Abort() | KeyboardInterrupt():
            import shlex  # noqa: PLC0415  # only here

            again = shlex.join([NAME, *arguments])
            explained = Exit.INTERRUPTED, f"interrupted: the store is whole. To go on, run it again: {again}"
        case OSError():
            explained = Exit.STORAGE, f"{error.strerror or error}: {error.filename or 'the output'}"
        case _:
            import traceback  # noqa: PLC0415  # only here

            traceback.print_exception(error)
            explained = Exit.INTERNAL, "this is a bug of checkpoint-manager: please report the lines above"
    return explained


def _usage(error: click.ClickException) -> str:
    """Return what is wrong with the command line; where click says it, with a pointer to what is right."""
    message = error.format_message()
    if type(error) in {click.UsageError, click.exceptions.NoArgsIsHelpError}:
        return message
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = NAME if context is None else context.command_path
    sentence = " ".join(message.split())
    return f"{sentence}{'' if sentence.endswith(('.', '?', ')')) else '.'} See: {where} --help"


def _tell_error(error: BaseException, code: Exit, message: str, *, as_json: bool) -> None:
    from checkpoint_manager.cli.output import say, say_json  # noqa: PLC0415  # --help does not wait for it

    if as_json:
        say_json({"error": {"kind": type(error).__name__, "message": message, "exit_code": int(code)}})
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):  # asked for nothing, it is told what there is
        say(message)
    else:
        say(f"error: {message}")
