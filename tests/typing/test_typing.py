"""The public interface keeps its types: a decorated function its own signature, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_a_type_checker_sees_what_is_promised(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    api = Path(__file__).with_name("api.py")
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
    done = subprocess.run([sys.executable, "-m", "mypy", *options, str(api)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)
