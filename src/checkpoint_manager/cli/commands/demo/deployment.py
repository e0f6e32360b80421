"""A release in four steps, each a program of its own. The third fails, and what was done is taken back in order.

``checkpoint-manager run STEP -- PROGRAM`` runs a program as a stage, unless it is done. So the release can be started again
wherever it ended, and only what is left is done. A step that was killed runs a second time, even if only the save of its
version was left: so each step can be repeated. A step is taken back by its counterpart, and its stage is cleared: the one that
failed, as it may have done a part of its work, and all before it. So counterparts can be repeated, too. The history keeps all
of it: what ran, what failed and why, and what was taken back.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from checkpoint_manager import CheckpointManager

cm = CheckpointManager()  # the store that CHECKPOINT_MANAGER_STORE names
PACKAGE = str(Path(json.__file__).parent)  # what is released: the package json of Python itself
CHECK = "import sys; sys.path.insert(0, 'release.zip'); import json; assert json.loads('[1]') == [1] and 'zip' in json.__file__"
CUSTOMERS = """
import os, signal, sqlite3
customers = sqlite3.connect("customers.db", isolation_level=None)
columns = [column[1] for column in customers.execute("PRAGMA table_info(customer)")]
"""
MIGRATE = f"""{CUSTOMERS}
if "mail" not in columns:
    customers.execute("ALTER TABLE customer ADD COLUMN mail TEXT")
if "since" not in columns:
    customers.execute("ALTER TABLE customer ADD COLUMN since TEXT NOT NULL")
"""
MENDED = MIGRATE.replace("NOT NULL", "NOT NULL DEFAULT '?'")
TAKE_BACK = f"""{CUSTOMERS}
for column in {{"mail", "since"}}.intersection(columns):
    customers.execute(f"ALTER TABLE customer DROP COLUMN {{column}}")
"""
KILLED = MIGRATE.replace('if "since"', 'os.kill(os.getppid(), signal.SIGKILL); raise SystemExit\nif "since"')

STEPS = {
    "build": [sys.executable, "-m", "zipfile", "-c", "release.zip", PACKAGE],
    "check": [sys.executable, "-I", "-S", "-c", CHECK],  # -S: no package that is installed here loads json first
    "migrate": [sys.executable, "-I", "-c", MIGRATE],
    "switch": ["ln", "-sf", "release.zip", "live.zip"],
}
BACK = {
    "build": ["rm", "-f", "release.zip"],
    "check": ["true"],
    "migrate": [sys.executable, "-I", "-c", TAKE_BACK],
    "switch": ["rm", "-f", "live.zip"],
}


def release() -> str | None:
    """Run the steps that are not done; return the one that failed, or None."""
    for step, words in STEPS.items():
        was_done = cm.has_checkpoint(step)
        run = [sys.executable, "-m", "checkpoint_manager", "run", step, "--", *words]
        done = subprocess.run(run, check=False, stderr=subprocess.PIPE)  # noqa: S603  # the steps above
        if done.returncode == -signal.SIGKILL:
            print(f"  {step:<9}  the host is switched off in the middle", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        print(f"  {step:<9}  {'failed' if done.returncode else 'was done already' if was_done else 'done'}", flush=True)
        if done.returncode:
            return step
    return None


def roll_back(failed: str) -> None:
    """Take back the step that failed and all before it, the last step first."""
    begun = list(STEPS)[: list(STEPS).index(failed) + 1]
    for step in reversed(begun):
        subprocess.run(BACK[step], check=True)  # noqa: S603  # the steps above
        cm.clear_checkpoint(step)
        print(f"  {step:<9}  taken back", flush=True)


def main() -> None:
    """Release; if a step fails, roll back, mend what was wrong, and release again."""
    with closing(sqlite3.connect("customers.db")) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS customer AS SELECT 'Ada' AS name")
    if "--crash" in sys.argv:
        STEPS["migrate"][-1] = KILLED
    failed = release()
    if failed is not None:
        print(f"  why        {cm.load_checkpoint(failed, 'failed')['stderr'].strip().splitlines()[-1]}")
        print("the release is rolled back", flush=True)
        roll_back(failed)
        print("the migration is mended, and the release runs again", flush=True)
        STEPS["migrate"][-1] = MENDED
        failed = release()
    print(f"live: {os.path.exists('live.zip') and failed is None}; what the store knows of the migration:")
    for version in reversed(cm.history("migrate")):
        print(f"  migrate@{version.number}  {version.status}")


if __name__ == "__main__":
    main()
