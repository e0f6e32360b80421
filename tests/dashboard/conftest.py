"""A dashboard over a store in memory, and browsers that have logged in."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from checkpoint_manager import CheckpointManager
from checkpoint_manager.dashboard import feed, stores
from checkpoint_manager.dashboard.activity import Activity
from checkpoint_manager.dashboard.app import make_app, make_templates
from checkpoint_manager.dashboard.auth import Logins, Role
from checkpoint_manager.dashboard.stores import Check, ShownStore, stores_by_id
from checkpoint_manager.dashboard.views import pipeline_restore, retention
from checkpoint_manager.dashboard.views.call import Site, url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from httpx import Response

ADDRESS = "http://127.0.0.1:8710"
OWN = {"sec-fetch-site": "same-origin", "origin": ADDRESS}
KEY = bytes(range(32))
SECRET = "the patient is Jane Doe"


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def cm() -> Iterator[CheckpointManager]:
    """Yield a store with a few stages."""
    with CheckpointManager("memory:", key=KEY) as cm:
        cm.save_checkpoint("clean", {"rows": [1, 2, 3]})
        cm.save_checkpoint("train", {"epoch": 1, "loss": 0.5, "note": SECRET}, metadata={"run": "a7"})
        cm.save_checkpoint("train", {"epoch": 2, "loss": 0.25, "note": SECRET}, metadata={"run": "a8"})
        yield cm


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages wait until all is known, however busy this host is."""
    monkeypatch.setattr(stores, "WAIT_SECONDS", 60.0)
    monkeypatch.setattr(retention, "WAIT_SECONDS", 60.0)
    monkeypatch.setattr(retention, "_MEASURED_SECONDS", 60.0)
    monkeypatch.setattr(pipeline_restore, "WAIT_SECONDS", 60.0)
    monkeypatch.setattr(feed, "SECONDS", 60.0)


@dataclass
class Browser:
    """A browser, perhaps logged in, that sends what browsers send."""

    client: TestClient
    store: str

    def at(self, page: str = "", **query: object) -> str:
        """Return the address of a page of the store."""
        return url(f"/s/{self.store}{page}", **query)

    def get(self, address: str, **headers: str) -> Response:
        """Open a page."""
        return self.client.get(address, headers={"sec-fetch-site": "none", "sec-fetch-mode": "navigate", **headers})

    def post(self, address: str, fields: dict[str, Any], **headers: str) -> Response:
        """Send a form."""
        return self.client.post(address, data=fields, headers={**OWN, **headers})

    def send(self, page: str, address: str, **fields: Any) -> Response:
        """Open a page, and send a form with the token that stands on it."""
        token = re.search(r'name="form" value="([^"]+)"', self.get(page).text)
        assert token is not None
        return self.post(address, {"form": token[1], **fields})


@dataclass
class Dashboard:
    """A dashboard without a socket."""

    site: Site
    app: Any
    store: ShownStore

    def browser(self, role: Role | None = None) -> Browser:
        """Return a browser; with a role, logged in."""
        browser = Browser(TestClient(self.app, ADDRESS, follow_redirects=True), self.store.id)
        if role is not None:
            assert browser.post("/login", {"token": self.site.logins.new_token(role)}).status_code == 200
        return browser

    @property
    def log(self) -> list[str]:
        """What was done, oldest first."""
        return [event.what for event in reversed(self.site.activity.newest())]


TEMPLATES = make_templates()


def dashboard_of(cm: CheckpointManager, *, is_encrypted: bool = False) -> Dashboard:
    """Return a dashboard of one store."""
    store = ShownStore("/data/pipeline", lambda: cm)
    site = Site(
        stores_by_id([store]),
        Logins(),
        Activity(),
        TEMPLATES,
        "checkpoints-8710",
        ADDRESS,
        is_encrypted,
        lambda location: [Check("place", "ok", f"looked at {location}", "")],
    )
    return Dashboard(site, make_app(site, {"127.0.0.1:8710", "localhost:8710"}.__contains__), store)


@pytest.fixture
def dashboard(cm: CheckpointManager) -> Dashboard:
    """Return a dashboard of that store."""
    return dashboard_of(cm)


@pytest.fixture
def visitor(dashboard: Dashboard) -> Browser:
    """Return a browser that may see metadata only."""
    return dashboard.browser(Role())


@pytest.fixture
def reader(dashboard: Dashboard) -> Browser:
    """Return a browser that may read data, and make no changes."""
    return dashboard.browser(Role(read=True))


@pytest.fixture
def owner(dashboard: Dashboard) -> Browser:
    """Return a browser that may do everything."""
    return dashboard.browser(Role(read=True, change=True))
