"""What kind of file system a path is on, and how it is mounted, as Linux tells it."""

from __future__ import annotations

import os
import re

from checkpoint_manager._filesystem.descriptors import contents_of
from checkpoint_manager._filesystem.os_errors import passing_over_refusals
from checkpoint_manager._named_tuple import NamedTuple

NFS = {"nfs", "nfs4"}
NETWORK = NFS | {"cifs", "smb3", "smbfs", "fuse.sshfs", "fuse.rclone", "9p", "virtiofs", "afs", "gpfs", "beegfs", "lustre"}
NETWORK |= {"ceph", "fuse.ceph-fuse", "glusterfs", "fuse.glusterfs"}
"""The kinds of file systems that other hosts may write to."""
_MOUNTS = "/proc/self/mountinfo"
_OCTAL = r"\\([0-7]{3})"
"""Escapes for space, tab, line feed and backslash in a mount point: see proc_pid_mountinfo(5)."""


class Mount(NamedTuple):
    """A mounted file system.

    Attributes:
        kind: Its type, such as ``ext4``, or "" if the system does not say.
        options: The options of the file system, such as ``vers=4.2``.
    """

    kind: str = ""
    options: frozenset[str] = frozenset()


def mount_of(path: str) -> Mount:
    """Return the file system that a path is on."""
    real = os.path.realpath(path)
    best, found = "", Mount()
    for line in _lines():
        before, _, after = line.partition(" - ")
        place = before.split(" ")[4]
        if "\\" in place:  # as hardly ever
            place = re.sub(_OCTAL, lambda match: chr(int(match[1], 8)), place)
        above = real == place or real.startswith(place.rstrip("/") + "/")
        if above and len(place) >= len(best):  # a later mount hides an earlier one at the same place
            kind, _, options = after.split(" ")[:3]
            best, found = place, Mount(kind, frozenset(options.split(",")))
    return found


def _lines() -> list[str]:
    """Return a line for each mount; none if the system does not tell."""
    with passing_over_refusals():
        return os.fsdecode(contents_of(_MOUNTS)).splitlines()
    return []
