"""The checks of the doctor, in order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from checkpoint_manager.backends.registry import scheme_of
from checkpoint_manager.cli.commands.doctor import environment, keys, storage
from checkpoint_manager.cli.commands.doctor.check import Check, ok, problem, warning
from checkpoint_manager.cli.hints import command, hint_of
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from checkpoint_manager.cli.access import Access


def examine(access: Access) -> Iterator[Check]:
    """Yield what is found, one thing after the other."""
    yield from environment.look_at_python()
    yield from environment.look_at_environment()
    yield from _or_why_not("last seen", environment.look_at_last_seen)
    try:
        exists = access.is_there()
    except CheckpointError as error:
        yield problem("store", error.message, hint_of(error) or "see what it says")
        return
    yield from _or_why_not("key", lambda: keys.look_at_key(access, store_exists=exists))
    if scheme_of(access.store):
        yield from _or_why_not("opening", lambda: keys.look_inside(access) if exists else [_no_store(access.shown)])
    else:
        yield from _look_at_directory(access, os.path.realpath(access.store), exists=exists)


def _look_at_directory(access: Access, place: str, *, exists: bool) -> Iterator[Check]:
    if exists:
        yield ok("store", place)
        yield from _or_why_not("keyring", lambda: keys.look_at_keyring(place))
        if os.path.lexists(os.path.join(place, "keyring.json")):  # without one, opening would begin a store
            yield from _or_why_not("opening", lambda: keys.look_inside(access))
        yield from _or_why_not("owner", lambda: storage.look_at_owner(place))
        yield from _or_why_not("leftovers", lambda: storage.look_at_leftovers(place))
    else:
        yield _no_store(place)
        while not os.path.isdir(place):
            place = os.path.dirname(place)
    yield from _or_why_not("place", lambda: storage.look_at_place(place))


def _no_store(place: str) -> Check:
    return warning("store", f"there is none at {place}", f"name it with --store, or make one there: {command('init')}")


def _or_why_not(topic: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Yield what one look finds; if it fails, that is the finding."""
    try:
        yield from look()
    except CheckpointError as error:
        yield problem(topic, error.message, hint_of(error) or "see what it says")
    except RuntimeError as error:  # no home folder can be found
        yield problem(topic, f"can't be looked at: {error}", "set HOME, or the variables that name the place")
    except OSError as error:
        step = "see what the operating system says about it, and who owns it"
        yield problem(topic, f"can't be looked at: {error.strerror or error}: {error.filename or ''}", step)
