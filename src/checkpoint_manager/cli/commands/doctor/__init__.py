"""``doctor``: what may be set up wrongly, each with its next step."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.hints import explain
from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import in_colour, printable, write_json, write_line, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from checkpoint_manager.cli.commands.doctor.check import Check


@click.command()
@store_options
def doctor(access: Access) -> int:
    """Look at all that may be set up wrongly, and say what to do: versions, the store's place, the key, leftovers.

    What the file system can do is tried out with files of its own, which are removed again. Neither a value of a variable
    nor a key is shown. Exits with 1 if there is a problem. What the versions hold is checked by `verify`.

    \b
    Examples:
      checkpoint-manager doctor
      checkpoint-manager doctor --store checkpoints --json
    """
    found: list[Check] = []
    for check in _checks(access):
        found.append(check)
        if not access.as_json:
            _show(check)
    sound = all(check.state != "problem" for check in found)
    if access.as_json:
        write_json("doctor", {"ok": sound, "checks": [asdict(check) for check in found]})
    return Exit.DONE if sound else Exit.NO


def _show(check: Check) -> None:
    write_text(f"{in_colour(check.state, f'{check.state:<8}')} {check.topic:<12} {printable(check.found)}\n")
    if check.next:
        write_line(f"{'':<8} {'':<12} → {check.next}")


def _checks(access: Access) -> Iterator[Check]:
    from checkpoint_manager.cli.commands.doctor import opening, storage, surroundings  # noqa: PLC0415  # --help does not wait for it
    from checkpoint_manager.cli.commands.doctor.check import ok, warning  # noqa: PLC0415  # likewise

    yield from surroundings.look_at_python()
    yield from surroundings.look_at_environment(os.environ)
    yield from _or_why_not("memory", surroundings.look_at_memory)
    exists = access.is_there()
    place = os.path.realpath(access.store)
    yield from _or_why_not("key", lambda: opening.look_at_key(access, store_exists=exists))
    if exists:
        yield ok("store", place)
        yield from _or_why_not("keyring", lambda: opening.look_at_keyring(place))
        if os.path.lexists(os.path.join(place, "keyring.json")):  # without one, opening would begin a store
            yield from _or_why_not("opening", lambda: opening.look_inside(access))
        yield from _or_why_not("owner", lambda: storage.look_at_owner(place))
        yield from _or_why_not("leftovers", lambda: storage.look_at_leftovers(place))
    else:
        yield warning("store", f"there is none at {place}", 'make one with "checkpoint-manager init", or name it with --store')
        while not os.path.isdir(place):
            place = os.path.dirname(place)
    yield from _or_why_not("place", lambda: storage.look_at_place(place))


def _or_why_not(topic: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Look at something; if that can't be done, this is what was found."""
    from checkpoint_manager.cli.commands.doctor.check import problem  # noqa: PLC0415  # --help does not wait for it
    from checkpoint_manager.errors import CheckpointError  # noqa: PLC0415  # likewise

    try:
        yield from look()
    except CheckpointError as error:
        yield problem(topic, explain(error), "see the sentence above")
    except OSError as error:
        step = "see what the operating system says about it, and who owns it"
        yield problem(topic, f"can't be looked at: {error.strerror or error}: {error.filename or ''}", step)
