"""A function whose code changed runs again, and one whose code reads alike does not."""

from __future__ import annotations

import ast
import linecache
import logging
import os
import runpy
import shutil
import subprocess
import sys
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager._format.notes import CodeNote, read_note
from checkpoint_manager._operations.save import Draft, save
from checkpoint_manager.stages.code import Code, _encoded
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(32)

SCRIPT = '''
import logging, sys
from checkpoint_manager import CheckpointManager
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
cm = CheckpointManager("store", key=bytes(32))

def half(number):
    return number / 2

def double(number):
    return number * 2

class Adder:
    """Adds."""
    step = 1

    def add(self, number):
        return number + self.step

@cm.stage
def clean(number, by=3):
    """Return the number, cleaned."""
    inner = [Adder().add(each) for each in range(number)]  # a comment
    return f"{double(number)!r:>{by}} {sum(inner)}"

clean(4)
print("->", cm.run_report().outcomes[-1].what)
'''


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


def run(folder: Path, text: str) -> str:
    """Run a script in a forked child, as its ``__main__``, and return what it prints: a new process takes ten times as long."""
    script, printed = folder / "script.py", folder / "printed"
    script.write_text(text)

    def act() -> None:
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        logging.getLogger().handlers.clear()
        with printed.open("w") as sys.stdout:
            try:
                runpy.run_path(str(script), run_name="__main__")
            except Exception:
                traceback.print_exc(file=sys.stdout)
                raise
            except SystemExit:
                pass

    assert forking.end(forking.start(act)) == 0, printed.read_text()
    return printed.read_text()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("inner =", "inner = inner2 =", "clean"),
        ("by=3", "by=4", "arguments changed: by"),
        ("!r:", "!s:", "clean"),
        ("number * 2", "number + number", "double"),
        ("step = 1", "step = 2", "Adder"),
        ("number + self.step", "self.step + number", "Adder"),
    ],
)
def test_an_edited_function_runs_again_and_the_log_says_which_one_changed(tmp_path: Path, old: str, new: str, why: str) -> None:
    assert "-> ran" in run(tmp_path, SCRIPT)
    assert "-> reused" in run(tmp_path, SCRIPT)
    again = run(tmp_path, SCRIPT.replace(old, new))
    assert "-> ran" in again
    if " " in why:
        assert why in again
    else:
        assert f"clean: runs again: code changed: {why}\n" in again
    assert "-> reused" in run(tmp_path, SCRIPT)  # taken back


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another one"),
        ('"""Return the number, cleaned."""', '"""Return it."""'),
        ('"""Adds."""', ""),
        ("def half", "\n\n# moved down\n\ndef half"),
        ("number / 2", "number / 3"),  # which the stage does not use
        ("@cm.stage\n", "@cm.stage(wait=5)\n"),
        ("double(number)!r", "double( number  )!r"),
        ("range(number)]", "range(\n        number\n    )]"),
    ],
)
def test_what_makes_no_difference_is_reused(tmp_path: Path, old: str, new: str) -> None:
    assert old in SCRIPT
    run(tmp_path, SCRIPT)
    assert "-> reused" in run(tmp_path, SCRIPT.replace(old, new))


