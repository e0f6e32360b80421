"""Runs pytest in forks of one process that has loaded what the tests need, but neither the library nor the tests.

Reads tasks as lines of JSON: a copy of the repository, and the arguments. Answers each with the exit code and the output.
Loading takes longer than most of the tests that notice a mutant. The forks end with this process, and this one with its parent.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.pop(0)  # this folder
for name in (
    *("pytest", "_hypothesis_pytestplugin", "hypothesis.stateful", "xdist.plugin", "pytest_cov.plugin", "pytest_randomly"),
    *(
        "asyncio",
        "click",
        "cryptography.cobblestone",
        "filelock",
        "numpy",
        "orjson",
        "ormsgpack",
        "platformdirs",
        "rich.console",
    ),
):
    try:
        importlib.import_module(name)
    except ImportError:
        continue
import pytest  # noqa: E402  # with its plugins

PARENT = os.getppid()
ENDING = (signal.SIGTERM, signal.SIGHUP)


def run(copy: str, arguments: list[str], patience: float) -> tuple[int | None, str]:
    """Run pytest on a copy, and return its exit code, None if it did not end in time, and its output."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            _become_pytest(copy, arguments, output.fileno())
        code, deadline = None, time.monotonic() + patience
        try:
            while time.monotonic() < deadline:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
                    break
                if os.getppid() != PARENT:  # it was killed
                    sys.exit(1)
                time.sleep(0.05)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        if code is None:
            os.waitpid(child, 0)
        output.seek(0)
        return code, output.read().decode(errors="replace")


def _become_pytest(copy: str, arguments: list[str], output: int) -> None:
    code = 70
    try:
        os.setsid()
        for ending in ENDING:
            signal.signal(ending, signal.SIG_DFL)
        for number in (1, 2):
            os.dup2(output, number)
        os.chdir(copy)
        source = str(Path(copy) / "src")
        sys.path[:0] = [source, copy]
        sys.dont_write_bytecode = True
        os.environ |= {"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"}
        code = int(pytest.main(arguments))
    except BaseException:  # of whatever kind, it ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for each in ENDING:
        signal.signal(each, lambda number, _: sys.exit(128 + number))
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)
