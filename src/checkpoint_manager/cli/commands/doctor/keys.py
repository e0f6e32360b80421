"""The key: where it comes from, whether it opens the store, and what can be seen then. Never the key itself."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from checkpoint_manager._format.keyring import MAX_KEYRING_BYTES, Keyring
from checkpoint_manager._store.key_sources import VARIABLES, default_key_path, is_there
from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli import NAME
from checkpoint_manager.cli.commands.doctor.check import Check, ok, problem, warning
from checkpoint_manager.cli.hints import command, hint_of
from checkpoint_manager.cli.output import show_time
from checkpoint_manager.errors import CheckpointError, IntegrityError, KeyUnavailableError, RollbackError, WrongKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.manager import CheckpointManager
    from checkpoint_manager.models import Version

_CLOCKS_DIFFER = timedelta(minutes=2)
_NEXT: tuple[tuple[type[CheckpointError], str], ...] = (
    (WrongKeyError, 'give the key that belongs to this store: "keyring" above says what kinds open it'),
    (KeyUnavailableError, 'see "key" above'),
    (RollbackError, f"if you restored an older copy on purpose: {NAME} repair --accept-rollback"),
    (IntegrityError, 'see "keyring" above'),
)


def look_at_key(access: Access, *, store_exists: bool) -> Iterator[Check]:
    """Look at where the key would come from."""
    sources = [] if access.key is None else [str(access.key)]
    sources += [f"the environment variable {name}" for name in VARIABLES if os.environ.get(name)]
    if len(sources) > 1:
        yield problem("key", f"it is given twice, by {' and by '.join(sources)}", "leave only the one that is meant")
    elif sources:
        yield ok("key", f"it comes from {sources[0]}")
    elif is_there(default := default_key_path()):
        yield ok("key", f"it comes from your own key file {default}: keep a copy of it in a safe place")
    elif store_exists:
        step = "name the key with --key or in the environment, or restore the key file from your copy"
        yield problem("key", f"none is named, and your own key file {default} does not exist", step)
    else:
        yield ok("key", f"none is named: with the first store, a key file is made at {default}")


def look_at_keyring(directory: str) -> Iterator[Check]:
    """Look at what the keyring says without a key."""
    path = os.path.join(directory, "keyring.json")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        step = "put it back from a backup: without it nothing in this store can be read"
        yield problem("keyring", f"{path} can't be opened: {error.strerror}", step)
        return
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_KEYRING_BYTES + 1)
    try:
        keyring = Keyring.parse(data, where=path)
    except CheckpointError as error:
        yield problem("keyring", error.message, hint_of(error))
        return
    slots = ", ".join(slot.kind + (f" ({printable(slot.label)})" if slot.label else "") for slot in keyring.slots)
    yield ok("keyring", f"it claims to have {counted(len(keyring.slots), 'slot')}: {slots}")
    if len(keyring.keys) > 1:
        step = f"if no rotation is running, one was interrupted: resume it with {command('key rotate')}"
        yield warning("rotation", "the store has two keys: its versions are being sealed under the new one", step)


def look_inside(access: Access) -> Iterator[Check]:
    """Open the store, and look at the newest versions."""
    try:
        cm = access.open()
        yield ok("opening", "the key opens the store")
        yield from _look_at_stages(cm)
    except CheckpointError as error:
        step = next((step for kind, step in _NEXT if isinstance(error, kind)), hint_of(error))
        yield problem("opening", error.message, step)


def _look_at_stages(cm: CheckpointManager) -> Iterator[Check]:
    """Look at the newest version of each stage, of those that are there and those that were seen."""
    newest: list[Version] = []
    for stage in cm.stages():
        try:
            newest.append(cm.get_version(stage))
        except CheckpointError as error:
            step = hint_of(error) or f"{command('verify')} looks closer"
            yield problem("stages", error.message, step)
    have = "has" if len(newest) == 1 else "have"
    yield ok("stages", f"{counted(len(newest), 'stage')} {have} a newest version that opens")
    yield _clock(newest)


def _clock(newest: list[Version]) -> Check:
    now = datetime.now(UTC)
    dated = [(version.created_at, version) for version in newest if version.created_at is not None]
    if not dated:
        return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC; nothing is saved yet to compare it with")
    at, last = max(dated, key=lambda each: each[0])
    what = f"the newest version, {printable(last.stage)}@{last.number}"
    if at <= now + _CLOCKS_DIFFER:
        return ok("clock", f"{what}, was saved {show_time(at)}")
    found = f"{what}, says that it was saved {show_time(at)}"
    step = (
        "compare the clocks of the hosts that save (timedatectl); versions dated in the future are kept and count for no rule"
    )
    return warning("clock", found, step)