def test_the_place_of_a_project_makes_no_difference(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "script.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "script.py"], check=True, cwd=tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    env = 'cm = CheckpointManager("store", key=bytes(32), on_rollback="warn")'
    moved = SCRIPT.replace('cm = CheckpointManager("store", key=bytes(32))', env)
    assert "-> reused" in run(tmp_path / "there", moved)


def test_the_other_modules_that_a_function_uses_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text("def check(number):\n    return number\n")
    text = SCRIPT.replace("import logging, sys", "import logging, sys\nimport rules").replace("{sum(", "{rules.check(1)} {sum(")
    text = text.replace("clean(4)\n", "clean(4)\nclean(5)\n")
    assert run(tmp_path, text).count("clean: its code is compared, but not that of module rules") == 1


def test_code_false_and_a_revision_reuse_whatever_the_code_is(tmp_path: Path) -> None:
    for choice in ("code=False", "revision=2"):
        text = SCRIPT.replace("@cm.stage\n", f"@cm.stage({choice})\n")
        assert "-> ran" in run(tmp_path, text) or choice == "code=False"
        assert "-> reused" in run(tmp_path, text.replace("number * 2", "number"))
    both = SCRIPT.replace("@cm.stage\n", "@cm.stage(revision=3, code=True)\n")
    run(tmp_path, both)
    assert "-> ran" in run(tmp_path, both.replace("number * 2", "number"))


def test_a_result_that_does_not_tell_its_code_is_reused_and_that_is_said_once(
    cm: CheckpointManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def clean(number: int) -> int:
        return number

    cm.stage(code=False)(clean)(1)
    again = CheckpointManager(tmp_path / "store", key=KEY)
    stage = again.stage(clean)
    assert [stage(1), stage(1)] == [1, 1]
    assert [outcome.what for outcome in again.run_report().outcomes] == ["reused", "reused"]
    assert caplog.text.count("version 1 was saved without its code, and is used") == 1


def test_a_result_that_does_not_tell_its_code_is_not_reused_once_the_code_is_known_to_have_changed(tmp_path: Path) -> None:
    untold = SCRIPT.replace("@cm.stage\n", "@cm.stage(code=False)\n").replace("clean(4)", "[clean(4), clean(3)]")
    run(tmp_path, untold)
    assert "-> ran" in run(tmp_path, SCRIPT.replace("clean(4)", "clean(5)"))
    assert "-> reused" in run(tmp_path, SCRIPT)
    edited = run(tmp_path, SCRIPT.replace("number * 2", "number"))
    assert "clean: runs again: code changed\n" in edited
    assert "-> ran" in edited


def test_a_note_whose_code_has_another_shape_is_none(cm: CheckpointManager) -> None:
    cm.stage("clean")(lambda: 1)()
    version = cm.get_version("clean")
    for code in (3, {"digest": "x"}, {"digest": 1, "functions": {}}, {"digest": "x", "functions": {"a": 1}}):
        metadata = {"@stage": {**version.metadata["@stage"], "code": code}}
        save(cm._store, "clean", Draft(b"7", metadata))
        assert CheckpointManager(cm._store.backend, key=KEY).stage("clean")(lambda: 1)() == 1


def digest(function: Callable[..., Any]) -> str:
    note = Code(function).note
    assert note is not None
    return note.digest


def made(text: str, file: str = "<made>", **variables: Any) -> Any:
    """Return what a text calls ``made``, whose source is known under the name of a file."""
    lines = text.splitlines(keepends=True)
    linecache.cache[file] = (len(text), None, lines, file)
    namespace = {"__name__": "made", **variables}
    exec(compile(text, file, "exec"), namespace)
    return namespace["made"]


def test_a_function_without_source_is_compared_by_its_bytecode() -> None:
    functions: list[Any] = []
    for text in ("def made(): return 1", "\n\ndef made(): return 1", "def made(): return 2"):
        namespace: dict[str, Any] = {"__name__": "made"}
        exec(text, namespace)
        functions.append(namespace["made"])
    assert digest(functions[0]) == digest(functions[1]) != digest(functions[2])


def test_sets_in_bytecode_are_compared_by_what_they_hold() -> None:
    def without_source(text: str) -> Any:
        namespace: dict[str, Any] = {"__name__": "made"}
        exec(f"def made(x): return x in {text}", namespace)
        return namespace["made"]

    same = [digest(without_source(text)) for text in ("{'a', 'b', 'c'}", "{'c', 'b', 'a'}")]
    assert same[0] == same[1] != digest(without_source("{'a', 'b', 'd'}"))


def test_the_texts_of_a_literal_are_joined_as_another_version_of_python_reads_it() -> None:
    """Python 3.12 cuts them where a conversion begins, and may leave an empty one."""
    name = ast.FormattedValue(ast.Name("x"), -1)
    cut = ast.JoinedStr([ast.Constant("a"), ast.Constant("b"), name, ast.Constant("")])
    assert b"".join(_encoded(cut)) == b"".join(_encoded(ast.JoinedStr([ast.Constant("ab"), name])))


def test_modules_that_a_function_imports_itself_are_said_to_be_unseen() -> None:
    text = """
def made():
    import json, numpy.linalg
    from pandas import DataFrame
    from . import sibling
    return helper()
"""
    assert Code(made(text, helper=pytest.fail)).unseen == ("module .", "module _pytest", "module numpy", "module pandas")


def test_a_source_that_another_thread_is_reading_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither linecache nor the parser is made for threads."""
    function = made("def made(): return 1")
    before, getlines, fails = digest(function), linecache.getlines, iter([KeyError("<made>"), SystemError()])

    def read(*arguments: Any) -> list[str]:
        for error in fails:
            raise error
        return getlines(*arguments)

    monkeypatch.setattr(linecache, "getlines", read)
    assert digest(function) == before


def test_a_variable_that_is_not_set_yet_counts_once_it_is() -> None:
    def later() -> Any:
        return value

    before = digest(later)
    value = 1
    assert before != digest(later)


def test_a_default_that_may_change_counts_only_by_its_text() -> None:
    def with_default(default: object) -> Any:
        return made("def made(x=DEFAULT): return x", DEFAULT=default)

    assert digest(with_default((1, 2))) != digest(with_default((1, 3)))
    assert digest(with_default((1, [2]))) == digest(with_default((1, [3])))  # what it holds may be what the function collects


def test_a_function_of_a_notebook_is_compared_by_its_cell() -> None:
    first = made("def made(): return [1, 2]", "<cell 1>")
    second = made("# again\ndef made():\n    return [ 1,2 ]", "<cell 2>")
    assert digest(first) == digest(second)


def test_constants_of_other_cells_of_a_notebook_count() -> None:
    def price(**variables: Any) -> dict[str, str]:
        note = Code(made("def made(): return RATE * SIZE, START", "<cell 3>", __name__="__main__", **variables)).note
        assert note is not None
        return dict(note.constants)

    for number, text in enumerate(["RATE = 2", "UNIT = 4", "SIZE = UNIT * 1024\nSTART = now()", "%not python"]):
        linecache.cache[f"<cell of constants {number}>"] = (len(text), None, [text], "")
    first = price(RATE=2, UNIT=4, SIZE=4096, START=1)
    assert first.keys() == {"RATE", "SIZE"}
    assert first != price(RATE=3, UNIT=4, SIZE=4096, START=1)
    assert price(RATE=2, __file__="script.py") == {}


def test_source_that_is_not_that_of_the_running_code_does_not_count() -> None:
    function = made("def made(): return 1", "<edited>")
    before = digest(function)
    linecache.cache["<edited>"] = (20, None, ["def made(): return 2"], "<edited>")
    after, edited = digest(function), digest(made("def made(): return 2", "<edited>"))
    assert len({before, after, edited}) == 3
    linecache.cache["<edited>"] = (20, None, ["def made(: return"], "<edited>")
    assert digest(function) == after


def test_a_helper_that_is_defined_again_counts_at_the_next_call(cm: CheckpointManager) -> None:
    variables: dict[str, Any] = {"__name__": "made"}
    exec("def helper(): return 1\ndef made(): return helper()", variables)
    stage = cm.stage(variables["made"])
    assert stage() == stage() == 1
    exec("def helper(): return 2", variables)
    assert stage() == 2
    variables["helper"].__code__ = (lambda: 3).__code__
    assert stage() == 3


def test_values_around_a_function_and_defaults_count() -> None:
    def outer(times: Any) -> Callable[[], Any]:
        def inner() -> Any:
            return times

        return inner

    assert digest(outer(1)) == digest(outer(1)) != digest(outer(2))
    assert digest(outer([1])) == digest(outer([2]))  # it may be what the function collects


def test_what_a_function_counts_around_it_does_not_count(cm: CheckpointManager) -> None:
    calls = 0

    @cm.stage
    def count() -> int:
        nonlocal calls
        calls += 1
        return calls

    assert count() == count() == 1


def test_methods_partials_and_recursion_are_followed() -> None:
    text = """
import functools
def deep(number):
    return made(number - 1) if number else 0
@functools.lru_cache
def cached(number):
    return deep(number)
part = functools.partial(cached, 1)
class Base:
    def run(self): return 1
class Thing(Base):
    def run(self): return super().run()
thing = Thing()
def made(number):
    return part() + thing.run()
"""
    assert set(Code(made(text)).note.functions) == {"made", "cached", "deep", "Thing", "Base"}  # type: ignore[union-attr]
    edited = made(text.replace("return 1", "return 2"))
    assert digest(made(text)) != digest(edited)


def test_a_method_of_an_object_is_followed() -> None:
    text = "class Thing:\n    def run(self): return 1\nrun = Thing().run\ndef made(): return run()"
    assert digest(made(text)) != digest(made(text.replace("return 1", "return 2")))


def test_the_code_of_a_stage_within_counts_unless_it_has_a_revision(cm: CheckpointManager) -> None:
    text = "@cm.stage(CHOICE)\ndef inner(): return 1\ndef made(): return inner()"
    for choice, differs in (("'inner'", True), ("'inner', revision=1", False)):
        digests = [
            digest(made(text.replace("CHOICE", choice).replace("return 1", body), cm=CheckpointManager("memory:", key=KEY)))
            for body in ("return 1", "return 2")
        ]
        assert (digests[0] != digests[1]) is differs
    assert digest(made(text.replace("CHOICE", "'inner', revision=1"), cm=cm)) != digest(
        made(text.replace("CHOICE", "'inner', revision=2"), cm=CheckpointManager("memory:", key=KEY))
    )


def test_what_is_written_in_c_is_said_to_be_unseen(cm: CheckpointManager, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="checkpoint_manager")
    assert cm.stage("sorted")(sorted)([2, 1]) == [1, 2]
    assert "not that of sorted (which is not written in Python)" in caplog.text


def test_classes_without_methods_count(tmp_path: Path) -> None:
    text = SCRIPT.replace(
        "class Adder:", "import dataclasses\n@dataclasses.dataclass\nclass Row:\n    size: int = 1\n\nclass Adder:"
    )
    text = text.replace("{sum(inner)}", "{sum(inner)} {Row()}")
    run(tmp_path, text)
    assert "-> reused" in run(tmp_path, text)
    assert "code changed: Row" in run(tmp_path, text.replace("size: int = 1", "size: int = 2"))


def test_lambdas_are_told_apart(cm: CheckpointManager) -> None:
    pair = [made(f"made = lambda number: number + {step}", f"<lambda {step}>") for step in (1, 2)]
    assert digest(pair[0]) != digest(pair[1])
    two = made("made = [lambda number: number + 1, lambda number: number + 2]")
    assert digest(two[0]) != digest(two[1])


def test_a_loop_in_a_function_whose_code_changed_starts_over(tmp_path: Path) -> None:
    text = SCRIPT.split("@cm.stage", maxsplit=1)[0] + (
        "@cm.stage('sum')\n"
        "def total(fail=1):\n"
        "    with cm.loop('sum', [1, 2, 3], initial=[], every_items=1) as loop:\n"
        "        for item in loop:\n"
        "            if item == 3 and STOP: raise SystemExit(0)\n"
        "            loop.state.append(double(item))\n"
        "    return loop.result\n"
        "print(total())\n"
    )
    run(tmp_path, text.replace("STOP", "True"))
    edited = run(tmp_path, text.replace("STOP", "False").replace("number * 2", "number * 10"))
    assert "[10, 20, 30]" in edited


EACH_VERSION = {
    "Base": "278ece6fcedfad38e4ef65556780cfe9",
    "Row": "bc6a5930a803ed9a85402223581107a7",
    "Sub": "01956d1587ccd8a8858458d4309eb75b",
    "co": "0c367055f54d6699903d5ddc073475d3",
    "deep": "57f6fa9d1e279eac963d0e8d10b0340b",
    "gen": "09c10c800af466ca541ccc13dd484114",
    "lam": "ef1d64e5f45348302cac24018632aaa9",
    "match_it": "2ee9b15da2aeaf0e85fe9e48e20e74b6",
    "wrapped": "53bbd83cbb1991483a2961f907400fbf",
}
"""The digests of what is in tests/vectors/code.txt: Python 3.11, 3.12 and 3.13 give the same, and so must each later one."""


def test_each_version_of_python_gives_the_same_digests() -> None:
    file = Path(__file__).parents[1] / "vectors" / "code.txt"
    module = types.ModuleType("big")
    linecache.cache["big"] = (0, None, file.read_text().splitlines(keepends=True), "big")
    sys.modules["big"] = module
    try:
        exec(compile(file.read_text(), "big", "exec", dont_inherit=True), vars(module))
        assert {name: digest(getattr(module, name)) for name in EACH_VERSION} == EACH_VERSION
    finally:
        del sys.modules["big"]


CONSTANTS = """
import sys
from checkpoint_manager import CheckpointManager

RATE: float = 0.25
NAMES = ("a", "b")
CALLS = 0
CACHE = {}
OTHER = 1
START = len(sys.argv)

cm = CheckpointManager("store", key=bytes(32))

def rate():
    return RATE

@cm.stage
def price(number):
    global CALLS
    CALLS += 1
    CACHE[number] = START
    other = OTHER = 0
    return [number * rate(), *NAMES, other]

price(4)
print("->", cm.run_report().outcomes[-1].what, cm.run_report().outcomes[-1].why)
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("0.25", "0.5", "-> ran code changed: RATE"),
        ("0.25", "0.250", "-> reused "),
        ('("a", "b")', '("a", "c")', "-> ran code changed: NAMES"),
        ("CALLS = 0", "CALLS = 5", "-> reused "),
        ("CACHE = {}", "CACHE = {1: 2}", "-> reused "),
        ("OTHER = 1", "OTHER = 2", "-> reused "),
        ("len(sys.argv)", "len(sys.argv) + 1", "-> reused "),
    ],
)
def test_a_changed_constant_of_the_file_runs_it_again(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert run(tmp_path, CONSTANTS) == "-> ran first run\n"
    assert run(tmp_path, CONSTANTS) == "-> reused \n"
    assert run(tmp_path, CONSTANTS.replace(old, new)) == f"{says}\n"
    assert run(tmp_path, CONSTANTS.replace(old, new)) == "-> reused \n"


def test_a_file_that_is_edited_while_it_runs_tells_the_constant_that_was_used(tmp_path: Path) -> None:
    edit = 'text = open(__file__).read(); open(__file__, "w").write(text.replace("RATE: float = 0.25", "RATE: float = 0.5"))\n'
    assert run(tmp_path, CONSTANTS.replace("price(4)", edit + "price(4)")) == "-> ran first run\n"
    assert run(tmp_path, CONSTANTS) == "-> reused \n"
    assert run(tmp_path, CONSTANTS.replace("0.25", "0.5")) == "-> ran code changed: RATE\n"


def test_a_result_that_was_saved_before_constants_were_compared_is_reused(cm: CheckpointManager) -> None:
    new = CodeNote("d", {}, {"RATE": "1"})
    assert CodeNote("d").is_same(new)
    assert new.is_same(CodeNote("d"))
    assert not new.is_same(CodeNote("d", {}, {"RATE": "2"}))
    assert not new.is_same(CodeNote("e", {}, {"RATE": "1"}))
    old = {"version": 1, "arguments": {}, "code": {"digest": "d", "functions": {}}}
    note = read_note({"@stage": old})
    assert note is not None
    assert note.as_metadata() == old
    assert read_note({"@stage": {**old, "code": {"digest": "d", "functions": {}, "constants": 5}}}) is None
