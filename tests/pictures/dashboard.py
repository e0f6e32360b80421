"""The picture of the dashboard in the README: its first page over two real stores, as a browser draws it.

``python -m tests.pictures.dashboard`` draws it again; that needs playwright and chromium. Beside the picture stands what it
says, line by line, which a test compares with what the page says today. Clock, host and user are the picture's own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
import sys
import tempfile
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from checkpoint_manager import CheckpointManager
from checkpoint_manager._format.checkpoint_file import Writer
from checkpoint_manager._operations import save as writing
from tests.pictures.terminal import _NOW as NOW
from tests.pictures.terminal import Clock

PICTURE = Path(__file__).with_suffix(".png")
TEXT = Path(__file__).with_suffix(".txt")
_SIZE = {"width": 1160, "height": 500}


def _save(cm: CheckpointManager, ago: timedelta, stage: str, data: Any = None) -> None:
    Clock.moment = NOW - ago
    cm.save_checkpoint(stage, data)


def _make_stores() -> None:
    churn = CheckpointManager("pipelines/churn-model")
    for place, stage in enumerate(("ingest", "clean", "join", "featurize", "split")):
        _save(churn, timedelta(hours=3, minutes=-7 * place), stage)
    for epoch in range(12):
        _save(churn, timedelta(hours=2, minutes=-5 * epoch), "train", {"epoch": epoch})

    @churn.stage
    def evaluate() -> None:
        raise ValueError("the validation set has no positive labels")

    @churn.stage
    def publish() -> None: ...

    Clock.moment = NOW - timedelta(minutes=58)
    with contextlib.suppress(ValueError):
        evaluate()
    Clock.moment = NOW - timedelta(minutes=31)
    with churn.loop("embed", range(5000), initial=0, every_items=3120, every_seconds=3600, bar=False) as loop:
        for number in loop:
            if number == 3119:
                break
    _save(churn, timedelta(days=2), "report")
    Clock.moment = NOW - timedelta(hours=3, minutes=1)
    churn.clear_checkpoint("report")
    nightly = CheckpointManager("pipelines/nightly-etl")
    for number in range(64):
        _save(nightly, timedelta(hours=9, minutes=-number), f"table_{number:02}")


def _page() -> str:
    """Return the page, in a process of its own."""
    from starlette.testclient import TestClient

    from checkpoint_manager.dashboard import filters, start, stores
    from checkpoint_manager.dashboard.auth import Role
    from checkpoint_manager.dashboard.server import Place
    from checkpoint_manager.dashboard.stores import ShownStore

    writing.datetime = filters.datetime = Clock  # type: ignore[attr-defined]
    writing.origin = lambda pid: Writer("ada", "lab", pid, "3.11.7", "1.0.0")
    _make_stores()
    Clock.moment = NOW
    stores.WAIT_SECONDS = 60.0
    places = ["pipelines/churn-model", "pipelines/nightly-etl"]
    shown = [ShownStore(place, functools.partial(CheckpointManager, place)) for place in places]
    place = Place(None, "http://127.0.0.1:8710", lambda _: True)  # type: ignore[arg-type]
    made = start.site(shown, place, lambda _: [])
    client = TestClient(start.application(made, place), place.address)
    return client.post("/login", data={"token": made.logins.new_token(Role())}, headers={"origin": place.address}).text


def page(folder: Path) -> str:
    """Return the page of two stores that are made in a folder."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    root = str(Path(__file__).parents[2])
    program = f"import sys; sys.path.insert(0, {root!r}); from tests.pictures import dashboard; print(dashboard._page())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=kept | {"HOME": str(folder), "TZ": "UTC"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


class _Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within.append(f"{tag}.{dict(attrs).get('class') or ''}".rstrip("."))

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop().partition(".")[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and self._within:
            self.lines.append(f"{self._within[-1]}: {' '.join(data.split())}")


def outline(text: str) -> str:
    """Return what a page says, each text on a line with what it stands in."""
    reader = _Outline()
    reader.feed(re.sub(r'value="[\w-]{43}"', "", text))
    return "\n".join(reader.lines) + "\n"


def _draw(text: str) -> None:
    from playwright.sync_api import sync_playwright

    static = Path(writing.__file__).parents[1] / "dashboard/static"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        # Without scripts: no dashboard answers here, and the page would say that it is no longer up to date.
        opened = browser.new_page(viewport=_SIZE, java_script_enabled=False)  # type: ignore[arg-type]
        opened.route("**/static/*", lambda route: route.fulfill(path=static / route.request.url.rpartition("/")[2]))
        opened.route("http://picture.example/", lambda route: route.fulfill(body=text, content_type="text/html"))
        opened.goto("http://picture.example/")
        opened.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = page(Path(folder))
    TEXT.write_text(outline(made))
    _draw(made)
