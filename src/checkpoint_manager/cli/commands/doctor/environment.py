"""Python and the libraries, the environment, and the place of the last-seen records."""

from __future__ import annotations

import difflib
import os
import platform
import re
from importlib import metadata
from typing import TYPE_CHECKING

from checkpoint_manager import _version
from checkpoint_manager._filesystem import probes
from checkpoint_manager._store.key_sources import VARIABLES
from checkpoint_manager._store.last_seen import state_directory
from checkpoint_manager.cli.commands.doctor.check import Check, ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

_DISTRIBUTION = "checkpoint-manager"
_LIBRARIES = ("blake3", "cryptography", "filelock", "orjson", "ormsgpack", "platformdirs", "click", "rich")
_PREFIX = "CHECKPOINT_MANAGER_"
_KNOWN = (*VARIABLES, "CHECKPOINT_MANAGER_RUN", "CHECKPOINT_MANAGER_STORE")
_OTHERS = ("NO_COLOR", "XDG_DATA_HOME", "XDG_STATE_HOME")
_REQUIREMENT = re.compile(r"([\w.-]+)>=([\d.]+)")


def look_at_python() -> Iterator[Check]:
    """Look at the versions of Python, this library and those it needs."""
    yield ok(
        "Python", f"{platform.python_version()} ({platform.system()} {platform.release()}), library {_version.__version__}"
    )
    needed = _needed()
    found: list[str] = []
    for name in _LIBRARIES:
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
            continue
        if _numbers(there) < _numbers(needed.get(name, "0")):
            step = f"install a newer one: pip install --upgrade '{name}>={needed[name]}'"
            yield problem("libraries", f"{name} {there} is too old: {needed[name]} is needed", step)
        found.append(f"{name} {there}")
    yield ok("libraries", ", ".join(found))


def _needed() -> dict[str, str]:
    """Return the least version of each library, as the installed package says."""
    try:
        requirements = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # run from a source tree
        return {}
    return {match[1]: match[2] for match in map(_REQUIREMENT.match, requirements) if match}


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]


def look_at_environment() -> Iterator[Check]:
    """Check which variables are set. Only their names are shown, and no frame holds a value: it may be a passphrase."""
    mistyped = sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in _KNOWN)
    for name in mistyped:
        nearest = difflib.get_close_matches(name, _KNOWN, n=1)
        step = f"is {nearest[0]} meant?" if nearest else f"there are {', '.join(_KNOWN)}"
        yield warning("environment", f"{name} is set, and is not a variable of this program", step)
    there = [name for name in (*_KNOWN, *_OTHERS) if os.environ.get(name)]
    yield ok("environment", f"set: {', '.join(there)}" if there else "no variable of this program is set")


def look_at_last_seen() -> Iterator[Check]:
    """Look at the place of the last-seen records, by which a rollback of a directory is noticed."""
    place = str(state_directory())
    here = place
    while not os.path.lexists(here):
        here = os.path.dirname(here)
    step = "give this user a writable home, or set XDG_STATE_HOME: without it, a rollback to an older copy is not noticed"
    if not os.path.isdir(here) or not os.access(here, os.W_OK | os.X_OK):
        yield warning("last seen", f"{place} can't be made or used: {here} is not a writable directory", step)
    elif here == place and (wrong := probes.syncs(place)):
        yield warning("last seen", f"{place} can't be written to: {wrong}", step)
    else:
        yield ok("last seen", f"what this user has seen of a store is recorded in {place}")
