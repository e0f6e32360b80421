"""Run the command that prints a passphrase. A module of its own, because few programs have such a command."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from typing import TYPE_CHECKING

from checkpoint_manager._format.hidden import Hidden

if TYPE_CHECKING:
    from checkpoint_manager._format.hidden import SecretBytes

_MAX_BYTES = 64 * 1024
_SECONDS = 60.0


def run(command: Hidden[str]) -> tuple[SecretBytes, str]:
    """Return what a command printed, and what went wrong or the empty string. Never raises: it holds the output."""
    deadline, output = time.monotonic() + _SECONDS, bytearray()
    try:
        with subprocess.Popen(shlex.split(command.raw), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:  # noqa: S603  # the user's own command, without a shell
            try:
                pipe = process.stdout.fileno()  # type: ignore[union-attr]  # there is one, as asked for
                waiting = select.poll()
                waiting.register(pipe, select.POLLIN)
                while waiting.poll(max(deadline - time.monotonic(), 0) * 1000) and (piece := os.read(pipe, _MAX_BYTES)):
                    output += piece
                    if len(output) > _MAX_BYTES:
                        return Hidden(b""), f"printed more than {_MAX_BYTES} bytes"
                code = process.wait(max(deadline - time.monotonic(), 0))
            finally:
                process.kill()
    except subprocess.TimeoutExpired:
        return Hidden(b""), f"did not end within {_SECONDS:.0f} s"
    except (OSError, ValueError, IndexError):
        return Hidden(b""), "can't be run"
    return Hidden(bytes(output)), f"failed with exit code {code}" if code else ""
