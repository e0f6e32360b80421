"""The soak, for a few seconds: minutes of it are run by hand."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.hosting import ROOT


def test_a_few_seconds_of_the_soak() -> None:
    command = [sys.executable, "-m", "tests.concurrency.soak", "--minutes", "0.06", "--processes", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["acknowledged saves"] > 20
    assert figures["kills"] > 2
