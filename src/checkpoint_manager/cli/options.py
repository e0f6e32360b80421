"""Options that most commands share (the store, its key, the output format), and how they open a store."""

from __future__ import annotations

import functools
import math
import os
import select
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from checkpoint_manager import times
from checkpoint_manager._text import printable
from checkpoint_manager.cli import DEFAULT_STORE
from checkpoint_manager.cli.exit_codes import DeclinedError, NoStoreError, UsageError
from checkpoint_manager.cli.hints import name_store
from checkpoint_manager.cli.interrupts import held_back
from checkpoint_manager.cli.key_options import key_option
from checkpoint_manager.cli.output import say
from checkpoint_manager.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable


F = TypeVar("F", bound="Callable[..., Any]")

_LISTEN = 0.2
"""Seconds between two checks for Ctrl-C while a question waits."""
_LONGEST_LINE = 4096
"""Bytes that a terminal hands over at once."""


class _Location(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4, and not before
    name = "location"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("the name of the directory is empty", param, ctx)
        return os.path.expanduser(value)


class Seconds(click.FloatRange):
    """A length of time in seconds: a finite number within a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401  # click's own signature
        """Return the number, or fail: a comparison with NaN is never true, so that the range alone lets it through."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number of seconds", param, ctx)
        return number


class Number(click.IntRange):
    """A whole number within a range."""

    name = "number"  # for click's message about anything else


class Age(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4, and not before
    """A length of time, such as 12h or 1d."""

    name = "age"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the length of time, or fail."""
        if isinstance(value, timedelta):
            return value
        try:
            return times.length(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _KeyAndValue(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4, and not before
    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:  # noqa: ANN401  # click's own signature
        if isinstance(value, tuple):
            return value
        key, sign, wanted = value.partition("=")
        if not key or not sign:
            form = param.metavar if param is not None and param.metavar else "KEY=VALUE"
            self.fail(f"{printable(value)} is not of the form {form}", param, ctx)
        return key, wanted


KEY_AND_VALUE = _KeyAndValue()


class _Reason(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4, and not before
    name = "reason"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str | None:
        with held_back():
            from checkpoint_manager._operations.tag import check_reason  # noqa: PLC0415  # --help does not wait for it
        try:
            return check_reason(value)
        except ArgumentError as error:
            self.fail(error.message, param, ctx)


def reason_option(kept: str) -> Callable[[F], F]:
    """Return an option for the reason of a change, checked before anything is asked or changed.

    Args:
        kept: Where it is kept, for the help.
    """
    return click.option("--reason", type=_Reason(), metavar="TEXT", help=f"Why, in up to 500 characters. {kept}")


sealed_reason_option = reason_option("See: log STAGE --reasons.")
metadata_reason_option = reason_option("It is kept in the metadata of the new version.")


def reason_metadata(reason: str | None) -> dict[str, object] | None:
    """Return the metadata that holds a reason."""
    return None if reason is None else {"reason": reason}


def store_options(command: F) -> F:
    """Add the options for the store, and pass them to the command as one :class:`Access`."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # click's own signature
        with held_back():
            from checkpoint_manager.cli.access import Access  # noqa: PLC0415  # loads the library, and --help does not wait for it

        access = Access(**{name: kwargs.pop(name) for name in ("store", "key", "lock_timeout", "as_json")})
        is_named = click.get_current_context().get_parameter_source("store") is ParameterSource.COMMANDLINE
        name_store(access.shown if is_named else None)
        return command(access, *args, **kwargs)

    store = click.option(
        "--store",
        type=_Location(),
        metavar="LOCATION",
        default=DEFAULT_STORE,
        envvar="CHECKPOINT_MANAGER_STORE",
        help="The store: a directory, or a URL. Default: $CHECKPOINT_MANAGER_STORE, or checkpoints.",
    )
    return cast("F", _with_options(wrapper, store))


def several_stores_options(command: F) -> F:
    """Add the options for one store or several, and pass them to the command as a list of :class:`Access`, never empty."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # click's own signature
        with held_back():
            from checkpoint_manager._store.scan import find_stores  # noqa: PLC0415  # as above
            from checkpoint_manager.backends.registry import scheme_of  # noqa: PLC0415  # likewise
            from checkpoint_manager.cli.access import Access  # noqa: PLC0415  # likewise

        named, folders = kwargs.pop("store"), kwargs.pop("scan")
        stores: dict[str, str] = {}
        for store in (*named, *(found for folder in folders for found in find_stores(folder))):
            stores.setdefault(store if scheme_of(store) else os.path.realpath(store), store)  # once, under its first name
        if not named and not folders:
            stores[""] = os.path.expanduser(os.environ.get("CHECKPOINT_MANAGER_STORE") or DEFAULT_STORE)
        if not stores:
            searched = " or ".join(printable(folder) for folder in folders)
            raise NoStoreError(f"there is no store in {searched}, nor below", hint="Name another folder with --scan")
        shared = {name: kwargs.pop(name) for name in ("key", "lock_timeout", "as_json")}
        accesses = [Access(store=store, **shared) for store in stores.values()]
        name_store(accesses[0].shown if len(accesses) == 1 and named else None)
        return command(accesses, *args, is_list=len(named) > 1 or bool(folders), as_json=shared["as_json"], **kwargs)

    store = click.option(
        "--store",
        type=_Location(),
        metavar="LOCATION",
        multiple=True,
        help="A store: a directory, or a URL. May be repeated. Default: $CHECKPOINT_MANAGER_STORE, or checkpoints.",
    )
    scan = click.option(
        "--scan",
        type=_Location(),
        metavar="FOLDER",
        multiple=True,
        help="All stores in this folder and below it, eight folders deep; links are not followed.",
    )
    return cast("F", _with_options(wrapper, store, scan))


def _with_options(wrapper: Any, *stores: Callable[[Any], Any]) -> Any:  # noqa: ANN401  # click's own decorators
    """Return a command with the options of its stores and those that all of them share."""
    for option in reversed(
        (
            *stores,
            key_option,
            click.option(
                "--lock-timeout",
                type=Seconds(0, 86_400),
                default=60.0,
                show_default=True,
                metavar="SECONDS",
                help="How long to wait for another writer.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs."),
        )
    ):
        wrapper = option(wrapper)
    return wrapper


yes_option = click.option("--yes", is_flag=True, help="Don't ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def confirm(question: str, *, yes: bool, hint: str = "Give --yes, or see the plan with --dry-run") -> None:
    """Ask before something is changed.

    Args:
        question: What is asked.
        yes: It was answered on the command line.
        hint: What to do without a terminal; a command without --dry-run has another one.

    Raises:
        DeclinedError: The answer was no.
        UsageError: There is no terminal to ask at.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        message = f'there is no terminal to ask "{question}"'
        raise UsageError(message, hint=hint)
    while (answer := _answer(f"{question} [y/N]: ")) not in {"y", "yes"}:
        if answer in {"", "n", "no"}:
            raise DeclinedError
        say('Please answer "y" or "n".')


def _answer(question: str) -> str:
    """Ask at the terminal. Not with input(), which misses a Ctrl-C between the end of the question and its read."""
    line = b""
    try:
        sys.stderr.write(question)
        sys.stderr.flush()
        while not select.select([sys.stdin], [], [], _LISTEN)[0]:
            pass
        line = os.read(sys.stdin.fileno(), _LONGEST_LINE)
    finally:
        if not line:
            sys.stderr.write("\n")  # the next message starts on a line of its own
    if not line:
        raise click.Abort
    return line.decode(errors="replace").strip().lower()
