"""Plaintext, passphrase and key are searched for in everything that a run leaves or says."""

from __future__ import annotations

import base64
import copy
import dataclasses
import inspect
import logging
import os
import pickle
import pprint
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from checkpoint_manager import (
    CheckpointError,
    CheckpointManager,
    KeyFile,
    Passphrase,
    PayloadError,
    ResultNotSavedError,
)
from checkpoint_manager._store.key_sources import create_key_file, given_secret, read_passphrase_descriptor
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.cli.app import run
from checkpoint_manager.cli.commands.doctor import environment
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

KEY = bytes(range(32))
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
    store_key = cm._store.keyring.active[1].raw
    for path in [*(tmp_path / "store").rglob("*"), *home.rglob("*")]:
        if path.is_file():
            assert_silent(path.read_bytes(), DATA, NOTE, PASSPHRASE, secret.material.raw, store_key)
            assert_silent(str(path), DATA, NOTE, PASSPHRASE)


def test_no_log_line_exception_or_repr_holds_plaintext_passphrase_or_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    cm = CheckpointManager(tmp_path / "store", key=Passphrase(PASSPHRASE))
    store_key = cm._store.keyring.active[1].raw
    cm.save_checkpoint("train", {"text": DATA}, metadata={"note": NOTE})
    cm.save_checkpoint("train", {"text": DATA}, metadata={"note": NOTE})
    path = tmp_path / "store" / "history" / "train" / "000000000002.checkpoint"
    path.write_bytes(path.read_bytes()[:-1])
    attempts = (
        lambda: cm.load_checkpoint("train"),
        lambda: cm.load_checkpoint("train", 9),
        lambda: cm.save_checkpoint("train", {"text": DATA, "odd": [DATA, object()]}),
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


@pytest.mark.parametrize(
    "key", ["maria@example.org", 4711000815, 4711000815.5, ("maria@example.org", 1), "maria@example.org\ud800"]
)
def test_no_message_names_a_key_of_the_data(key: Any) -> None:
    """Keys are data, too: addresses, numbers of patients. Only identifiers are shown, as the names of fields are."""
    cm = CheckpointManager("memory:", key=KEY)
    loud: Any = {"ward": [{"first": 1, key: {"odd": object()}}]}

    def loop() -> None:
        with cm.loop("loop", [1], initial=dict[Any, Any]()) as states:
            for _ in states:
                states.state.update(loud)

    attempts = (
        lambda: cm.save_checkpoint("train", loud),
        lambda: cm.save_checkpoint("train", 1, metadata=loud),
        lambda: cm.save_checkpoint("train", 1, metadata={f"@{key}": 1}),
        lambda: cm.update_checkpoint("train", lambda _: loud),
        cm.stage("result")(lambda: loud),
        loop,
    )
    for attempt in attempts:
        with pytest.raises(CheckpointError) as caught:
            attempt()
        for said in (str(caught.value), repr(caught.value), caught.value.hint, repr(caught.value.__dict__.get("paths"))):
            assert_silent(said, "maria", "4711000815")
        assert isinstance(caught.value, ResultNotSavedError) or "key " in str(caught.value)


def test_no_message_holds_a_value_that_a_library_could_not_convert() -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"number": [1], "the ward": pd.Categorical([1], categories=[1, "Maria"])})
    with pytest.raises(PayloadError, match="its column 1") as caught:
        CheckpointManager("memory:", key=KEY).save_checkpoint("train", frame)
    for said in everything_said(caught.value):
        assert_silent(said.partition("Traceback")[0], "Maria", "the ward")


