"""The note of a long folder, by which a later process goes on without listing it.

The first look of a process at a stage lists the folder of its versions, which takes milliseconds if there are thousands. So a
process that knows all names in a folder leaves a note of its state, with what this user has seen, outside the store. A process
that finds the folder in this state goes on where the earlier one ended: it still compares the head, and looks for the next
number.

**What the state shows.** It holds the folder's device and inode, and its time of change, which the kernel renews with each
change of a name, and which no program can set (:mod:`checkpoint_manager._filesystem.file_times`). So a version that was added,
removed or put back since then shows, and so does a file that a killed writer left. A note is made only if a later change is
certain to show: on Linux 6.13 and later at once, elsewhere only if the folder had not been changed for some seconds. It is made
only by a process that knew all names: it had listed the folder, or gone on from a note, and since then only its own saves had
changed the folder. It counts until the system is started again: then, the folder is what was written to the disk, which may
have been changed elsewhere, too.

**What it does not show.** What someone else changes in the folder while a process appends a version, between its first call and
its last, can't be told from what this process changes. Whoever has the stage's lock does not, and a version of a writer that
lost the lock stands at the next number. An attacker who writes to the disk past its file system, or sets the system's clock to
the nanosecond, can hide a version from the next process; such an attacker can remove it, too.

A note is one line: a checksum, because a reader may see half of two notes, and the state as JSON.
"""

from __future__ import annotations

import binascii
import functools
import json
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem.descriptors import contents_of
from checkpoint_manager._filesystem.file_times import stamp
from checkpoint_manager._filesystem.os_errors import passing_over_refusals
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager.backends.local.head import Found

if TYPE_CHECKING:
    import os

LONG_BYTES = 16 * 1024
"""A folder of this size has some hundred names. Below, a listing takes no longer than what replaces it."""
_MOST_PENDING = 4
_STARTED = "/proc/sys/kernel/random/boot_id"


class Note(NamedTuple):
    """A folder as a process left it.

    Attributes:
        found: Its newest version; ``state`` is the folder's state.
        pending: The pending names to remove after the next sync of the folder. Nothing else is left over.
    """

    found: Found
    pending: tuple[str, ...]


def encode(note: Note) -> bytes | None:
    """Return a note as a line; None if it can't be made."""
    started = _started()
    if not started or len(note.pending) > _MOST_PENDING:
        return None
    content = json.dumps([started, tuple(note.found), note.pending], separators=(",", ":")).encode()
    return b"%08x %b\n" % (binascii.crc32(content), content)


def decode(line: bytes, status: os.stat_result) -> Note | None:
    """Return a note if the folder of this status is as it was then; None if it is not, or the note is damaged."""
    checksum, _, content = line.partition(b"\n")[0].partition(b" ")
    if checksum != b"%08x" % binascii.crc32(content):
        return None
    try:
        started, (number, durable, head, changed, named, state), names = json.loads(content)
        if started != _started() or tuple(state) != stamp(status):
            return None
    except (ValueError, TypeError):  # of another version of the library
        return None
    return Note(Found(number, durable, head and (head[0], head[1]), changed, named, stamp(status)), tuple(names))


@functools.lru_cache(maxsize=1)
def _started() -> str:
    """Return the id of this start of the system; empty if it has none."""
    with passing_over_refusals():
        return contents_of(_STARTED).decode("ascii").strip()
    return ""
