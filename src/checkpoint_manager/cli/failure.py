"""The one place where an error becomes a message, a hint and an exit code."""

from __future__ import annotations

import difflib
import itertools
import shlex
import traceback
from typing import TYPE_CHECKING

import click

from checkpoint_manager.cli.exit_codes import DeclinedError, Exit, UnknownCommandError, UsageError, exit_of
from checkpoint_manager.cli.hints import hint_of
from checkpoint_manager.cli.output import discard_the_rest, say, say_json, say_lines
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence


def tell(error: BaseException, program: str, arguments: Sequence[str]) -> int:
    """Tell the user, or with ``--json`` the calling program, what went wrong, and return the exit code."""
    match error:
        case BrokenPipeError():  # the reader of stdout has read enough: not an error, and nothing is left to do
            discard_the_rest()
            return Exit.DONE
        case CheckpointError():
            code, message, hint = exit_of(error), error.message, hint_of(error)
        case click.ClickException():
            code = Exit.USAGE
            message, hint = _usage(error, program)
        case DeclinedError():
            code, message, hint = Exit.DECLINED, "declined: nothing was changed", ""
        case click.Abort() | KeyboardInterrupt():
            again = shlex.join([program, *arguments])
            code, message, hint = Exit.INTERRUPTED, "interrupted: the store is whole", f"To go on, run it again: {again}"
        case MemoryError():
            code, message, hint = Exit.STORAGE, "there is not enough memory", "Free some memory, or work with smaller data"
        case OSError():
            code, message, hint = Exit.STORAGE, f"{error.strerror or error}: {error.filename or 'the output'}", ""
        case _:
            say_lines("".join(traceback.format_exception(error)))
            code = Exit.INTERNAL
            message, hint = f"this is a bug of {program}", "Please report it with the lines above"
    if "--json" in itertools.takewhile(lambda word: word != "--", arguments):
        fields = {"kind": type(error).__name__, "message": message, "hint": hint, "exit_code": int(code)}
        say_json({"error": fields})
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):  # the help, which is an answer
        say_lines(message)
    else:
        say(f"error: {message}. {hint}" if hint else f"error: {message}")
    return code


def _usage(error: click.ClickException, program: str) -> tuple[str, str]:
    """Return what is wrong with the command line, and what to do about it."""
    match error:
        case UsageError():
            return error.message, error.hint
        case UnknownCommandError():
            nearest = difflib.get_close_matches(error.name, error.known, n=1)
            return error.message, f'Did you mean "{nearest[0]}"?' if nearest else f"Choose one of {', '.join(error.known)}"
        case click.exceptions.NoArgsIsHelpError():
            return error.format_message(), ""
        case _:
            context = error.ctx if isinstance(error, click.UsageError) else None
            message = " ".join(error.format_message().split()).removesuffix(".")
            return message, f"See: {program if context is None else context.command_path} --help"
