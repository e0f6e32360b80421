"""Where a key comes from: one ``SOURCE`` syntax for every option that takes a key.

=========================  ==================================================================
``file:PATH``              a key file
``passphrase-file:PATH``   the passphrase in the first line of a file
``cmd:COMMAND``            the passphrase in the first line that a command prints; it runs without a shell
``fd:N``                   the passphrase in the next line of an open descriptor
``prompt``                 a passphrase typed at the terminal
=========================  ==================================================================

A passphrase never stands on the command line: every user of the host can read that, and the shell keeps it in its history.
A source given together with an environment variable that names a key is refused, because one of the two is a mistake.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, get_args

import click

from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.credentials import Passphrase

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")
Kind: TypeAlias = Literal["file", "passphrase-file", "cmd", "fd", "prompt"]

FORMS = "file:PATH, passphrase-file:PATH, cmd:COMMAND, fd:N or prompt"


@dataclass(frozen=True, slots=True)
class Source:
    """One source of a key, as it was named on the command line.

    Attributes:
        kind: Which of the forms.
        value: What follows the colon; empty for ``prompt``.
        option: The option that names it, for messages.
    """

    kind: Kind
    value: str = field(repr=False)
    option: str

    def __str__(self) -> str:
        """Return the source for messages, without the part after the colon, which may be secret."""
        return f"{self.option} {self.kind}"


class SourceType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4, and not before
    """The type of an option or an argument that names a source."""

    name = "source"

    def convert(self, value: str | Source, param: click.Parameter | None, ctx: click.Context | None) -> Source:
        """Return the source that a text names, or fail with the forms it may have."""
        if isinstance(value, Source):
            return value
        kind, colon, rest = value.partition(":")
        option = "SOURCE" if param is None or isinstance(param, click.Argument) else param.opts[0]
        if kind not in get_args(Kind):
            self.fail(f"what is given does not name a source. Write {FORMS}", param, ctx)  # it may be a passphrase
        if kind == "prompt" and colon:
            self.fail("nothing may follow prompt. Write prompt alone: the passphrase is asked for", param, ctx)
        if kind != "prompt" and not rest:
            self.fail(f"what follows {kind}: is missing. Write {FORMS}", param, ctx)
        if kind == "fd" and not (rest.isascii() and rest.isdigit() and len(rest) <= 9):
            self.fail("what follows fd: is not the number of a descriptor. Write fd:3, and open it with 3<FILE", param, ctx)
        return Source(cast("Kind", kind), rest, option)


SOURCE = SourceType()


def _only_one(_: click.Context, param: click.Parameter, sources: tuple[Source, ...]) -> Source | None:
    if len(sources) > 1:
        raise UsageError(f"{param.opts[0]} is given twice", hint="Leave only the one that is meant")
    return next(iter(sources), None)


def source_option(name: str, description: str) -> Callable[[F], F]:
    """Return an option that takes one source; a second one is refused, as one of the two is a mistake."""
    return click.option(name, type=SOURCE, multiple=True, callback=_only_one, metavar="SOURCE", help=description)


key_option = source_option(
    "--key",
    (
        "The key that opens the store: file:PATH (a key file), passphrase-file:PATH, "
        "cmd:COMMAND (one that prints the passphrase), fd:N (a descriptor) or prompt."
    ),
)


def _has_terminal() -> bool:
    """Return whether a passphrase can be asked for: at the terminal of this process, even if stdin is a pipe or a file."""
    if sys.stdin.isatty():
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def ask_passphrase(what: str, *, twice: bool = False) -> Passphrase:
    """Ask for a passphrase at the terminal, which does not show it.

    Raises:
        UsageError: There is no terminal to ask at.
    """
    if not _has_terminal():
        raise UsageError(
            "there is no terminal to ask for a passphrase",
            hint="Name another source: passphrase-file:PATH, cmd:COMMAND or fd:N",
        )
    return Passphrase(click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True))
