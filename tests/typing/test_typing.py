"""The public interface keeps its types: a decorated function its own signature, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_a_type_checker_sees_what_is_promised_and_editors_the_signatures(tmp_path: Path) -> None:
    """One run of mypy for both: it takes its seconds."""
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    api = Path(__file__).with_name("api.py").read_text()
    program.write_text(f"{api}\nreveal_type(clean)\nreveal_type(fit)\nreveal_type(fetch)\n")
    options = [
        "--strict",
        "--no-error-summary",
        "--config-file",
        "",
        "--cache-dir",
        str(tmp_path),
        "--follow-imports",
        "silent",
    ]
    done = subprocess.run([sys.executable, "-m", "mypy", *options, str(program)], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert [line for line in lines if "Revealed type is " not in line] == []
    revealed = [line.split("Revealed type is ")[1].strip('"').replace("builtins.", "") for line in lines]
    assert revealed == [
        "def (path: str, limit: int =) -> list[str]",
        "def (rows: list[str], *, verbose: bool =) -> dict[str, float]",
        "def (url: str) -> typing.Coroutine[Any, Any, set[str]]",
    ]
