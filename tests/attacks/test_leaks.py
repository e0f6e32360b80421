"""Plaintext, passphrase and key are searched for in everything that a run leaves or says."""

from __future__ import annotations

import base64
import copy
import logging
import os
import pickle
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, KeyFile, Passphrase
from checkpoint_manager._store.key_sources import create_key_file
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA, NOTE, PASSPHRASE = "the patient's d1agnosis", "a n0te of the run", "c0rrect horse battery"


def everything_said(error: BaseException | None) -> Iterator[str]:
    """Yield what an error, its causes, their attributes and their tracebacks say."""
    while error is not None:
        yield from (str(error), repr(error), "".join(traceback.format_exception(error)))
        yield from (f"{name}={value!r}" for name, value in error.__dict__.items())
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def assert_silent(text: str | bytes, *secrets: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    for secret in secrets:
        marker = secret.encode() if isinstance(secret, str) else secret
        for form in (marker, base64.b64encode(marker)[:-4], base64.urlsafe_b64encode(marker)[:-4], marker.hex().encode()):
            assert form not in data


def test_no_file_holds_plaintext_passphrase_or_key(tmp_path: Path, home: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=Passphrase(PASSPHRASE))
    secret = create_key_file(tmp_path / "elsewhere" / "key")
    cm.keys.add(KeyFile(str(tmp_path / "elsewhere" / "key")))
    for text in (DATA, DATA * 20_000):
        cm.save_checkpoint("train", {"text": text}, metadata={"note": NOTE})
    cm.restore_checkpoint("train", 1)
    cm.delete_versions("train", [1])
    store_key = cm._store.keyring.active[1]
    for path in [*(tmp_path / "store").rglob("*"), *home.rglob("*")]:
        if path.is_file():
            assert_silent(path.read_bytes(), DATA, NOTE, PASSPHRASE, secret.material, store_key)
            assert_silent(str(path), DATA, NOTE, PASSPHRASE)


def test_no_log_line_exception_or_repr_holds_plaintext_passphrase_or_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cm = CheckpointManager(tmp_path / "store", key=Passphrase(PASSPHRASE))
    store_key = cm._store.keyring.active[1]
    cm.save_checkpoint("train", {"text": DATA}, metadata={"note": NOTE})
    cm.save_checkpoint("train", {"text": DATA}, metadata={"note": NOTE})
    path = tmp_path / "store" / "history" / "train" / "000000000002.checkpoint"
    path.write_bytes(path.read_bytes()[:-1])
    attempts = (
        lambda: cm.load_checkpoint("train"),
        lambda: cm.load_checkpoint("train", 9),
        lambda: cm.save_checkpoint("train", {"text": DATA, "odd": {DATA}}),
        lambda: cm.save_checkpoint("train", DATA, metadata={"note": (NOTE,)}),
        lambda: cm.save_checkpoint("train", {"text": DATA}, expected_version=7),
        lambda: cm.keys.remove("nothing"),
        lambda: CheckpointManager(tmp_path / "store", key=Passphrase(PASSPHRASE + "?")),
        lambda: CheckpointManager(tmp_path / "store", key=store_key),
    )
    for attempt in attempts:
        with pytest.raises(CheckpointError) as caught:
            attempt()
        for said in everything_said(caught.value):
            assert_silent(said, DATA, NOTE, PASSPHRASE, store_key, repr(store_key))
    assert not cm.has_checkpoint("train")
    cm.verify()
    cm.repair()
    for shown in (repr(cm), repr(cm.keys), repr(cm.keys.list()), repr(Passphrase(PASSPHRASE)), repr(cm.verify()), caplog.text):
        assert_silent(shown, DATA, NOTE, PASSPHRASE, store_key)


def test_copying_a_manager_is_refused(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=bytes(32))
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="can't be pickled"):
            attempt(cm)


def test_a_passphrase_command_does_not_show_the_passphrase_in_the_list_of_processes(tmp_path: Path) -> None:
    """The passphrase comes by the command's output; no argument list, of this process or a child, ever holds it."""
    secret = tmp_path / "secret"
    secret.write_text(PASSPHRASE)
    watcher = tmp_path / "watch.py"
    watcher.write_text(
        "import os, pathlib, sys\n"
        "lines = [p.read_bytes() for p in pathlib.Path('/proc').glob('[0-9]*/cmdline') if os.access(p, os.R_OK)]\n"
        f"pathlib.Path({str(tmp_path / 'seen')!r}).write_bytes(b'\\n'.join(lines))\n"
        f"print(pathlib.Path({str(secret)!r}).read_text())\n"
    )
    program = f"from checkpoint_manager import CheckpointManager as C; C({str(tmp_path / 'store')!r}).save_checkpoint('a', 1)"
    environment = os.environ | {"CHECKPOINT_MANAGER_PASSPHRASE_COMMAND": f"{sys.executable} {watcher}"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert_silent((tmp_path / "seen").read_bytes(), PASSPHRASE)


def test_sealing_the_same_twice_gives_nothing_in_common(tmp_path: Path) -> None:
    """Salts are random per message, also after a fork: a thousand messages of parent and child are all distinct."""
    from checkpoint_manager._format import seal

    key = seal.generate_key()
    read_end, write_end = os.pipe()

    def salts_of_a_half() -> bytes:
        return b"".join(seal.seal(key, b"", b"")[:24] for _ in range(500))

    child = forking.start(lambda: os.write(write_end, salts_of_a_half()) != 12_000)
    os.close(write_end)
    theirs = b""
    while piece := os.read(read_end, 65536):
        theirs += piece
    os.close(read_end)
    assert forking.end(child) == 0
    both = theirs + salts_of_a_half()
    assert len({both[at : at + 24] for at in range(0, len(both), 24)}) == 1000
