"""What the demonstration does and tells, step by step. Everything in it is real: the processes, the kill, the files."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

from checkpoint_manager.backends.registry import open_backend, redacted, scheme_of
from checkpoint_manager.cli.commands.demo import pipeline
from checkpoint_manager.cli.exit_codes import DemonstrationFailedError, UsageError
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager.backends.base import Backend

STORE = "demo-checkpoints"
_OTHER_LIMIT = 25


def tell(folder: Path | None, store: str) -> None:
    """Run the demonstration.

    Args:
        folder: The folder whose Python files are the pipeline's input; None: the standard library of the running Python.
        store: Where the store is made: an absolute path, or a URL.

    Raises:
        UsageError: The folder has no Python files.
        DemonstrationFailedError: The pipeline failed.
    """
    started = time.monotonic()
    corpus = (folder or Path(sysconfig.get_path("stdlib"))).resolve()
    if not pipeline.find(corpus):
        raise UsageError(f"there are no Python files in {corpus}", hint="Name another folder")
    _say(f"The input: the Python files of {corpus}")
    shown = redacted(store) if scheme_of(store) else os.path.relpath(store)
    _say(f"The store: {redacted(store)}")
    _kill_and_resume(corpus, store)
    with CheckpointManager(store) as cm, contextlib.closing(open_backend(store)) as behind:
        _save_again_and_restore(cm)
        _flip_a_bit(cm, behind)
        _show_history(cm)
    _title(f"Done in {time.monotonic() - started:.1f} s. The store is yours; try next:")
    for command in ("status", "log report", "restore report@2"):
        _say(f"checkpoint-manager {command} --store {shlex.quote(shown)}")


def _kill_and_resume(corpus: Path, store: str) -> None:
    _title("1. The pipeline runs, and is killed (SIGKILL) in the middle of its third stage")
    with _process(corpus, store, pipeline.LINGER) as child:
        for line in _lines(child):
            if line.startswith("measure saved"):
                child.send_signal(signal.SIGKILL)
                _say(f"killed: process {child.pid}")
    if child.wait() != -signal.SIGKILL:
        raise DemonstrationFailedError(f"the pipeline ended with exit code {child.returncode} before it could be killed")
    _title("2. It is started again: what was done is skipped, and the third stage goes on where it was")
    with contextlib.closing(open_backend(store)) as place:
        if not place.capabilities.lock_excludes:
            _say("The killed process held a lease here, which ends 30 seconds after its last sign of life: this waits for it")
    with _process(corpus, store) as child:
        for _ in _lines(child):
            pass
    if child.wait() != 0:
        raise DemonstrationFailedError(f"the pipeline failed with exit code {child.returncode}: see its messages above")


def _save_again_and_restore(cm: CheckpointManager) -> None:
    _title("3. A stage is saved again, with another limit, and an earlier version is restored")
    first = cm.load_checkpoint("report")
    saved = cm.save_checkpoint("report", pipeline.report(cm.load_checkpoint("measure"), complex_above=_OTHER_LIMIT))
    now = cm.load_checkpoint("report")
    _say(f"version {saved.number}: {now['complex_files']} complex files with the limit {now['complex_above']}")
    restored = cm.restore_checkpoint("report", saved.number - 1)
    now = cm.load_checkpoint("report")
    _say(
        f"version {restored.number}, restored from {restored.restored_from}: "
        f"{now['complex_files']} complex files with the limit {now['complex_above']}; "
        f"equal to what was saved first: {now == first}"
    )


def _flip_a_bit(cm: CheckpointManager, behind: Backend) -> None:
    _title("4. One bit of a checkpoint is flipped, as a failing disk or an attacker would")
    number = cm.get_version("measure").number
    with behind.open("measure", number) as file:
        whole = file.read(file.size)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    behind.replace("measure", number, lambda: (flipped,))
    try:
        cm.load_checkpoint("measure")
    except IntegrityError as error:
        _say(f"refused: {error}")
    else:
        raise DemonstrationFailedError("a forged checkpoint was accepted: this is a bug, please report it")
    behind.replace("measure", number, lambda: (whole,))
    _say(f"The bit is put back, and verify finds everything whole: {cm.verify().ok}")


def _show_history(cm: CheckpointManager) -> None:
    _title("5. The history of the stage: nothing was overwritten")
    for version in cm.history("report"):
        note = "" if version.restored_from is None else f"   restored from {version.restored_from}"
        _say(f"report@{version.number}   {version.status}   {version.created_at:%H:%M:%S}   {version.size} bytes{note}")


@contextlib.contextmanager
def _process(corpus: Path, store: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start the pipeline; Ctrl-C does not reach it, and whatever stops the story stops it too, without a word."""
    words = [sys.executable, "-m", pipeline.__name__, str(corpus), *options]
    # not on the command line, which anyone on the host can read
    environment = {**os.environ, "CHECKPOINT_MANAGER_STORE": store}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, process_group=0, env=environment) as child:  # noqa: S603  # this very package
        try:
            yield child
        except BaseException:
            child.kill()
            raise


def _lines(child: subprocess.Popen[str]) -> Iterator[str]:
    """Yield what the pipeline prints as it comes, and show it."""
    for line in child.stdout or ():
        stage, word, detail = line.rstrip("\n").split(" ", 2)
        _say(f"{stage:<8} {word:<8} {detail}")
        yield line


def _title(text: str) -> None:
    print(f"\n{text}", flush=True)  # the demonstration is its output


def _say(text: str) -> None:
    print(f"  {text}", flush=True)  # likewise