def frames_that_show(error: BaseException, *secrets: bytes) -> set[str]:
    """Return which local variables of the library's frames show a secret, as an error reporter would print them."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (current := waiting.pop()) is None or id(current) in seen:
            continue
        seen.add(id(current))
        waiting += [current.__cause__, current.__context__]  # a suppressed one, too: not every reporter passes it over
        for frame, _ in traceback.walk_tb(current.__traceback__):
            if "checkpoint_manager" in frame.f_code.co_filename:
                for name, value in frame.f_locals.items():
                    if any(form in repr(value) for secret in secrets for form in forms_of(secret)):
                        found.add(f"{frame.f_code.co_qualname}:{name}")
    return found


def forms_of(secret: bytes) -> tuple[str, ...]:
    base64s = (base64.b64encode(secret), base64.urlsafe_b64encode(secret))
    return (repr(secret)[2:-1], secret.hex(), *(encoded.decode().rstrip("=")[:-1] for encoded in base64s))


def test_no_frame_of_an_error_shows_a_passphrase_or_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., CheckpointManager], store: Path
) -> None:
    """Error reporters print the local variables of each frame: with secrets in them, a crash report would be a leak."""
    directory = tmp_path / "other"
    cm = CheckpointManager(directory, key=Passphrase(PASSPHRASE))
    cm.save_checkpoint("train", 1)
    unlocked = cm._store.keyring.unlocked
    secrets = [PASSPHRASE.encode(), KEY, unlocked.active_key.raw, *(key.raw for key in unlocked.wrapping_keys.values())]
    secrets += [opened()._store.keyring.active[1].raw]
    file = store / "history" / "train" / "000000000004.checkpoint"
    whole = file.read_bytes()
    line = b"checkpoint-manager-key-1:" + base64.urlsafe_b64encode(KEY) + b"\n"
    read_end, write_end = os.pipe()
    os.write(write_end, PASSPHRASE.encode() + b"\xff\n")

    def written(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
        return tmp_path / name

    def load_damaged(position: int) -> None:
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        opened().load_checkpoint("train")

    def with_variables(**variables: str) -> None:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(f"CHECKPOINT_MANAGER_{name}", value)
            CheckpointManager(directory)

    def on_a_full_disk() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: os.open("/dev/null/nothing", os.O_RDONLY))
            create_key_file(tmp_path / "new key")

    attempts: tuple[Callable[[], object], ...] = (
        lambda: load_damaged(300),
        lambda: load_damaged(len(whole) - 1),
        lambda: CheckpointManager(directory, key=KEY),
        lambda: CheckpointManager(store, key=Passphrase(PASSPHRASE)),
        lambda: CheckpointManager(directory, key=Passphrase(PASSPHRASE + "\ud800")),
        lambda: CheckpointManager(directory, key=PASSPHRASE),  # type: ignore[arg-type]
        lambda: CheckpointManager(directory, key=KEY + b"?"),
        lambda: CheckpointManager(directory, key=bytearray(KEY)),  # type: ignore[arg-type]
        lambda: CheckpointManager(directory, key=[PASSPHRASE]),  # type: ignore[arg-type]
        lambda: cm.keys.add(bytearray(KEY)),  # type: ignore[arg-type]
        lambda: cm.export_bundle(tmp_path / "bundle of another", key={"key": PASSPHRASE}),  # type: ignore[arg-type]
        lambda: CheckpointManager(directory, key=KEY, on_rollback="never"),  # type: ignore[arg-type]
        lambda: CheckpointManager(directory, key=written("not UTF-8", line + PASSPHRASE.encode() + b"\xff")),
        lambda: CheckpointManager(directory, key=written("two keys", line + line)),
        lambda: CheckpointManager(directory, key=written("short", line[:-4] + b"\n")),
        lambda: CheckpointManager(directory, key=written("long", line * 2000)),
        lambda: with_variables(PASSPHRASE=PASSPHRASE + "?"),
        lambda: with_variables(PASSPHRASE=PASSPHRASE, PASSPHRASE_COMMAND=f"echo {PASSPHRASE}"),
        lambda: with_variables(PASSPHRASE_COMMAND=f"sh -c 'echo {PASSPHRASE}; exit 3'"),
        lambda: with_variables(PASSPHRASE_COMMAND=f"/nothing/here {PASSPHRASE}"),
        lambda: with_variables(PASSPHRASE_FILE=str(written("words", PASSPHRASE.encode() + b"\xff"))),
        lambda: read_passphrase_descriptor(read_end),
        on_a_full_disk,
        lambda: (cm.keys.add(KEY), cm.keys.rotate()),
        lambda: cm.keys.rotate(also=[KEY + b"?"]),
        lambda: cm.keys.add(KEY, label="x" * 101),
        lambda: cm.export_bundle(tmp_path / "nowhere" / "bundle", key=KEY),
        lambda: cm.import_bundle(written("bundle", b"something else"), key=KEY),
    )
    shown: dict[int, set[str]] = {}
    for number, attempt in enumerate(attempts):
        with pytest.raises((CheckpointError, TypeError, ValueError)) as caught:
            attempt()
        shown[number] = frames_that_show(caught.value, *secrets)
    assert not {number: frames for number, frames in shown.items() if frames}


def test_the_doctors_look_at_the_environment_holds_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setenv("CHECKPOINT_MANAGER_PASSPHRASE", PASSPHRASE)
    monkeypatch.setattr(environment, "ok", fail)
    with pytest.raises(RuntimeError) as caught:
        list(environment.look_at_environment())
    assert not frames_that_show(caught.value, PASSPHRASE.encode())


def test_only_short_lived_functions_hold_a_secret_in_a_variable() -> None:
    """Interrupt opening, saving and loading at each of their calls in turn: only these few may be caught with a secret."""
    short_lived = {
        "Hidden.__init__:raw",  # each leaves at once, and calls nothing that can fail but for want of memory
        "Secret.from_passphrase:text",
    }
    backend = MemoryBackend()
    cm = CheckpointManager(backend, key=Passphrase(PASSPHRASE))
    cm.save_checkpoint("train", 1)
    unlocked = cm._store.keyring.unlocked
    secrets = [PASSPHRASE.encode(), unlocked.active_key.raw, *(key.raw for key in unlocked.wrapping_keys.values())]

    def work() -> None:
        cm = CheckpointManager(backend, key=Passphrase(PASSPHRASE))
        cm.save_checkpoint(f"stage {calls}", 1)  # the lock of an earlier one may be held for ever: its release was interrupted
        cm.load_checkpoint(f"stage {calls}")

    shown: set[str] = set()
    calls = 0
    while calls < 2000:
        left = calls = calls + 3

        def interrupt(frame: FrameType, event: str, _: object) -> None:
            nonlocal left
            caller = frame.f_back
            finalised = "__del__" in {frame.f_code.co_name, caller.f_code.co_name if caller else ""}
            if frame.f_code.co_flags & inspect.CO_GENERATOR or finalised:
                return  # what is raised there is lost
            if event == "call" and "checkpoint_manager" in frame.f_code.co_filename:
                left -= 1
                if left == 0:
                    sys.setprofile(None)
                    raise KeyboardInterrupt

        before = sys.getprofile()
        sys.setprofile(interrupt)
        try:
            work()
        except KeyboardInterrupt as error:
            shown |= frames_that_show(error, *secrets)
        else:
            break
        finally:
            sys.setprofile(before)
    assert calls > 100
    assert shown <= short_lived


def test_copying_a_manager_is_refused(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=bytes(32))
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="can't be pickled"):
            attempt(cm)


@pytest.mark.parametrize(
    "way",
    [pickle.dumps, copy.copy, copy.deepcopy, dataclasses.asdict, dataclasses.astuple, vars, orjson.dumps, str, pprint.pformat],
)
def test_no_way_to_copy_or_to_show_an_object_gives_its_secret_away(tmp_path: Path, way: Callable[[Any], object]) -> None:
    """Queues of worker processes, caches and structured logs pickle and encode whatever they are given."""
    cm = CheckpointManager(tmp_path, key=Passphrase(PASSPHRASE))
    unlocked = cm._store.keyring.unlocked
    secrets = [PASSPHRASE.encode(), unlocked.active_key.raw, *(key.raw for key in unlocked.wrapping_keys.values())]
    holders: list[object] = [Passphrase(PASSPHRASE), given_secret(Passphrase(PASSPHRASE)), unlocked, unlocked.active_key]
    holders += [cm, cm.keys, cm.keys.add, cm._store, cm._store.keyring, cm._store.keyring.current, [Passphrase(PASSPHRASE)]]
    for holder in holders:
        try:
            made = way(holder)
        except (TypeError, orjson.JSONEncodeError) as refusal:
            made = refusal
        shown = made if isinstance(made, bytes) else repr(made)
        assert_silent(shown, *secrets, *(repr(secret)[2:-1] for secret in secrets))


@pytest.mark.parametrize("mistake", [PASSPHRASE, f"prompt:{PASSPHRASE}", f"fd:{PASSPHRASE}", f"passphrase:{PASSPHRASE}"])
def test_a_passphrase_given_in_the_place_of_its_source_is_not_shown_again(
    capfd: pytest.CaptureFixture[str], mistake: str
) -> None:
    """What a program prints ends in the logs of CI, and its arguments as a rule do not."""
    for arguments in (["list", "--key", mistake], ["key", "add", mistake]):
        assert run(arguments) == 2
        assert_silent("".join(capfd.readouterr()), PASSPHRASE)


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
