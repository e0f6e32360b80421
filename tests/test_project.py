"""The project's own rules: the layout, the limits of length, and a reason for each dependency."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import checkpoint_manager

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def test_the_top_level_holds_what_was_agreed() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in done.stdout.splitlines()}
    agreed = {"pyproject.toml", "README.md", "SECURITY.md", "LICENSE", "src", "tests", "benchmarks", "uv.lock"}
    assert {name for name in top if not name.startswith(".")} <= agreed


def test_each_dependency_says_why_it_is_there() -> None:
    project = tomllib.loads(PYPROJECT)["project"]
    wanted = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    for name in wanted:
        assert re.search(rf'^ +"{re.escape(name)}", +# \S.{{8,}}$', PYPROJECT, re.MULTILINE), name


def test_importing_the_library_imports_no_more_than_it_says() -> None:
    program = "from checkpoint_manager import *; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"click", "rich", "pytest", "hypothesis", "numpy"} & set(done.stdout.split())


def test_a_name_is_loaded_when_it_is_asked_for() -> None:
    program = (
        "import sys, checkpoint_manager as library; before = 'cryptography' in sys.modules; library.CheckpointManager;"
        "print(before, 'cryptography' in sys.modules, 'CheckpointManager' in vars(library))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False True True\n"


def test_only_the_module_of_a_name_is_loaded_for_it() -> None:
    program = (
        "import sys, checkpoint_manager as library; library.CheckpointError;"
        "print(*sorted(name for name in sys.modules if name.startswith('checkpoint_manager.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"checkpoint_manager.{name}" for name in ("_loading", "_text", "_version", "errors")]


def test_what_type_checkers_see_is_what_is_loaded() -> None:
    """The names stand thrice: for type checkers, for ``import *``, and with the module that is loaded for each."""
    tree = ast.parse((ROOT / "src/checkpoint_manager/__init__.py").read_text())
    seen = {
        str(node.module).removeprefix("checkpoint_manager."): sorted(each.name for each in node.names)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
    }
    assert seen == checkpoint_manager._HOMES
    assert sorted([*checkpoint_manager._HOME_OF, "__version__"]) == checkpoint_manager.__all__
    for home, names in seen.items():
        for name in names:
            value = getattr(checkpoint_manager, name)
            assert name == "Key" or value.__module__.startswith(f"checkpoint_manager.{home}"), name


def test_what_a_save_and_a_load_need_is_loaded_when_the_manager_is_made(tmp_path: Path) -> None:
    """A module's file may be unreadable just then: in the middle of a save, that would end it with an error of the import."""
    program = """
        import contextlib, sys
        from checkpoint_manager import CheckpointError, CheckpointManager
        cm = CheckpointManager(sys.argv[1], key=bytes(32))
        before = set(sys.modules)
        assert not cm.has_checkpoint("train")
        for epoch in range(3):
            cm.save_checkpoint("train", {"epoch": epoch}, metadata={"run": "a"}, expected_version=epoch)
        cm.update_checkpoint("train", lambda data: data)
        cm.load_checkpoint("train")
        assert cm.has_checkpoint("train") and len(cm.history("train")) == 4
        print(*(name for name in set(sys.modules) - before if name.startswith("checkpoint_manager.")))
    """
    command = [sys.executable, "-c", inspect.cleandoc(program), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_few_programs_need_is_not_loaded_with_the_manager() -> None:
    program = (
        "import sys; from checkpoint_manager import CheckpointManager;"
        "print(*sorted(name.removeprefix('checkpoint_manager.') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    few = {"retention", "stages.runner", "stages.loop", "_format.bundle", "cli", "backends.local", "backends.sqlite"}
    few |= {
        f"_operations.{name}"
        for name in ("export_bundle", "import_bundle", "delete", "diff", "prune", "repair", "restore", "rotate_key", "verify")
    }
    assert all(importlib.util.find_spec(f"checkpoint_manager.{name}") for name in few)
    assert few & set(done.stdout.split()) == set()


def test_what_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Keyring'"):
        checkpoint_manager.Keyring  # type: ignore[attr-defined]  # noqa: B018
    assert set(checkpoint_manager.__all__) <= set(dir(checkpoint_manager))


@pytest.mark.parametrize("name", checkpoint_manager.__all__)
def test_everything_public_is_documented(name: str) -> None:
    value = getattr(checkpoint_manager, name)
    if name in {"Key", "__version__"}:  # an alias and a text, which have no docstring of their own
        return
    assert inspect.getdoc(value)
    for method, function in inspect.getmembers(value, inspect.isfunction):
        if not method.startswith("_"):
            assert inspect.getdoc(function), method


def test_the_public_interface_is_typed() -> None:
    for function in (member for _, member in inspect.getmembers(checkpoint_manager.CheckpointManager, inspect.isfunction)):
        if not function.__name__.startswith("_"):
            signature = inspect.signature(function)
            assert signature.return_annotation is not inspect.Signature.empty
            assert all(p.annotation is not inspect.Parameter.empty for p in list(signature.parameters.values())[1:])
