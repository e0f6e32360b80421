"""Two hosts in one store on NFS 4.2: ``python -m tests.nfs.run [ROUNDS]``.

Ends with 1 if something went wrong, and with 2 if the hosts can't be had here.

The hosts are two network namespaces of a Linux that runs as a process (user-mode Linux), with clients of the kernel that share
nothing, and so is the server. Needs root and, from Debian, ``user-mode-linux nfs-kernel-server nfs-common kmod iproute2``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
NEEDED = {
    "linux": "user-mode-linux",
    "rpc.nfsd": "nfs-kernel-server",
    "mount.nfs4": "nfs-common",
    "modprobe": "kmod",
    "ip": "iproute2",
}
SHOWN = ("ok", "PROBLEM", "Traceback", "  ", "AssertionError", "ended")


def main() -> int:
    missing = [package for program, package in NEEDED.items() if shutil.which(program, path=PATH) is None]
    if missing:
        print("missing packages:", *missing, file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("only root can make the hosts", file=sys.stderr)
        return 2
    kernel = ["linux", "mem=1G", "rootfstype=hostfs", "ro", f"init={HERE / 'guest.sh'}", "con=null", "con0=null,fd:1", "quiet"]
    rounds = sys.argv[1] if len(sys.argv) > 1 else "12"
    command = [*kernel, f"CHECKOUT={HERE.parents[1]}", f"PYTHON={sys.executable}", f"ROUNDS={rounds}"]
    lines = 0
    ended = ""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as guest:
        assert guest.stdout is not None
        for line in guest.stdout:
            if line.startswith(SHOWN):
                print(line, end="", flush=True)
                lines += 1
            ended = line if line.startswith("ended") else ended
    if not lines:
        print("user-mode Linux does not start here", file=sys.stderr)
        return 2
    return 0 if ended.startswith("ended with 0") else 1


if __name__ == "__main__":
    sys.exit(main())
