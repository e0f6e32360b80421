"""What two hosts do in one store on NFS, and whether it came out right. Runs in the virtual machine of ``guest.sh``."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

problems: list[str] = []


class Node:
    """A process on one of the hosts, which has mounted the server."""

    def __init__(self, name: str, version: str = "4.2") -> None:
        server = {"a": "10.0.1.1", "b": "10.0.2.1"}[name]
        mount = f"mkdir -p /mnt/{name} /mnt/home_{name} && mount -t nfs4 -o vers={version} {server}:/ /mnt/{name}"
        own = f"echo host_{name} > /sys/fs/nfs/net/nfs_client/identifier"  # the server would take both for one host
        program = f"HOME=/mnt/home_{name} exec {sys.executable} -m tests.nfs.node /mnt/{name}/store"
        command = ["ip", "netns", "exec", name, "sh", "-c", f"{own} && {mount} && {program}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def begin(self, *call: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(call) + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        return orjson.loads(self._process.stdout.readline() or b'"died"')

    def __call__(self, *call: object) -> Any:
        self.begin(*call)
        return self.answer()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def told(what: str, found: str, *, right: bool) -> None:
    print(f"{'ok     ' if right else 'PROBLEM'} {what}: {found}", flush=True)
    if not right:
        problems.append(what)


def seen_at_once(a: Node, b: Node, rounds: int) -> None:
    """A client that has looked for a stage in vain remembers that it is absent."""
    stale = 0
    for number in range(rounds):
        stage = f"seen {number}"
        before = b("has", stage)
        assert before == [False, False], before
        a("save", stage, number)
        stale += b("has", stage).count(False)
    told("a stage that was absent is seen once it is saved", f"{stale} of {2 * rounds} looks were too old", right=not stale)


def runs_once(a: Node, b: Node, rounds: int) -> None:
    twice = 0
    for number in range(rounds):
        b("has", f"function {number}")
        ran = a("run", f"function {number}")
        twice += ran + b("run", f"function {number}") != 1
    told("a function runs once", f"{twice} of {rounds} ran on both hosts", right=not twice)


def runs_once_at_a_time(a: Node, b: Node, rounds: int) -> None:
    twice = 0
    for number in range(rounds):
        for node in (a, b):
            node.begin("run", f"at once {number}")
        twice += a.answer() + b.answer() != 1
    told("a function that both call at once runs once", f"{twice} of {rounds} ran on both hosts", right=not twice)


def racing_saves(a: Node, b: Node, rounds: int) -> None:
    for node in (a, b):
        node.begin("save many", "race", 5 * rounds)
    found = sorted(a.answer() + b.answer())
    right = found == list(range(1, 10 * rounds + 1))
    told("racing saves have the numbers 1 to n, each once", f"{len(found)} saves", right=right)


def rotations(a: Node, b: Node, rounds: int) -> None:
    """A client that looks at an old keyring would seal its version under a key that is given up."""
    saved = 0
    for _ in range(rounds):
        b.begin("save for", "sealed", 0.4)
        a("rotate")
        saved += b.answer()
    ok, versions = a("verify")
    told("what is saved during a rotation can be read", f"{saved} saves, {versions} findings", right=ok)


def locks(a: Node, b: Node, _: int) -> None:
    holder = Node("a")
    holder("hold", "held")
    b.begin("save", "held", 1)
    time.sleep(0.5)
    started = time.monotonic()
    holder.kill()
    answer = b.answer()
    told("a killed holder frees its lock on the other host", f"after {time.monotonic() - started:.2f} s", right=answer == 1)
    holder = Node("a")
    holder("hold", "kept")
    refused = b("save", "kept", 1)
    holder.kill()
    right = isinstance(refused, dict) and refused["error"] == "LockTimeoutError"
    told("a lock that is held on the other host excludes", str(refused), right=right)


def refused(_: Node, __: Node, ___: int) -> None:
    answer = Node("a", version="4.0")("has", "train")
    right = isinstance(answer, dict) and "NFS 4.0" in answer["message"]
    told("NFS 4.0 is refused", str(answer), right=right)


def leftovers(a: Node, _: Node, __: int) -> None:
    left = [name for name in a("files") if ".nfs" in name or name.endswith(".tmp")]
    told("nothing is left behind", str(left), right=not left)


SCENARIOS: list[Callable[[Node, Node, int], None]] = [
    seen_at_once,
    runs_once,
    runs_once_at_a_time,
    racing_saves,
    rotations,
    locks,
    leftovers,
    refused,
]


def main() -> int:
    a, b = Node("a"), Node("b")
    for scenario in SCENARIOS:
        scenario(a, b, int(sys.argv[1]))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
