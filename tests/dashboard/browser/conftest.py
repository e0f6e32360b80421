"""A real browser, and the dashboard as its command starts it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from checkpoint_manager import CheckpointManager, KeyFile
from checkpoint_manager._store.key_sources import create_key_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --host-resolver-rules=MAP rebound.example 127.0.0.1"
)
SECRET = "the patient is Jane Doe"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield a browser, in which ``rebound.example`` leads to this host."""
    if not os.path.exists(CHROMIUM):
        if os.environ.get("TESTS_REQUIRE_PROGRAMS"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)  # a busy host is slow
    *first, rules = ARGUMENTS.split(" --host-resolver-rules=")
    arguments = [*first[0].split(), f"--host-resolver-rules={rules}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Running(NamedTuple):
    """A dashboard that runs, and the links that it printed: the first allows most."""

    process: subprocess.Popen[str]
    links: list[str]
    log: Path

    @property
    def address(self) -> str:
        return self.links[0].partition("/login")[0]


@pytest.fixture
def key(tmp_path: Path) -> KeyFile:
    create_key_file(tmp_path / "key")
    return KeyFile(str(tmp_path / "key"))


@pytest.fixture
def cm(tmp_path: Path, key: KeyFile) -> CheckpointManager:
    """Return a store with a few stages."""
    cm = CheckpointManager(tmp_path / "pipes/churn", key=key)
    cm.save_checkpoint("clean", {"rows": [{"id": number} for number in range(100)]})
    for epoch in range(1, 6):
        data = {"epoch": epoch, "loss": 1 / epoch, "note": SECRET}
        cm.save_checkpoint("train", data, metadata={"run": "a7"}, attachments={"weights": b"12345"})
    cm.tag("train", 3, "good")
    cm.save_checkpoint(HOSTILE, {HOSTILE: HOSTILE}, metadata={HOSTILE: HOSTILE})
    return cm


@pytest.fixture
def start(tmp_path: Path, cm: CheckpointManager, key: KeyFile) -> Iterator[Callable[..., Running]]:
    """Return what starts the command with more options, on any port."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, program: tuple[str, ...] = ("-m", "checkpoint_manager")) -> Running:
            log = tmp_path / "log"
            command = [sys.executable, *program, "dashboard", "--json", "--no-browser", "--port", "0"]
            command += ["--scan", str(tmp_path / "pipes"), "--key", f"file:{key.path}", *options]
            with log.open("w") as errors:
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            line = process.stdout.readline()
            assert line, log.read_text()
            return Running(process, [link["url"] for link in json.loads(line)["links"]], log)

        yield start


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Return what opens a page in a context of its own."""
    with contextlib.ExitStack() as stack:

        def new_page(**options: Any) -> Page:
            context: BrowserContext = chromium.new_context(**options)
            stack.callback(context.close)
            context.set_default_timeout(20_000)
            return context.new_page()

        yield new_page
