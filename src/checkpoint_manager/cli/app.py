"""The program: its commands, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import difflib
import logging
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from checkpoint_manager import _version
from checkpoint_manager.cli import comparing, keeping, key, looking, mending, moving, running, writing
from checkpoint_manager.cli.exits import DeclinedError, Exit, exit_of
from checkpoint_manager.cli.output import SCHEMA, ReaderGoneError, say
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Commands(click.Group):
    """Commands that offer the nearest name for a mistyped one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            nearest = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f'did you mean "{nearest[0]}"?' if nearest else f"there are {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f'there is no command "{args[0]}": {hint}', ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version.__version__, prog_name="checkpoint-manager")
def commands() -> None:
    r"""Look into a checkpoint store, go back to an earlier version, check and repair it, change its keys.

    \b
    Example:
      checkpoint-manager status --store checkpoints

    The key comes from --key-file, --passphrase-file or --ask-passphrase, or else from CHECKPOINT_MANAGER_KEY_FILE,
    CHECKPOINT_MANAGER_PASSPHRASE, _PASSPHRASE_FILE or _PASSPHRASE_COMMAND, or else from your own key file.

    \b
    Exit codes:
      0 done, 1 no, 2 usage, 3 partly done, 10 no store, 11 locked, 12 key,
      13 integrity, 14 not found, 15 declined, 20 I/O, 70 internal, 130 interrupted
    """


@commands.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def demo(folder: Path | None) -> None:
    r"""Watch a real pipeline be killed, resume, go back and refuse a forged file: over the Python files of FOLDER.

    Without FOLDER it takes the standard library of the running Python. It leaves its store in the current folder.

    \b
    Example:
      checkpoint-manager demo
    """
    from checkpoint_manager.demo.story import tell  # noqa: PLC0415  # --help does not wait for it

    if folder is not None and not folder.is_dir():
        raise click.UsageError(f"{folder} is no folder: name one with Python files in it, or none at all")
    tell(folder, Path.cwd())


_COMMANDS = (
    *(looking.status, looking.log, looking.show, comparing.diff),
    *(writing.init, writing.has, writing.list_stages, writing.save, writing.clear, writing.delete),
    *(keeping.tag, keeping.prune, running.run),
    *(moving.export, moving.import_),
    *(mending.restore, mending.verify, mending.repair, key.key),
)
for _command in _COMMANDS:
    commands.add_command(_command)


def run(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    _log_to_stderr()
    try:
        return int(commands.main(list(arguments), prog_name="checkpoint-manager", standalone_mode=False) or 0)
    except ReaderGoneError:
        return Exit.DONE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the one place: a bug must not look like an answer either
        code, message = _explained(error)
        _tell_error(error, code, message, as_json="--json" in arguments)
        return code


def _explained(error: BaseException) -> tuple[Exit, str]:
    match error:
        case CheckpointError():
            explained = exit_of(error), str(error)
        case click.ClickException():
            explained = Exit.USAGE, error.format_message()
        case DeclinedError():
            explained = Exit.DECLINED, "declined: nothing was changed"
        case click.Abort() | KeyboardInterrupt():
            explained = Exit.INTERRUPTED, "interrupted: the store is whole; run the command again to go on"
        case OSError():
            explained = Exit.STORAGE, f"{error.strerror or error}: {error.filename or 'the output'}"
        case _:
            traceback.print_exception(error)
            explained = Exit.INTERNAL, "this is a bug of checkpoint-manager: please report the lines above"
    return explained


def _tell_error(error: BaseException, code: Exit, message: str, *, as_json: bool) -> None:
    if as_json:
        document = {"schema": SCHEMA, "error": {"kind": type(error).__name__, "message": message, "exit_code": int(code)}}
        say(orjson.dumps(document).decode())
    else:
        say(f"error: {message}")


def _log_to_stderr() -> None:
    """Show the library's warnings and errors as lines of this program; what is merely told, the commands print themselves."""
    logger = logging.getLogger("checkpoint_manager")
    with contextlib.suppress(IndexError):
        logger.handlers.pop()  # of an earlier run in the same process
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.getMessage()}"
