"""Options that most commands share: which store, with which key, for whom to print; and how a store is opened with them."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from checkpoint_manager.cli.exits import DeclinedError, NoStoreError
from checkpoint_manager.cli.output import say
from checkpoint_manager.model import KeyFile, Passphrase, display

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager.manager import CheckpointManager
    from checkpoint_manager.model import OnRollback

F = TypeVar("F", bound="Callable[..., Any]")

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class Access:
    """What was said about the store and its key."""

    store: Path
    key_file: Path | None
    passphrase_file: Path | None
    ask_passphrase: bool
    lock_timeout: float
    as_json: bool

    def open(self, on_rollback: OnRollback = "raise", *, make: bool = False) -> CheckpointManager:
        """Open the store; no command but ``init`` makes one.

        Raises:
            NoStoreError: There is none.
            CheckpointError: It can't be opened.
        """
        from checkpoint_manager.manager import CheckpointManager  # noqa: PLC0415  # --help does not wait for it

        if not make and not any((self.store / name).exists() for name in ("keyring.json", "history")):
            message = (
                f"there is no checkpoint store at {display(os.path.abspath(self.store))}: name its directory with --store, or "
                'make one: "checkpoint-manager init"'
            )
            raise NoStoreError(message)
        return CheckpointManager(self.store, key=self._key(), lock_timeout=self.lock_timeout, on_rollback=on_rollback)

    def _key(self) -> Passphrase | KeyFile | None:
        given = [self.key_file is not None, self.passphrase_file is not None, self.ask_passphrase]
        if sum(given) > 1:
            raise click.UsageError("give one of --key-file, --passphrase-file and --ask-passphrase, not two")
        if self.key_file is not None:
            return KeyFile(str(self.key_file))
        if self.passphrase_file is not None:
            return read_passphrase(self.passphrase_file)
        return ask_passphrase("Passphrase of the store") if self.ask_passphrase else None


def store_options(command: F) -> F:
    """Add the options that say which store, and hand them to the command as one :class:`Access`."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # click's own signature
        names = ("store", "key_file", "passphrase_file", "ask_passphrase", "lock_timeout", "as_json")
        access = Access(**{name: kwargs.pop(name) for name in names})
        return command(access, *args, **kwargs)

    for option in reversed(
        (
            click.option(
                "--store",
                type=_PATH,
                default=Path("checkpoints"),
                show_default=True,
                envvar="CHECKPOINT_MANAGER_STORE",
                help="The store's directory.",
            ),
            click.option("--key-file", type=_PATH, help="Open the store with this key file."),
            click.option("--passphrase-file", type=_PATH, help="Open it with the passphrase in this file."),
            click.option("--ask-passphrase", is_flag=True, help="Open it with a passphrase typed at a prompt."),
            click.option(
                "--lock-timeout",
                type=click.FloatRange(0, max=86_400),
                default=60.0,
                show_default=True,
                metavar="SECONDS",
                help="How long to wait for another writer.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs."),
        )
    ):
        wrapper = option(wrapper)
    return wrapper  # type: ignore[return-value]  # the same command, with options


yes_option = click.option("--yes", is_flag=True, help="Don't ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is changed.

    Raises:
        DeclinedError: The answer was no.
        UsageError: There is no terminal to ask at.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask at: say --yes, or look first with --dry-run")
    if not click.confirm(question, err=True):
        raise DeclinedError


def ask_passphrase(prompt: str, *, twice: bool = False) -> Passphrase:
    """Ask for a passphrase at the terminal, unseen.

    Raises:
        UsageError: There is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise click.UsageError(
            "there is no terminal to ask for a passphrase at: use --passphrase-file or CHECKPOINT_MANAGER_PASSPHRASE_COMMAND"
        )
    return Passphrase(click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))


def read_passphrase(path: Path) -> Passphrase:
    """Return the passphrase that a file holds."""
    from checkpoint_manager.store.secrets import read_passphrase_file  # noqa: PLC0415  # --help does not wait for it

    return Passphrase(read_passphrase_file(path).material.decode())


def say_plan(lines: list[str]) -> None:
    """Tell what is going to happen, before it is asked for."""
    for line in lines:
        say(line)
