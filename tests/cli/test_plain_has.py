"""``has`` in its plain form: the same answers as in the ordinary one, for less work."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager.cli import COMPLETION, app, main, plain_has, quiet_look
from checkpoint_manager.cli.commands.has import has
from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.key_options import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def _nothing(_: Path) -> None:
    pass


def _clear(store: Path) -> None:
    CheckpointManager(store).clear_checkpoint("train")


def _damage(store: Path) -> None:
    (store / "train.checkpoint").write_bytes(b"not a checkpoint")
    (store / "history/train/000000000003.checkpoint").write_bytes(b"not a checkpoint")


def _roll_back(store: Path) -> None:
    (store / "train.checkpoint").unlink()
    (store / "history/train/000000000003.checkpoint").unlink()


def _open_to_others(store: Path) -> None:
    store.chmod(0o777)


def _lose_the_keyring(store: Path) -> None:
    (store / "keyring.json").unlink()


def _spoil_the_keyring(store: Path) -> None:
    (store / "keyring.json").write_bytes(b"{}")


def _lose_the_key(_: Path) -> None:
    (Path(os.environ["HOME"]) / ".local/share/checkpoint_manager/default.key").unlink()


def _replace_by_a_file(store: Path) -> None:
    store.rename(store.with_name("elsewhere"))
    store.write_text("a file")


SITUATIONS = (
    _nothing,
    _clear,
    _damage,
    _roll_back,
    _open_to_others,
    _lose_the_keyring,
    _spoil_the_keyring,
    _lose_the_key,
    _replace_by_a_file,
)


@pytest.mark.parametrize("change", SITUATIONS)
def test_it_says_what_the_ordinary_way_says(
    change: Callable[[Path], None],
    store: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(store)
    monkeypatch.chdir(tmp_path)
    for words in (
        ["train"],
        ["train", "--store", str(store)],
        ["--store=~/nowhere", "train"],
        ["train", "--key", "file:nothing"],
        ["nothing"],
        ["s" * 256],
    ):
        plain = cli("has", *words)
        capsys.readouterr()
        code = app.run(["has", *words])
        ordinary = capsys.readouterr()
        assert (plain.code, plain.out, plain.err) == (code, ordinary.out, ordinary.err), words


@pytest.mark.parametrize("variable", ["CHECKPOINT_MANAGER_PASSPHRASE", "CHECKPOINT_MANAGER_PASSPHRASE_COMMAND", COMPLETION])
def test_a_passphrase_and_completions_are_asked_for_in_the_ordinary_way(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase is slow on purpose, and a command may ask its user for it: neither is done twice."""
    monkeypatch.setenv(variable, "")
    assert plain_has.answer(["has", "train"]) is None


def test_plain_words_mean_what_they_mean_to_click(monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "train",
        "a b",
        "",
        "-",
        "--",
        "-x",
        "--store",
        "--store=here",
        "--store=",
        "--key",
        "file:k",
        "--key=file:k~",
        "--json",
    )
    monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", "there")
    plain = 0
    for count in range(5):
        for chosen in itertools.product(words, repeat=count):
            asked = plain_has._plain(["has", *chosen])
            if asked is None:
                continue
            plain += 1
            stage, store, key_file = asked
            given = has.make_context("has", [*chosen]).params
            key = None if key_file is None else Source("file", key_file, "--key")
            expected = {"stage": stage, "store": store, "key": key, "lock_timeout": quiet_look._PATIENCE, "as_json": False}
            assert given == expected, chosen
    assert plain > 100


@pytest.mark.parametrize(
    "words",
    [[], ["list"], ["--help"], ["has"], ["has", "--help"], ["has", "a", "b"], ["has", "a", "--key", "prompt"]],
    ids=" ".join,
)
def test_other_words_are_not_plain(words: list[str]) -> None:
    assert plain_has.answer(words) is None


def test_a_store_that_is_named_by_a_url_is_asked_in_the_ordinary_way(cli: Cli, store: Path) -> None:
    assert plain_has.answer(["has", "train", "--store", "memory:"]) is None
    assert cli("has", "train", "--store", "memory:").code == 10


def test_it_loads_only_what_an_answer_needs(store: Path) -> None:
    program = """
import sys
from checkpoint_manager.cli import interrupts, main
interrupts.end_now = lambda code: print(code, *sys.modules)
sys.argv[1:] = ["has", "train", "--store", sys.argv[1]]
main()
"""
    done = subprocess.run([sys.executable, "-c", program, str(store)], capture_output=True, text=True, check=True)
    code, *loaded = done.stdout.split()
    assert code == "0"
    assert "checkpoint_manager._operations.load" in loaded
    ours = {
        "manager",
        "_operations.save",
        "_format.payload",
        "cli.app",
        "cli.access",
        "cli.exit_codes",
        "cli.output",
        "cli.hints",
    }
    heavy = {"click", "rich", "filelock", "platformdirs", "ormsgpack", "blake3"}
    heavy |= {"dataclasses", "hashlib", "hmac", "inspect", "logging", "orjson", "pathlib", "random", "secrets", "shutil"}
    heavy |= {"subprocess", "tempfile", "uuid"}
    assert not (heavy | {f"checkpoint_manager.{name}" for name in ours}) & {*loaded}


def test_an_interruption_is_told_and_the_collector_goes_on(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quiet_look, "is_done", interrupt)
    result = cli("has", "train")
    assert (result.code, gc.isenabled()) == (130, True)
    assert result.err == (
        "error: interrupted: nothing is left half done. To continue, run it again: checkpoint-manager has train\n"
    )


def test_what_the_library_would_say_stays_in_its_log(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    _open_to_others(store)
    assert quiet_look.is_done(str(store), None, "train") is None
    assert not caplog.records


def test_the_exit_codes_are_those_of_the_program() -> None:
    assert (plain_has._DONE, plain_has._NO) == (Exit.DONE, Exit.NO)


@pytest.mark.usefixtures("no_sudden_end")
def test_it_needs_no_click(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["checkpoint-manager", "has", "train", "--store", str(store)])
    monkeypatch.setattr(app, "run", None)
    assert main() == 0


@pytest.mark.children_measured
@pytest.mark.parametrize(("stage", "code"), [("train", Exit.DONE), ("nothing", Exit.NO)])
def test_it_ends_at_once_with_its_answer(stage: str, code: Exit, store: Path, program: Cli) -> None:
    result = program("has", stage, "--store", str(store))
    assert (result.code, result.out, result.err) == (code, "", "")


def test_what_was_written_before_is_not_lost(store: Path) -> None:
    program = "import sys; from checkpoint_manager.cli import main; print('before'); main()"
    words = ["has", "train", f"--store={store}"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert done.stdout == "before\n"
