"""The next step after an error: a call for a program, a command at the command line."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import checkpoint_manager
from checkpoint_manager import CheckpointError, CheckpointManager
from checkpoint_manager.cli.hints import HINTS, explain, hint_of, sentence
from checkpoint_manager.errors import Hint
from tests.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

_SOURCE = Path(checkpoint_manager.__file__).parent
_PYTHON = re.compile(r"\b[a-z_]+\(\)|\b[a-z_]+=\s|\b[a-z_]+=(True|False)|\block_timeout\b|\bon_rollback\b")
"""A call or an argument, which a user of the command line can do nothing with."""
_UP_TO_THE_COMMAND_LINE = ("backends", "_format", "_operations", "_store", "_filesystem")
"""The layers whose errors reach the command line; those above are told to programs only."""

_OF_PYTHON_OBJECTS = {"_format/contents.py"}
"""Modules that only a program calls: the command line attaches files and reads bytes."""


def test_each_hint_has_a_sentence_for_the_command_line() -> None:
    assert set(HINTS) == set(Hint)
    for hint, text in HINTS.items():
        assert not _PYTHON.search(text), hint
        assert text[0].isupper(), hint
        assert not text.endswith("."), hint


def _errors() -> list[tuple[str, str]]:
    """Return the texts of the errors that reach the command line, each with where it stands; values in them are left out."""
    found = []
    for path in sorted(_SOURCE.rglob("*.py")):
        name = path.relative_to(_SOURCE).as_posix()
        if not name.startswith(_UP_TO_THE_COMMAND_LINE) or name in _OF_PYTHON_OBJECTS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "message":
                found.append((f"{name}:{node.lineno}", _text(node.value)))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("Error"):
                if getattr(node.func, "id", "") in {"TypeError", "ValueError", "ArgumentError"}:
                    continue  # a program's own fault
                texts = [*node.args[:1], *(each.value for each in node.keywords if each.arg == "hint")]
                found += [(f"{name}:{node.lineno}", _text(each)) for each in texts]
    return found


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
        case _:
            return ""


def test_no_error_sends_a_user_of_the_command_line_to_python() -> None:
    errors = _errors()
    assert len(errors) > 50  # else this looks in the wrong place
    assert [(where, text) for where, text in errors if _PYTHON.search(text)] == []


def test_a_hint_that_reads_the_same_in_both_is_shown_as_it_is() -> None:
    error = CheckpointError("it is full", hint="Free some space")
    assert hint_of(error) == "Free some space"
    assert explain(error) == "it is full. Free some space"
    assert explain(CheckpointError("it is full")) == "it is full"


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (("show", "nothing"), sentence(Hint.SEE_STAGES)),
        (("clear", "nothing", "--yes"), sentence(Hint.SEE_STAGES)),
        (("show", "train@none"), sentence(Hint.SEE_TAGS, "train")),
        (("tag", "--delete", "train", "none"), sentence(Hint.SEE_TAGS, "train")),
        (("restore", "train", "--at", "2001-01-01T00:00", "--yes"), sentence(Hint.SEE_HISTORY, "train")),
        (("delete", "train", "99", "--yes"), sentence(Hint.SEE_HISTORY, "train")),
    ],
)
def test_the_next_step_is_a_command(arguments: tuple[str, ...], step: str, cli: Cli, store: Path) -> None:
    result = cli(*arguments)
    assert result.code == 14
    assert result.err.endswith(f". {step}\n")
    error = cli(*arguments, "--json").error
    assert error["hint"] == step
    assert step not in error["message"]


def test_the_command_in_a_hint_names_the_stage_and_the_store_that_were_given(cli: Cli, store: Path, tmp_path: Path) -> None:
    store.rename(tmp_path / "my store")
    error = cli("show", "train@9", "--store", "my store", "--json").error
    assert error["hint"] == "Choose a version from: checkpoint-manager log train --store 'my store'"
    assert cli(*shlex.split(error["hint"].partition("checkpoint-manager ")[2])).code == 0


def test_every_command_in_a_hint_is_one_of_the_program() -> None:
    for hint in Hint:
        for words in re.findall(r"checkpoint-manager ([a-z]+)", sentence(hint)):
            assert (words,) in COMMANDS, hint


def test_the_user_who_put_an_older_copy_back_is_told_the_command(cli: Cli, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "older")
    CheckpointManager(store).save_checkpoint("train", {"epoch": 4})
    shutil.rmtree(store)
    (tmp_path / "older").rename(store)
    result = cli("show", "train")
    assert result.code == 13
    assert "run: checkpoint-manager repair --accept-rollback" in result.err
    assert cli("repair", "--accept-rollback", "--yes").code == 0
    assert cli("show", "train").code == 0


def test_the_user_of_an_older_copy_is_sent_to_the_store_that_can_be_copied(cli: Cli, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "copy")
    CheckpointManager(store).save_checkpoint("train", {"epoch": 4})
    error = cli("show", "train", "--store", "copy", "--json").error
    assert f"this user has seen the same store at {store}" in error["message"]
    advised = re.search(r"checkpoint-manager (copy .*?),", error["hint"])
    assert advised
    words = shlex.split(advised[1].replace("LOCATION", "new").replace("OTHER", str(store)))
    assert cli(*words).code == 0
    assert CheckpointManager(tmp_path / "new").load_checkpoint("train") == {"epoch": 4}
