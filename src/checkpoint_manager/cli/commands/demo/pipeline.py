"""The pipeline of the demonstration, as its author would write it: four stages over the Python files of a folder.

It runs as a process of its own: ``python -m checkpoint_manager.cli.commands.demo.pipeline FOLDER``, with the store
in the environment. Each stage asks first whether it is done. What it prints are lines for whoever watches:
``STAGE WORD DETAIL``.
"""

from __future__ import annotations

import ast
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from checkpoint_manager.manager import CheckpointManager

STAGES = ("find", "parse", "measure", "report")
LINGER = "--linger"
"""Makes the third stage wait in its middle, so that it can be killed there reliably."""

_SKIPPED_FOLDERS = frozenset({"site-packages", "test", "tests", "__pycache__"})
_MANY_BRANCHES = 10
_LINGER_SECONDS = 60.0


def run(folder: Path, *, linger: bool = False) -> None:
    """Run the stages that are not done yet, with the store that ``CHECKPOINT_MANAGER_STORE`` names."""
    cm = CheckpointManager()

    if not cm.has_checkpoint("find"):
        cm.save_checkpoint("find", find(folder))
        _tell("find", "ran", f"found {len(cm.load_checkpoint('find'))} files")
    else:
        _tell("find", "skipped", "it is done")

    if not cm.has_checkpoint("parse"):
        cm.save_checkpoint("parse", parse(folder, cm.load_checkpoint("find")))
        _tell("parse", "ran", f"parsed {len(cm.load_checkpoint('parse'))} files")
    else:
        _tell("parse", "skipped", "it is done")

    if not cm.has_checkpoint("measure"):
        measure(cm, cm.load_checkpoint("parse"), linger=linger)
        _tell("measure", "ran", f"measured {len(cm.load_checkpoint('measure'))} files")
    else:
        _tell("measure", "skipped", "it is done")

    if not cm.has_checkpoint("report"):
        cm.save_checkpoint("report", report(cm.load_checkpoint("measure")))
        _tell("report", "ran", "reported")
    else:
        _tell("report", "skipped", "it is done")


def find(folder: Path) -> list[str]:
    """Return the Python files of a folder, without its tests and what was installed into it."""
    files = (path.relative_to(folder) for path in folder.rglob("*.py"))
    kept = (path for path in files if not any(part in _SKIPPED_FOLDERS or part.startswith(".") for part in path.parts))
    return sorted(path.as_posix() for path in kept if (folder / path).is_file() and path.as_posix().isprintable())


def parse(folder: Path, files: list[str]) -> list[dict[str, Any]]:
    """Return of each file its functions with their branches, and what it imports; a file that does not parse says so."""
    return [_outline(file, (folder / file).read_bytes()) for file in files]


def _outline(file: str, source: bytes) -> dict[str, Any]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        return {"file": file, "lines": source.count(b"\n"), "problem": type(error).__name__, "functions": [], "imports": []}
    functions: list[dict[str, Any]] = []
    imports: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions.append({"name": node.name, "line": node.lineno, "branches": _branches(node)})
            case ast.Import():
                imports.update(alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom() if node.module and not node.level:
                imports.add(node.module.partition(".")[0])
    lines = source.count(b"\n")
    return {"file": file, "lines": lines, "problem": None, "functions": functions, "imports": sorted(imports)}


def _branches(function: ast.AST) -> list[str]:
    kinds = (
        ast.If,
        ast.IfExp,
        ast.For,
        ast.AsyncFor,
        ast.While,
        ast.ExceptHandler,
        ast.BoolOp,
        ast.comprehension,
        ast.match_case,
    )
    return [type(node).__name__ for node in ast.walk(function) if isinstance(node, kinds)]


def measure(cm: CheckpointManager, outlines: list[dict[str, Any]], *, linger: bool) -> list[dict[str, Any]]:
    """Save, and return, of each file its size, the complexity of its functions (McCabe: branches + 1), and who imports it."""
    imported = Counter(name for outline in outlines for name in outline["imports"])
    half = len(outlines) // 2
    with cm.loop("measure", outlines, initial=[], every_items=max(1, half), bar=False) as loop:
        if loop.done:
            _tell("measure", "resumed", f"at {loop.done} of {len(outlines)} files")
        for outline in loop:
            if loop.done == half and linger:
                _tell("measure", "saved", f"{half} of {len(outlines)} files")
                time.sleep(_LINGER_SECONDS)
            complexities = sorted((len(function["branches"]) + 1 for function in outline["functions"]), reverse=True)
            loop.state.append(
                {
                    "file": outline["file"],
                    "lines": outline["lines"],
                    "functions": len(complexities),
                    "most_complex": complexities[0] if complexities else 0,
                    "complex_functions": sum(value > _MANY_BRANCHES for value in complexities),
                    "imported_by": imported[_module(outline["file"])],
                }
            )
    return loop.result


def _module(file: str) -> str:
    """Return the top-level module that a file is, or the empty string: it is a part of one."""
    module, _, rest = file.partition("/")
    return module.removesuffix(".py") if rest in {"", "__init__.py"} else ""


def report(measured: list[dict[str, Any]], complex_above: int = _MANY_BRANCHES) -> dict[str, Any]:
    """Return what there is to say in the end."""
    by_complexity = sorted(measured, key=lambda row: (-int(row["most_complex"]), str(row["file"])))
    by_imports = sorted(measured, key=lambda row: (-int(row["imported_by"]), str(row["file"])))
    return {
        "files": len(measured),
        "lines": sum(row["lines"] for row in measured),
        "functions": sum(row["functions"] for row in measured),
        "complex_above": complex_above,
        "complex_files": sum(row["most_complex"] > complex_above for row in measured),
        "most_complex": [{"file": row["file"], "complexity": row["most_complex"]} for row in by_complexity[:3]],
        "most_imported": [{"file": row["file"], "imported_by": row["imported_by"]} for row in by_imports[:3]],
    }


def _tell(stage: str, word: str, detail: str) -> None:
    print(stage, word, detail, flush=True)  # what this process is asked to print


if __name__ == "__main__":
    run(Path(sys.argv[1]), linger=LINGER in sys.argv[2:])
