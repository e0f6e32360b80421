"""A directory that several hosts share: what a network file system needs, and which ones are refused.

A client of a network file system remembers, for half a minute or longer, which names a directory has and which it does not
have. A version that another host saved would be missing for so long, and an old keyring would pass for the present one. Opening
a directory or a file asks the server whether it has changed ("close-to-open consistency", nfs(5)), and then what was remembered
is looked up again. So in a shared directory

* a session opens the store's directory, the history and the stage's folder again each time;
* the store's directory is opened before the keyring is looked at;
* the folder of the locks is opened before a lock file is compared with what has its name.

NFS 4.1 and later is tried with two clients (``tests/nfs``). Older versions are refused, because their locks are a service of
their own that may not run, and so are NFS mounts whose locks are not passed on to the server. While a server that was restarted
waits for its clients (its grace period, 90 s on Linux), a request for a lock blocks in the kernel, whatever ``lock_timeout``
says.
"""

from __future__ import annotations

import errno
import os

from checkpoint_manager._filesystem import files, mounts
from checkpoint_manager.errors import StorageError

_OLD = {"vers=2", "vers=3", "vers=4", "vers=4.0"}
_LOCKS_OF_ONE_HOST = {"nolock", "local_lock=all", "local_lock=flock", "local_lock=posix"}


def is_shared(directory: str) -> bool:
    """Return whether other hosts may write to a directory, because its file system is a network file system.

    Raises:
        StorageError: It is mounted in a way in which two hosts would get in each other's way.
    """
    if os.major(os.stat(directory).st_dev) != 0:  # a disk of this host
        return False
    mount = mounts.mount_of(directory)
    if mount.kind in mounts.NFS:
        if mount.options & _OLD:
            version = min(mount.options & _OLD).removeprefix("vers=")
            raise _refused(directory, f"is mounted by NFS {version}, whose locks and directories can't be relied on")
        if mount.options & _LOCKS_OF_ONE_HOST:
            option = min(mount.options & _LOCKS_OF_ONE_HOST)
            raise _refused(directory, f"is mounted with {option}, so that its locks don't reach other hosts")
    return mount.kind in mounts.NETWORK


def ask_again(directory: str) -> None:
    """Have the server asked again for what is remembered of the names in a directory, if it has changed."""
    files.close(files.directory_descriptor(directory))


def _refused(directory: str, why: str) -> StorageError:
    return StorageError(
        f"the store {directory} {why}",
        hint="Mount it with vers=4.2, and without nolock and local_lock",
        errno=errno.ENOTSUP,
        filename=directory,
    )
