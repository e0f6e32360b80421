"""The one place where an error becomes a message, a hint and an exit code."""

from __future__ import annotations

import difflib
import errno
import itertools
import re
import shlex
import traceback
from typing import TYPE_CHECKING

import click

from checkpoint_manager.cli import CLOSE_SOME_FILES
from checkpoint_manager.cli.exit_codes import DeclinedError, Exit, UnknownCommandError, UsageError, exit_of
from checkpoint_manager.cli.hints import hint_of
from checkpoint_manager.cli.output import discard_the_rest, say, say_json, say_lines
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence


def tell(error: BaseException, program: str, arguments: Sequence[str]) -> int:
    """Tell the user, or with ``--json`` the calling program, what went wrong, and return the exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of stdout has read enough: not an error, and nothing is left to do
        discard_the_rest()
        return Exit.DONE
    code, message, hint = _explained(error, program, arguments)
    if code == Exit.INTERNAL and not isinstance(error, CheckpointError):
        say_lines("".join(traceback.format_exception(error)))
    if "--json" in itertools.takewhile(lambda word: word != "--", arguments):
        fields = {"kind": type(error).__name__, "message": message, "hint": hint, "exit_code": int(code)}
        say_json({"error": fields})
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):  # the help, which is an answer
        say_lines(message)
    else:
        say(f"error: {message}. {hint}" if hint else f"error: {message}")
    return code


def _explained(error: BaseException, program: str, arguments: Sequence[str]) -> tuple[Exit, str, str]:
    """Return the exit code, the message and the hint of an error."""
    match error:
        case CheckpointError():
            explained = exit_of(error), error.message, hint_of(error)
        case click.ClickException():
            explained = Exit.USAGE, *_usage(error, program)
        case DeclinedError():
            explained = Exit.DECLINED, "declined: nothing was changed", ""
        case click.Abort() | KeyboardInterrupt():
            again = shlex.join([program, *arguments])
            explained = Exit.INTERRUPTED, "interrupted: nothing is left half done", f"To continue, run it again: {again}"
        case MemoryError():
            explained = Exit.STORAGE, "there is not enough memory", "Free some memory, or work with smaller data"
        case FileNotFoundError(filename=None):  # of os.getcwd
            explained = Exit.STORAGE, "the working directory is gone", "Change to another one"
        case OSError():
            hint = CLOSE_SOME_FILES if error.errno == errno.EMFILE else ""
            explained = Exit.STORAGE, f"{error.filename or 'the output'}: {error.strerror or error}", hint
        case _:
            explained = Exit.INTERNAL, f"this is a bug of {program}", "Please report it with the lines above"
    return explained


def _usage(error: click.ClickException, program: str) -> tuple[str, str]:
    """Return what is wrong with the command line, and what to do about it."""
    match error:
        case UsageError():
            return error.message, error.hint
        case UnknownCommandError(name="help"):
            return error.message, _help(error, program)
        case UnknownCommandError():
            nearest = difflib.get_close_matches(error.name, error.known, n=1)
            return error.message, f'Did you mean "{nearest[0]}"?' if nearest else f"Choose one of {', '.join(error.known)}"
        case click.exceptions.NoArgsIsHelpError():
            return error.format_message(), ""
        case click.NoSuchOption():
            return f'there is no option "{error.option_name}"', _near_option(error, program)
        case _:
            message = " ".join(error.format_message().split()).rstrip(".?")
            message = re.sub(r"'\[(\w+)\]'", r"'\1'", message)  # the brackets of an optional argument
            joined = "Write a version as STAGE@VERSION. " if "extra argument" in message and _takes_a_version(error) else ""
            return message, f"{joined}{_help(error, program)}"


def _near_option(error: click.NoSuchOption, program: str) -> str:
    """Return the hint for an unknown option: the nearest known one, compared without the dashes that all of them have."""
    if error.ctx is not None and any(error.option_name in each.opts for each in error.ctx.find_root().command.params):
        return f"It belongs to the program: {program} {error.option_name}"
    known = {each.lstrip("-"): each for each in error.possibilities or ()}
    nearest = difflib.get_close_matches(error.option_name.lstrip("-"), known, n=1)
    hint = f'Did you mean "{known[nearest[0]]}"? ' if nearest else ""
    return f"{hint}{_help(error, program)}"


def _takes_a_version(error: click.ClickException) -> bool:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return context is not None and any("@VERSION" in (each.metavar or "") for each in context.command.params)


def _help(error: click.ClickException, program: str) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"See: {program if context is None else context.command_path} --help"
