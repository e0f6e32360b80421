"""What is written is true: the README's examples run, the program's help is complete, SECURITY.md names real tests."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from checkpoint_manager import _version
from checkpoint_manager.backends.base import Backend
from checkpoint_manager.cli import exit_codes as exits
from checkpoint_manager.cli.app import commands
from tests.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
NAMED = [(" ".join(words), command) for words, command in COMMANDS.items()]


def names_of_tests(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "attacks").glob("test_*.py")), ids=lambda path: path.name)
def test_security_md_names_every_attack_with_its_test(path: Path) -> None:
    section = SECURITY.split(f"(`tests/attacks/{path.name}`)")[1].split("\n**")[0]
    assert set(re.findall(r"`(test_\w+)`", section)) == names_of_tests(path)


def test_every_test_that_security_md_names_exists() -> None:
    there = set().union(*map(names_of_tests, (ROOT / "tests").rglob("test_*.py")))
    there |= names_of_tests(ROOT / "src" / "checkpoint_manager" / "testing" / "backend_contract.py")
    assert set(re.findall(r"`(test_\w+)`", SECURITY)) <= there


def test_every_file_that_a_document_names_exists() -> None:
    for name in re.findall(r"`((?:tests|src)/[\w/.]+\w)`", README + SECURITY):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(
    "example", re.findall(r"```python\n(.*?)```", README, re.DOTALL), ids=lambda text: text.split("\n")[0][:40]
)
def test_the_readmes_examples_run(example: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"print\(.*\)  # (.*)", example)
    assert done.stdout.splitlines() == promised


def test_the_readmes_examples_run_one_after_the_other_in_one_folder(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    pasted = "\n".join(examples)  # into one interpreter, too
    for folder, programs in (("each", [*examples, examples[0]]), ("pasted", [pasted])):  # the first one at last, too
        (tmp_path / folder).mkdir()
        for program in programs:
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", program],
                cwd=tmp_path / folder,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (program, done.stderr)
            assert done.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)", program)


@pytest.mark.parametrize(("name", "command"), NAMED, ids=[name for name, _ in NAMED])
def test_each_command_is_documented_with_an_example(name: str, command: click.Command) -> None:
    assert f"`{name}" in README
    assert f"checkpoint-manager {name}" in str(command.help)
    assert all(parameter.help for parameter in command.params if isinstance(parameter, click.Option))


def test_the_methods_of_a_backend_are_documented() -> None:
    section = README.split("## A backend of your own")[1].split("```")[0]
    optional = {"held_runs", "append_together"}
    assert optional <= vars(Backend).keys()
    assert {*re.findall(r"`([a-z_]+)`", section)} - {"capabilities"} == set(Backend.__abstractmethods__) | optional


def test_the_exit_codes_are_documented() -> None:
    shown = dict(re.findall(r"^\| (\d+) \| (.*?) \|$", README, re.MULTILINE))
    assert {int(code) for code in shown} == {int(code) for code in exits.Exit}
    described = dict(re.findall(r"^(\d+)\s{2,}(.*)$", str(exits.__doc__), re.MULTILINE))
    assert shown == described
    assert all(str(int(code)) in str(commands.help) for code in exits.Exit)


def test_the_options_that_every_command_has_are_documented() -> None:
    for name, command in NAMED:
        options = {option for parameter in command.params for option in parameter.opts}
        assert name in {"demo", "completion"} or {"--store", "--key", "--json"} <= options
    context = click.Context(dict(NAMED)["status"])
    everywhere = {option for parameter in context.command.params for option in parameter.opts} - {"--watch", "--interval"}
    for option in (*everywhere, "--yes"):
        assert option in README


def test_the_changes_are_those_of_this_version() -> None:
    assert re.findall(r"^\*\*(.+)\.\*\* ", README.split("## Changes")[1], re.MULTILINE)[0] == _version.__version__


def test_the_commands_that_ask_are_documented() -> None:
    (told,) = re.findall(r"^(.*) show what they will do, and ask at a terminal;$", README, re.MULTILINE)
    asking = {name for name, command in NAMED for parameter in command.params if "--yes" in parameter.opts}
    assert {name.partition(" --")[0] for name in re.findall(r"`([a-z -]+)`", told)} == asking


TABLE = dict(
    re.findall(r"^\| `([a-z][^`]*)` \| (.*) \|$", README.split("## The command line")[1].split("\n## ")[0], re.MULTILINE)
)


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """Return the name of the command that a line calls, and what comes after it."""
    name = next(name for name, _ in NAMED if words[: len(name.split())] == name.split())
    return name, words[len(name.split()) :]


@pytest.mark.parametrize(("usage", "what"), TABLE.items(), ids=TABLE)
def test_the_table_of_commands_says_what_they_take(usage: str, what: str) -> None:
    name, shown = command_of(usage.split())
    command = dict(NAMED)[name]
    pieces = command.collect_usage_pieces(click.Context(command))
    assert shown == " ".join(pieces).replace("[OPTIONS]", "").replace("...", "…").split()
    options = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", what)) <= options


def test_the_table_names_every_command() -> None:
    assert sorted(command_of(usage.split())[0] for usage in TABLE) == sorted(name for name, _ in NAMED)


LINES = re.findall(r"(?:^|[`\"/ ])checkpoint-manager ((?![^`\"\n]*\()[a-z-][^`\"\n]*)", README + SECURITY, re.MULTILINE)


@pytest.mark.parametrize("line", LINES)
def test_each_command_line_in_the_documents_is_one(line: str) -> None:
    words = shlex.split(line.partition(" >")[0])
    if words == ["--version"]:
        with pytest.raises(click.exceptions.Exit):
            commands.make_context("checkpoint-manager", words)
        return
    name, rest = command_of(words)
    dict(NAMED)[name].make_context(name, rest, parent=commands.make_context("checkpoint-manager", words))
