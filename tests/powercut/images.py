"""Cuts the power of a real file system: ``python -m tests.powercut.images [--cuts N] [--kind KIND …] [SCENARIO …]``.

A scenario of :mod:`tests.powercut.run` runs on a real ext4, xfs or btrfs, whose device writes down what it is sent, see
:mod:`tests.powercut.device`. For each cut, an image is made of what may be left at one moment, mounted, so that the file
system recovers it, and looked at as in the model. Here nothing is stricter than what users have: a journal commits in order.

Needs root, loop devices and FUSE, and a mount namespace of its own, which it makes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from tests import forking
from tests.concurrency.writer import digest
from tests.faults.host import in_child
from tests.powercut import run
from tests.powercut.device import Device, Said, after_a_power_cut, events, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.powercut.device import Event

KINDS = {
    "ext4": ("32M", "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", ""),
    "xfs": ("300M", "mkfs.xfs", "-q", ",nouuid"),
    "btrfs": ("128M", "mkfs.btrfs", "-q", "-m", "single", ""),
}
"""Of each file system: the size of its image, the command that makes one, and options of the mount."""
BEGIN = Said(b"begin")
_CLONE_NEWNS = 0x00020000


def main() -> int:
    """Run scenarios by hand."""
    run.prepare()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=100, help="how many, at most, of each scenario")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--careless", action="store_true", help="sync nothing, which must be found out")
    parser.add_argument("scenario", nargs="*", default=list(run.SCENARIOS))
    asked = parser.parse_args()
    if os.getuid() != 0 or ctypes.CDLL(None).unshare(_CLONE_NEWNS) != 0:
        print("this needs root")
        return 2
    _run("mount", "--make-rprivate", "/")
    failed = False
    for kind in asked.kind:
        for name in asked.scenario:
            happened, cuts, problems = cut(kind, name, asked.cuts, random.Random(asked.seed), careless=asked.careless)
            print(
                f"{kind:<6} {name:<26} {happened:5} events  {cuts:5} cuts  {len(problems)} problems  seed {asked.seed}",
                flush=True,
            )
            print(*(f"    {problem}\n" for problem in problems[:20]), sep="", end="", flush=True)
            failed = failed or bool(problems)
    return 1 if failed else 0


def cut(kind: str, name: str, most: int, dice: random.Random, *, careless: bool) -> tuple[int, int, list[str]]:
    """Cut the power of a scenario at moments; return how many events there were, how many cuts, and what was wrong."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        place = Path(folder)
        size, *make, _ = KINDS[kind]
        _run("truncate", "-s", size, str(place / "image"))
        _run(*make, str(place / "image"))
        happened = _record(kind, name, place, careless=careless)
        moments = range(happened.index(BEGIN) + 1, len(happened) + 1)
        chosen = sorted(dice.sample(moments, min(most, len(moments))))
        problems = []
        for moment in chosen:
            found = _look(kind, place, happened[:moment], dice)
            problems += [f"power cut after event {moment}: {each}" for each in found]
        return len(happened), len(chosen), problems


def _record(kind: str, name: str, place: Path, *, careless: bool) -> list[Event]:
    """Run a scenario on a new file system, and return what its device was sent."""
    (place / "device").touch()
    device = Device(place / "image", place / "device", place / "log")
    server = forking.start(device.serve)
    device.close()
    try:
        with _mounted(kind, place / "device", place):
            for folder in ("home", "project"):
                (place / "root" / folder).mkdir()
            os.sync()
            log = os.open(place / "log", os.O_WRONLY | os.O_APPEND)
            note(log, BEGIN)
            for part in run.SCENARIOS[name]:
                code = forking.end(forking.start(lambda part=part: _play(part, place, log, careless=careless)))  # type: ignore[misc]
                assert code == 0, f"{name} ended with {code}"
            os.close(log)
    finally:
        _run("umount", str(place / "device"))
        forking.end(server)
    return events(place / "log")


def _play(part: Callable[[str], None], place: Path, log: int, *, careless: bool) -> None:
    def tell(kind: str, stage: str, version: int, data: object = None) -> None:
        note(log, Said(orjson.dumps([kind, stage, version, digest(data)])))

    run.tell = tell
    if careless:
        os.fsync = lambda _: None
    part(str(place / "root"))


def _look(kind: str, place: Path, before: list[Event], dice: random.Random) -> list[str]:
    """Return what is wrong with the store on a disk that lost its power after some events."""
    left = place / "left"
    _run("cp", "--sparse=always", str(place / "image"), str(left))
    with left.open("r+b") as file:
        for written in after_a_power_cut(before, dice):
            file.seek(written.offset)
            file.write(written.data)
    marks = [event.text.decode() for event in before[before.index(BEGIN) + 1 :] if isinstance(event, Said)]
    with _mounted(kind, left, place):
        code, found = in_child(lambda: run.problems_of(str(place / "root"), marks))
    return found if code == 0 and isinstance(found, list) else [f"looking at it ended with {code}: {found}"]


@contextlib.contextmanager
def _mounted(kind: str, image: Path, place: Path) -> Iterator[None]:
    (place / "root").mkdir(exist_ok=True)
    _run("mount", "-o", f"loop{KINDS[kind][-1]}", str(image), str(place / "root"))
    try:
        yield
    finally:
        _run("umount", str(place / "root"))


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
