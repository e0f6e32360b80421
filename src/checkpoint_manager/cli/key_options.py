"""With what to open the store: a key file, or a passphrase from a prompt, a file, a command or an open descriptor.

Never from an argument: those can be read by every user of the host, and stand in the shell's history. Two at once are refused,
and so is one beside a variable of the environment that names another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from checkpoint_manager.errors import KeyUnavailableError
from checkpoint_manager.models import KeyFile, Passphrase

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

_PATH = click.Path(path_type=Path)

_OPEN_WITH = (
    click.option("--key-file", type=_PATH, help="Open the store with this key file."),
    click.option("--passphrase-file", type=_PATH, help="Open it with the passphrase in this file."),
    click.option("--passphrase-command", metavar="COMMAND", help="Open it with the passphrase that this command prints."),
    click.option("--passphrase-fd", type=int, metavar="N", help="Open it with the first line read from descriptor N."),
    click.option("--ask-passphrase", is_flag=True, help="Open it with a passphrase typed at a prompt."),
)
_NAMES = ("key_file", "passphrase_file", "passphrase_command", "passphrase_fd", "ask_passphrase")


def key_options(command: F) -> F:
    """Add the options that say with what to open the store."""
    for option in reversed(_OPEN_WITH):
        command = option(command)
    return command


def taken_from(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take what was given by these options out of a command's arguments."""
    return only_given({name: arguments.pop(name) for name in _NAMES})


def only_given(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those that stood on the command line."""
    return {name: value for name, value in arguments.items() if value is not None and value is not False}


def option_of(name: str) -> str:
    """Return the option that an argument of this name comes from."""
    return f"--{name.replace('_', '-')}"


def key_given(given: dict[str, Any], *, new: bool = False) -> KeyFile | Passphrase | None:
    """Return the key that the options name, or None if they name none.

    Args:
        given: What was given by the options.
        new: The store is to be made with it: a passphrase is asked for twice.

    Raises:
        UsageError: They name two, or a prompt is needed and there is no terminal.
        KeyUnavailableError: It can't be read, or the environment names one, too.
    """
    options = [option_of(name) for name in given]
    if len(options) > 1:
        raise click.UsageError(f"give only one of {' and '.join(options)}")
    for name, value in given.items():
        _refuse_another_in_the_environment(option_of(name))
        return from_prompt("Passphrase for the new store", twice=True) if new and value is True else _READERS[name](value)
    return None


def _refuse_another_in_the_environment(option: str) -> None:
    from checkpoint_manager._store.key_sources import VARIABLES  # noqa: PLC0415  # --help does not wait for it

    for name in VARIABLES:
        if os.environ.get(name):
            message = f"the key is given twice, by {option} and by the environment variable {name}: leave only the one that is"
            raise KeyUnavailableError(f"{message} meant")


def from_prompt(prompt: str, *, twice: bool = False) -> Passphrase:
    """Ask for a passphrase at the terminal, unseen.

    Raises:
        UsageError: There is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(
            "there is no terminal to ask for a passphrase at: use --passphrase-file, --passphrase-command or --passphrase-fd"
        )
    return Passphrase(click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))


def from_file(path: Path) -> Passphrase:
    """Return the passphrase that a file holds."""
    from checkpoint_manager._store.key_sources import read_passphrase_file  # noqa: PLC0415  # --help does not wait for it

    return read_passphrase_file(path)


def from_command(command: str, option: str = "--passphrase-command") -> Passphrase:
    """Return the passphrase that the command of an option prints; it runs without a shell."""
    from checkpoint_manager._format.hidden import Hidden  # noqa: PLC0415  # likewise
    from checkpoint_manager._store.key_sources import read_passphrase_command  # noqa: PLC0415  # --help does not wait for it

    return read_passphrase_command(Hidden(command), option)


def from_descriptor(number: int) -> Passphrase:
    """Return the passphrase that stands in the next line of an open descriptor."""
    from checkpoint_manager._store.key_sources import read_passphrase_descriptor  # noqa: PLC0415  # --help does not wait for it

    return read_passphrase_descriptor(number)


_READERS: dict[str, Callable[[Any], KeyFile | Passphrase]] = {
    "key_file": lambda path: KeyFile(str(path)),
    "passphrase_file": from_file,
    "passphrase_command": from_command,
    "passphrase_fd": from_descriptor,
    "ask_passphrase": lambda _: from_prompt("Passphrase of the store"),
}
