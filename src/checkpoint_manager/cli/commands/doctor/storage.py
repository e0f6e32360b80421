"""The store: what its file system can do, its free space, its owners and permissions, and leftovers in it."""

from __future__ import annotations

import itertools
import os
import shlex
import stat
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import mounts, probes
from checkpoint_manager._filesystem.permissions import user_name
from checkpoint_manager._text import printable
from checkpoint_manager.backends.maintenance import maintenance_of
from checkpoint_manager.backends.registry import open_backend
from checkpoint_manager.cli.commands.doctor.check import Check, ok, problem, warning
from checkpoint_manager.cli.hints import command
from checkpoint_manager.cli.output import show_size

if TYPE_CHECKING:
    from collections.abc import Iterator

_GONE_TOMORROW = {"tmpfs", "ramfs"}
_LITTLE, _NOTHING = 200 * 1024**2, 1024**2
_FEW_FILES, _NO_FILES = 1000, 8
_MOST_LOOKED_AT = 20_000
_OTHERS_MAY_WRITE = 0o022


def look_at_place(directory: str) -> Iterator[Check]:
    """Look at a directory and its file system; what can be done there is tried out."""
    kind = mounts.mount_of(directory).kind
    if kind in mounts.NFS:
        yield ok("file system", f"{kind}, which other hosts may share")
    elif kind in mounts.NETWORK:
        step = "let only one host write to it, or use a local disk: locks and syncs are as good as the server's"
        yield warning("file system", f"{kind}, a network file system that was not tested", step)
    elif kind in _GONE_TOMORROW:
        yield warning("file system", f"{kind}, which is memory", "keep checkpoints on a disk: here, a restart loses them")
    else:
        yield ok("file system", kind or "of a type that the system does not tell")
    yield from _look_at_room(directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        step = "to save, give this user access to it, or name another directory with --store"
        yield problem("writing", f"this user can't write to {directory}", step)
        return
    try:
        linked = probes.hard_links(directory)
    except OSError as error:
        step = "see what the operating system says about it, or name another directory with --store"
        yield problem("writing", f"a file can't be written in {directory}: {error.strerror}", step)
        return
    yield ok("writing", "files can be written and removed")
    yield from _look_at_abilities(directory, linked=linked)


def _look_at_abilities(directory: str, *, linked: bool) -> Iterator[Check]:
    if linked:
        yield ok("hard links", "they work")
    else:
        step = "prefer a file system with hard links, if you can: then a version can't be overwritten even without locks"
        yield warning("hard links", "there are none here: saving is slower, and relies on the locks alone", step)
    if not probes.private_modes(directory):
        step = "mount it so that only this user can read it, or use another file system"
        yield warning("permissions", "files can't be closed to other users here", step)
    if wrong := probes.locks(directory):
        yield problem("locks", f"{wrong}", "use another file system: two writers would get in each other's way here")
    else:
        yield ok("locks", "they keep two processes apart")
    if wrong := probes.syncs(directory):
        yield problem("sync", f"it fails: {wrong}", "look at the system's log: what is saved here may not survive a power cut")
    else:
        yield ok("sync", "files and their names can be made durable")


def _look_at_room(directory: str) -> Iterator[Check]:
    room = probes.room(directory)
    found = f"{show_size(room.bytes)} free" + ("" if room.files is None else f", and room for {room.files} more files")
    step = f"free some space, or delete old versions: {command('delete')}"
    if room.bytes < _NOTHING or (room.files is not None and room.files < _NO_FILES):
        yield problem("room", found, step)
    elif room.bytes < _LITTLE or (room.files is not None and room.files < _FEW_FILES):
        yield warning("room", found, step)
    else:
        yield ok("room", found)


def look_at_owner(directory: str) -> Iterator[Check]:
    """Check who owns the store's files, and who else may write to them."""
    status = os.stat(directory)
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS_MAY_WRITE:
        found = f"other users may write to the directory (mode {mode:04o}): they can't read or forge, but delete"
        yield warning("permissions", found, f"take that away: chmod go-w {shlex.quote(directory)}")
    me = os.geteuid()
    for path, owner in itertools.islice(_owners(directory), _MOST_LOOKED_AT):
        if owner != me:
            step = f"run the program as that user, or give the store to one: chown -R {user_name(me)} {shlex.quote(directory)}"
            yield warning("owner", f"{printable(path)} belongs to {user_name(owner)}, and you are {user_name(me)}", step)
            return
    yield ok("owner", f"all belongs to {user_name(me)}")


def _owners(directory: str) -> Iterator[tuple[str, int]]:
    yield directory, os.stat(directory).st_uid
    for folder, folders, names in os.walk(directory):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            try:
                yield path, os.lstat(path).st_uid
            except FileNotFoundError:  # removed meanwhile
                continue


def look_at_leftovers(directory: str) -> Iterator[Check]:
    """Check for leftovers in the store."""
    leftovers = [
        leftover for leftover in maintenance_of(open_backend(directory)).leftovers() if leftover.path != directory
    ]  # that is told by its owner
    ours = [leftover for leftover in leftovers if leftover.kind in {"leftover", "stale head"}]
    if ours:
        step = f"{command('repair --dry-run')} says what would be done"
        found = f"{len(ours)} of interrupted operations or relaxed saves, such as {printable(ours[0].path)}"
        yield warning("leftovers", found, step)
    for kind, step in (
        ("unknown", "move it out of the store, unless another program needs it there"),
        ("displaced", "move it away: it stands where a stage belongs"),
        ("exposed", f"make it yours (chown), and close it to others: chmod -R go= {shlex.quote(directory)}"),
    ):
        others = [leftover for leftover in leftovers if leftover.kind == kind]
        if others:
            more = f", and {len(others) - 1} more" if len(others) > 1 else ""
            what = f"{printable(others[0].path)} {others[0].detail.strip()}{more}"
            topic = "permissions" if kind == "exposed" else "leftovers"
            yield (problem if kind == "displaced" else warning)(topic, what, step)
    if not leftovers:
        yield ok("leftovers", "none")
