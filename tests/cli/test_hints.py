"""What the library says to programmers, said to those who sit at a shell."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import checkpoint_manager
from checkpoint_manager import CheckpointManager
from checkpoint_manager.cli.wording import for_the_command_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

_SOURCE = Path(checkpoint_manager.__file__).parent
_SHOWN = ("backends", "_operations", "_store")
"""Whose errors come up to the command line as they are; what stands above and beside them is told to programmers only."""
_NOT_A_MESSAGE = {"backends/local/capabilities.py"}
_FOR_PROGRAMMERS = {
    "chmod go=",
    "datetime.now(",
    ".astimezone()",
    "at= needs a time",
    "key= as str",
    "key= as bytes",
    "key= must be",
}
_PYTHON = re.compile(r"\b[a-z_]+\(\)|\b[a-z_]+=|\block_timeout\b|\bon_rollback\b")


def _texts() -> list[str]:
    """Return the texts in the source that are sentences: whole, with a mark for each value in them."""
    found = []
    for path in sorted(_SOURCE.rglob("*.py")):
        name = path.relative_to(_SOURCE).as_posix()
        if not name.startswith(_SHOWN) or name in _NOT_A_MESSAGE:
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""  # a docstring
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
                found.append(node.value)
    return [text for text in found if " " in text and not any(each in text for each in _FOR_PROGRAMMERS)]


def test_no_sentence_of_the_store_sends_a_user_of_the_command_line_to_python() -> None:
    texts = _texts()
    assert sum(bool(_PYTHON.search(text)) for text in texts) > 10  # else this looks in the wrong place
    assert [left for text in texts if _PYTHON.search(left := for_the_command_line(text))] == []


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (("show", "nothing"), '"checkpoint-manager list"'),
        (("show", "train@99"), "the versions are 1 to 3"),
        (("restore", "train", "--at", "2001-01-01T00:00", "--yes"), 'see "checkpoint-manager log" for its times'),
        (
            ("show", "train@none"),
            'see "checkpoint-manager tag" for those it has, and "checkpoint-manager log" for its versions',
        ),
        (("tag", "--delete", "train", "none"), 'see "checkpoint-manager tag"'),
    ],
)
def test_the_next_step_is_a_command(arguments: tuple[str, ...], step: str, cli: Cli, store: Path) -> None:
    result = cli(*arguments)
    assert result.code == 14
    assert step in result.err
    assert step.replace('"', '\\"') in cli(*arguments, "--json").err


def test_who_put_an_older_copy_back_is_told_the_command(cli: Cli, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "older")
    CheckpointManager(store).save_checkpoint("train", {"epoch": 4})
    shutil.rmtree(store)
    (tmp_path / "older").rename(store)
    result = cli("show", "train")
    assert result.code == 13
    assert 'run "checkpoint-manager repair --accept-rollback"' in result.err
    assert cli("repair", "--accept-rollback", "--yes").code == 0
    assert cli("show", "train").code == 0
