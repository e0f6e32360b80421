"""All messages, each in the situation that shows it; and every hint leads further.

``MESSAGES=table.txt python -m pytest -n0 -p no:randomly tests/cli/test_messages.py`` writes the table, to be read aloud.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import checkpoint_manager
from checkpoint_manager import errors
from checkpoint_manager.cli.hints import HINTS, explain
from checkpoint_manager.errors import CheckpointError, Hint
from tests.cli.log_lines import LINES, NOT_PROVOKED, Line
from tests.cli.situations import SITUATIONS, Situation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

NOT_RAISED = {"FormatError": "only a newer version of the library writes such a file", "Hint": "not an error"}
PACKAGE = Path(checkpoint_manager.__file__).parent
CLUMSY = {
    "a singular with a plural": r"\b1 (?:stage|version|tag|slot|key|character|element|line|item|difference)s\b",
    "the wrong article": r"(?<![.\w])a (?:[aei]\w+|object)\b",
    "a range of one": r"\bare (\d+) to \1\b",
    "two full stops": r"\.\.(?!\.)",
    "a sentence that begins small": r"[a-z)]\. [a-z]",
    "a question that goes on": r"\? [A-Z]\w+ is no",
    "a repr of the library's": r"CheckpointManager\(",
    "a full stop at the end": r"\.$",
    "two spaces": r"\S  +\S",
    "the same path twice": r"(/\S+).* \1:",
}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_what_it_says_and_that_its_hint_leads_further(situation: Situation, cli: Cli, store: Path, tmp_path: Path) -> None:
    with situation.prepare(tmp_path) if situation.prepare is not None else contextlib.nullcontext():
        if isinstance(situation.act, str):
            result = cli(*situation.act.split())
            assert result.code == situation.code, result.err
            text = result.err.strip().splitlines()[-1]
            if situation.kind:
                told = cli(*situation.act.split(), "--json").error
                assert told["kind"] == situation.kind
                assert text == f"error: {told['message']}" + (f". {told['hint']}" if told["hint"] else "")
        else:
            with pytest.raises(CheckpointError) as caught:
                situation.act(tmp_path)
            assert type(caught.value).__name__ == situation.kind
            assert caught.value.hint == (situation.hint or caught.value.hint)
            text = str(caught.value)
    if situation.hint is not None and isinstance(situation.act, str):
        assert HINTS[situation.hint].partition("{")[0] in text
    act = situation.act if isinstance(situation.act, str) else "(a call)"
    write_down(f"{situation.name}\n    {act}  →  {'-' if situation.code is None else situation.code}", text)
    lint(text)
    if isinstance(situation.act, str):
        for step in situation.follow:
            done = cli(*step.split())
            assert done.code in ({0} if step == situation.follow[-1] else {0, 3}), done.err  # 3: there is more to do
        if situation.follow or situation.after or situation.hint:
            further = cli(*(situation.after or situation.act).split())
            assert further.code == 0, further.err


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.where}: {line.says}")
def test_what_the_log_says_and_that_it_leads_further(
    line: Line, cli: Cli, store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "checkpoint_manager")
    line.act(tmp_path)
    found = [
        record
        for record in caplog.records
        if record.pathname.endswith(f"checkpoint_manager/{line.where}") and str(record.msg).startswith(line.says)
    ]
    assert found, caplog.text
    assert {record.levelname for record in found} == {line.level}
    for text in {record.getMessage() for record in found}:
        write_down(f"{line.where} ({line.level})", text)
        lint(text.removesuffix("cleared."))
    for step in line.follow:
        done = cli(*step.split())
        assert done.code == (13 if step == "verify" else 0), done.err
    if line.follow:
        assert cli("verify").code == 0


def test_no_line_of_the_log_is_without_a_situation() -> None:
    for where, says in logged():
        told = [line.says for line in LINES if line.where == where] + [start for place, start in NOT_PROVOKED if place == where]
        assert any(says.startswith(start) for start in told if (start == "%s") == (says == "%s")), (where, says)


def logged() -> Iterator[tuple[str, str]]:
    """Yield each format of the library's log lines, with the module that has it."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        named = {
            name.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for name in node.targets
            if isinstance(name, ast.Name) and name.id == "message"
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_LOG"), attr="info" | "warning" | "error"), args=[form, *_]
                ):
                    if isinstance(form, ast.Name):
                        form = named[form.id]
                    if isinstance(form, ast.Constant):
                        yield str(path.relative_to(PACKAGE)), str(form.value)


def lint(text: str) -> None:
    for what, pattern in CLUMSY.items():
        assert not re.search(pattern, text), what


def write_down(situation: str, text: str) -> None:
    if table := os.environ.get("MESSAGES"):
        with Path(table).open("a") as file:
            file.write(f"{situation}\n    {text}\n")


def test_no_error_and_no_hint_is_without_a_situation() -> None:
    kinds = {situation.kind for situation in SITUATIONS}
    assert set(errors.__all__) - kinds == NOT_RAISED.keys() & set(errors.__all__)
    assert {"NoStoreError", "UsageError", "UnknownCommandError"} <= kinds
    assert {situation.hint for situation in SITUATIONS} - {None} == set(Hint)
    assert explain(CheckpointError("m", hint=Hint.SEE_STAGES)).endswith("checkpoint-manager list")
