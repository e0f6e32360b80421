"""A result belongs to the function it came from: another one of the same name does not get it, or is refused."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager._operations.save import Draft, save
from checkpoint_manager.stages.identity import origin_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(32)


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def repeated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return [function(*args, **kwargs)] * 2

    return wrapper


def first() -> str:
    return "first"


def second() -> str:
    return "second"


def run(script: Path, *arguments: object, cwd: Path) -> str:
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=dict(os.environ), timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SCRIPT = """
import sys
from checkpoint_manager import CheckpointManager
cm = CheckpointManager(sys.argv[1], key=bytes(32))
{imported}
@cm.stage
def clean():
    return {result!r}

print(({called})(), cm.run_report().outcomes[-1].what)
"""


def script(path: Path, result: str, imported: str = "", called: str = "clean") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SCRIPT.format(result=result, imported=imported, called=called))
    return path


class TestScripts:
    @pytest.mark.parametrize("names", [("a.py", "b.py"), ("a/job.py", "b/job.py")])
    def test_two_scripts_with_a_function_of_one_name_do_not_reuse_each_others_results(
        self, tmp_path: Path, names: tuple[str, str]
    ) -> None:
        scripts = [script(tmp_path / name, name) for name in names]
        store = tmp_path / "store"
        assert [run(each, store, cwd=tmp_path) for each in scripts] == [f"{name} ran" for name in names]
        assert [run(each, store, cwd=tmp_path) for each in scripts] == [f"{name} reused" for name in names]

    def test_two_modules_of_one_name_beside_two_scripts_are_told_apart(self, tmp_path: Path) -> None:
        imported = "import steps\nsteps.define(cm)"
        for name in ("a", "b"):
            script(tmp_path / name / "job.py", name, imported, called="steps.stages[0]")
            code = f"stages = []\ndef define(cm):\n    @cm.stage\n    def clean(): return {name!r}\n    stages.append(clean)\n"
            code = code.replace("clean", "tidy")
            (tmp_path / name / "steps.py").write_text(code)
        store = tmp_path / "store"
        assert [run(tmp_path / name / "job.py", store, cwd=tmp_path) for name in ("a", "b")] == ["a ran", "b ran"]

    def test_a_project_that_is_moved_with_its_store_reuses_its_results(self, tmp_path: Path) -> None:
        script(tmp_path / "old" / "etl" / "job.py", "x")
        assert run(tmp_path / "old/etl/job.py", "checkpoints", cwd=tmp_path / "old") == "x ran"
        shutil.move(tmp_path / "old", tmp_path / "new")
        assert run(tmp_path / "new/etl/job.py", "../checkpoints", cwd=tmp_path / "new/etl") == "x reused"

    def test_a_script_is_the_same_by_any_path(self, tmp_path: Path) -> None:
        script(tmp_path / "project" / "job.py", "x")
        (tmp_path / "link").symlink_to(tmp_path / "project")
        assert run(tmp_path / "project/job.py", tmp_path / "store", cwd=tmp_path) == "x ran"
        assert run(tmp_path / "link/job.py", tmp_path / "store", cwd=tmp_path) == "x reused"

    def test_a_module_is_the_same_as_a_program_and_when_it_is_imported(self, tmp_path: Path) -> None:
        script(tmp_path / "pipeline" / "job.py", "x")
        (tmp_path / "pipeline" / "__init__.py").touch()
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        for command, what in ((["-m", "pipeline.job"], "ran"), (["-c", "import pipeline.job"], "reused")):
            words = [sys.executable, *command, str(tmp_path / "store")]
            done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment, timeout=60)
            assert done.stdout.strip() == f"x {what}"


class TestOneProgram:
    def test_a_lambda_needs_a_name(self, cm: CheckpointManager) -> None:
        with pytest.raises(TypeError, match=r'a lambda has no name for its stage. Give it one: cm.stage\("…"\)'):
            cm.stage(lambda: 1)
        with pytest.raises(TypeError, match="a partial has no name"):
            cm.stage(functools.partial(first))

    def test_two_lambdas_of_one_line_are_not_taken_for_each_other(self, cm: CheckpointManager, tmp_path: Path) -> None:
        one, two = (lambda x: x + 1), (lambda x: x * 100)
        assert cm.stage("shift")(one)(1) == 2
        with pytest.raises(ValueError, match=r"the stage shift is .*<lambda> .* already"):
            cm.stage("shift")(two)
        assert CheckpointManager(tmp_path / "store", key=KEY).stage("shift")(two)(1) == 100

    def test_two_functions_below_a_decorator_without_wraps_are_refused(self, cm: CheckpointManager, tmp_path: Path) -> None:
        assert cm.stage(logged(first))() == "first"
        with pytest.raises(ValueError, match="another name"):
            cm.stage(logged(second))
        assert CheckpointManager(tmp_path / "store", key=KEY).stage(logged(second))() == "second"
        assert CheckpointManager(tmp_path / "store", key=KEY).stage(logged(first))() == "first"

    def test_another_decorator_around_a_function_makes_another_function(self, cm: CheckpointManager, tmp_path: Path) -> None:
        assert cm.stage("first")(first)() == "first"
        with pytest.raises(ValueError, match="already"):
            cm.stage("first")(repeated(first))
        assert CheckpointManager(tmp_path / "store", key=KEY).stage("first")(repeated(first))() == ["first"] * 2

    def test_partials_of_two_functions_are_not_taken_for_each_other(self, cm: CheckpointManager, tmp_path: Path) -> None:
        assert cm.stage("p")(functools.partial(first))() == "first"
        with pytest.raises(ValueError, match="already"):
            cm.stage("p")(functools.partial(second))
        assert CheckpointManager(tmp_path / "store", key=KEY).stage("p")(functools.partial(second))() == "second"

    def test_two_closures_of_a_factory_are_refused(self, cm: CheckpointManager) -> None:
        def make(offset: object) -> Callable[[int], Any]:
            @cm.stage
            def shift(x: int) -> Any:
                return (x, offset)

            return shift

        make(1)
        make(1)  # equal ones return the same
        with pytest.raises(ValueError, match=r"two functions are .*make.<locals>.shift.* argument"):
            make(2)
        with pytest.raises(ValueError, match="can't be told apart"):
            make(object())

    def test_a_factory_may_be_called_again_with_the_same_things(self, cm: CheckpointManager) -> None:
        def make() -> Callable[[], str]:
            def helper() -> str:
                return "helped"

            @cm.stage
            def use() -> str:
                return helper() + missing  # type: ignore[has-type]

            if cm is None:
                missing = ""
            return use

        assert make() is not make()

    def test_two_functions_of_one_name_in_one_scope_are_refused(self, cm: CheckpointManager) -> None:
        @cm.stage
        def train() -> int:
            return 1

        with pytest.raises(ValueError, match="can't be told apart"):

            @cm.stage
            def train() -> int:  # type: ignore[no-redef]
                return 2

    def test_a_function_that_a_notebook_defines_again_replaces_the_one_before(self, cm: CheckpointManager) -> None:
        variables: dict[str, Any] = {"__name__": "__main__", "cm": cm}
        for number in (1, 2):
            exec(f"@cm.stage(revision={number})\ndef train(): return {number}", variables)
            assert variables["train"]() == number


class Scale:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, x: int) -> int:
        return self.by * x

    def method(self) -> None: ...

    @classmethod
    def build(cls) -> str:
        return cls.__name__


class Larger(Scale): ...


HERE = "tests.stages.test_identity"


@pytest.mark.parametrize(
    ("function", "origin"),
    [
        (first, f"{HERE}:first"),
        (functools.partial(functools.partial(first)), f"{HERE}:first"),
        (functools.lru_cache(first), f"{HERE}:first"),
        (logged(first), f"{HERE}:logged.<locals>.wrapper(function={HERE}:first)"),
        (repeated(first), f"{HERE}:repeated.<locals>.wrapper(function={HERE}:first)"),
        (Scale(1), f"{HERE}:Scale.__call__"),
        (Scale(1).method, f"{HERE}:Scale.method"),
        (Scale.build, f"{HERE}:Scale.build of {HERE}:Scale"),
        (Larger.build, f"{HERE}:Scale.build of {HERE}:Larger"),
        (Scale, f"{HERE}:Scale"),
        (len, "builtins:len"),
        ([].index, "builtins:list.index"),
        (os.path.join, "posixpath:join"),
        (CheckpointManager.stages, "checkpoint_manager:stages"),
    ],
)
def test_where_a_function_comes_from(function: Any, origin: str) -> None:
    assert origin_of(function, "/store") == origin


def test_a_very_long_origin_is_cut_and_stays_unique() -> None:
    def named(name: str) -> Any:
        def function() -> None: ...

        function.__code__ = function.__code__.replace(co_qualname=name)
        return function

    origins = [origin_of(named("f" * 2000 + last), "/store") for last in "ab"]
    assert origins[0] != origins[1]
    assert all(len(origin.encode()) < 1100 for origin in origins)


def test_state_of_a_callable_object_counts_even_if_it_says_what_it_wraps(cm: CheckpointManager) -> None:
    scale = Scale(2)
    functools.update_wrapper(scale, first)
    from checkpoint_manager import FingerprintError

    with pytest.raises(FingerprintError, match="argument self is or contains an object of type function"):
        cm.stage("scale")(scale)(1)


def test_a_result_from_before_functions_were_recorded_is_computed_again(cm: CheckpointManager) -> None:
    note = {"version": 1, "arguments": {}}
    save(cm._store, "first", Draft(b'"of another script"', {"@stage": note}))
    assert cm.stage(first)() == "first"
    assert cm.run_report().ran[0].why == "the newest version is the result of a function that was not recorded"


def test_the_function_is_recorded_with_the_result(cm: CheckpointManager) -> None:
    cm.stage(first)()
    assert cm.history("first")[0].metadata["@stage"]["function"] == f"{HERE}:first"


def test_a_notebook_is_named_by_its_file_where_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defined(**variables: str) -> str:
        namespace: dict[str, Any] = {"__name__": "__main__", **variables}
        exec("def clean(): ...", namespace)
        return origin_of(namespace["clean"], str(tmp_path / "store"))

    assert defined() == "__main__:clean"
    assert defined(__vsc_ipynb_file__=str(tmp_path / "a.ipynb")) == "../a.ipynb:clean"
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "b.ipynb"))
    assert defined() == "../b.ipynb:clean"
    monkeypatch.setenv("JPY_SESSION_NAME", "console-1-0c9a")
    assert defined() == "__main__:clean"


def test_a_script_whose_name_is_not_text_can_be_recorded(cm: CheckpointManager, tmp_path: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(tmp_path / "job\udcff.py")}
    exec("def clean(): return 1", namespace)
    assert cm.stage(namespace["clean"])() == 1
    assert cm.history("clean")[0].metadata["@stage"]["function"] == r"../job\udcff.py:clean"


def test_classes_of_two_scripts_with_one_name_are_told_apart(tmp_path: Path) -> None:
    """They may have other methods, and be passed to a function of one module."""
    (tmp_path / "shared" / "steps").mkdir(parents=True)
    (tmp_path / "shared" / "steps" / "__init__.py").write_text("def describe(shape): return shape.describe()\n")
    for name in ("a", "b"):
        code = f"""
import dataclasses, sys
from checkpoint_manager import CheckpointManager
sys.path.insert(0, {str(tmp_path / "shared")!r})
from steps import describe

@dataclasses.dataclass
class Shape:
    sides: int
    def describe(self): return {name!r}

print(CheckpointManager(sys.argv[1], key=bytes(32)).stage(describe)(Shape(3)))
"""
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.py").write_text(code)
    store = tmp_path / "store"
    assert [run(tmp_path / name / "job.py", store, cwd=tmp_path) for name in ("a", "b", "a")] == ["a", "b", "a"]


@pytest.mark.parametrize("kind", [classmethod, property])
def test_a_class_method_below_the_decorator_says_where_it_belongs(cm: CheckpointManager, kind: Any) -> None:
    def method(owner: object) -> int:
        return 1

    with pytest.raises(TypeError, match=f"{kind.__name__} already. Put @cm.stage directly above def"):
        cm.stage("train")(kind(method))
