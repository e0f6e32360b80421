"""``save``: JSON from a file or stdin as the newest version of a stage."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.options import KEY_AND_VALUE, Number, store_options
from checkpoint_manager.cli.output import say, version_fields, write_json, write_line
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.cli.selector import refuse_a_selector, stage_names

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access

_MOST_CHARACTERS = 40
"""How much of a number a message shows."""


@click.command()
@click.argument("stage", shell_complete=stage_names)
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--expect", type=Number(0), metavar="VERSION", help="Refuse unless this is the newest one (0: none yet).")
@click.option(
    "--metadata",
    "pairs",
    type=KEY_AND_VALUE,
    multiple=True,
    metavar="KEY=VALUE",
    help="Keep this text with the version; log shows it. May be repeated.",
)
@click.option(
    "--attach",
    "attached",
    type=KEY_AND_VALUE,
    multiple=True,
    metavar="NAME=PATH",
    help="Attach this file, of any size. May be repeated.",
)
@store_options
def save(
    access: Access,
    stage: str,
    file: IO[bytes],
    expect: int | None,
    pairs: tuple[tuple[str, str], ...],
    attached: tuple[tuple[str, str], ...],
) -> None:
    """Save JSON from a FILE, or from stdin, as the newest version of a STAGE, and print the version's number.

    \b
    Examples:
      checkpoint-manager save settings settings.json
      checkpoint-manager save settings settings.json --metadata run=a7
      checkpoint-manager save train state.json --attach weights=weights.npy
      curl -s https://example.org/rows.json | checkpoint-manager save rows
    """
    if len(dict(pairs)) != len(pairs):
        raise UsageError("--metadata names a key twice", hint="Give each key once")
    if len(dict(attached)) != len(attached):
        raise UsageError("--attach names an attachment twice", hint="Give each name once")
    cm = access.open()  # fails before a long input is read
    if expect is None:
        new = shlex.join(["checkpoint-manager", "save", "--expect", "0", stage])
        refuse_a_selector(cm, stage, "save makes a new one", f", or for a new stage of this name: {printable(new)}")
    attachments = {name: Path(path) for name, path in attached}
    data = _json_from(file)
    with progress_of("attaching") as step:
        version = cm.save_checkpoint(
            stage, data, metadata=dict(pairs), expected_version=expect, attachments=attachments, progress=step
        )
    if access.as_json:
        write_json("save", {"version": version_fields(version)})
    else:
        write_line(str(version.number))


def _json_from(file: IO[bytes]) -> Any:  # noqa: ANN401  # JSON is what it is
    """Read JSON exactly, or not at all. The standard library's reader keeps integers of any size."""
    if file.name in {"-", "<stdin>"} and sys.stdin.isatty():
        say("reading JSON from the terminal; end it with Ctrl-D")
    try:
        text = file.read()
        if not text.strip():
            raise ValueError("it is empty")  # as the other reasons
        return json.loads(text, parse_float=_finite, parse_constant=_not_json, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else str(error).partition("; use sys.")[0]
        message = f"{printable(str(file.name))} does not hold JSON ({why}), and nothing was saved"
        raise UsageError(message, hint='Give a JSON value, such as {"epoch": 3}') from None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # the standard library's reader makes infinity of a number that is too large
        raise ValueError(f"{text[:_MOST_CHARACTERS]} is beyond the range of a floating-point number")
    return number


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found
