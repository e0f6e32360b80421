"""The activity: what was done in the dashboard and what the stores hold, as one feed."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from checkpoint_manager import CheckpointError, CheckpointManager
from checkpoint_manager.dashboard import feed
from checkpoint_manager.dashboard.auth import Role
from checkpoint_manager.dashboard.stores import ShownStore, stores_by_id
from checkpoint_manager.dashboard.views import upkeep
from tests.dashboard.conftest import KEY, dashboard_of

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from checkpoint_manager import Version
    from tests.dashboard.conftest import Browser, Dashboard


def test_activity_goes_back_to_the_first_version_of_all_stores(
    cm: CheckpointManager, dashboard: Dashboard, owner: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CheckpointManager("memory:", key=KEY)
    shown = ShownStore("/data/other", lambda: other)
    object.__setattr__(dashboard.site, "stores", stores_by_id([dashboard.store, shown]))
    for number in range(1, 40):
        (cm if number % 3 else other).save_checkpoint(f"stage {number % 4}", number, metadata={"reason": f"because {number}"})
    cm.tag("stage 1", 1, "good", reason="it is the first")
    other.delete_versions("stage 1", [1], reason="room")
    monkeypatch.setattr(upkeep, "_MOST_ROWS", 7)
    address, seen = "/activity", list[str]()
    while address:
        page = owner.get(address).text
        assert page.count("<tr class=") <= 7
        seen += re.findall(r'<tr class="kind-(?:saved|change)">.*?</tr>', page, re.DOTALL)
        found = re.search(r'rel="next" href="([^"]+)"', page)
        address = html.unescape(found[1]) if found else ""
    reasons = [
        found[1] for row in seen if (found := re.search(r'<td class="wide">(because \d+|room|it is[^<]*)</td></tr>', row))
    ]
    assert reasons == ["room", "it is the first", *(f"because {number}" for number in range(39, 0, -1) if number != 9)]
    assert len(seen) == 2 + 38 + 3
    assert f"/s/{shown.id}/version?stage=stage+3" in "".join(seen)
    assert "deleted version 1<" in seen[0]
    assert "tagged as good" in seen[1]


def test_activity_says_where_the_search_ends(cm: CheckpointManager, owner: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.get("/")
    before = cm.get_version("train", 2).created_at
    assert before is not None
    monkeypatch.setattr(feed, "SECONDS", -1.0)
    assert "version 2: done" in owner.get("/activity").text
    asked = {"kind": "saved", "before": (before - timedelta(microseconds=1)).isoformat()}
    assert "There is too much to search" in owner.client.get("/activity", params=asked).text
    for wrong in ("yesterday", "2026-13-01"):
        assert owner.get(f"/activity?before={wrong}").status_code == 400


def test_a_damaged_version_ends_no_feed(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(3):
        cm.save_checkpoint("train", number)
    browser = dashboard_of(cm).browser(Role())
    (tmp_path / "store/history/train/000000000002.checkpoint").unlink()
    page = browser.get("/activity").text
    assert ("version 3: done" in page, "version 1: done" in page) == (True, True)


def test_one_that_was_done_here_is_told_once(cm: CheckpointManager, dashboard: Dashboard, owner: Browser) -> None:
    owner.send("/link", owner.at("/tag"), stage="train", version=1, name="good", expected=0, reason="it is good")
    cm.tag("train", 2, "better", reason="it is better")
    page = owner.get("/activity?kind=change").text
    assert (page.count("it is good"), page.count("it is better")) == (1, 1)
    assert [each.text for each in cm.reasons("train")] == ["it is better", "it is good"]
    for number in range(4):
        cm.save_checkpoint("clean", number)
    cm.delete_versions("clean", [2, 4], reason="every second one")
    cm.delete_versions("clean", [1, 3], reason="the others")
    assert "deleted 2 of the versions 2 to 4" in owner.get("/activity").text
    cm.save_checkpoint("clean", 6)
    cm.save_checkpoint("clean", 7)
    cm.delete_versions("clean", [5, 6], reason="old")
    assert "deleted versions 5 to 6" in owner.get(owner.at("/stage", stage="clean")).text
    page = owner.get(owner.at("/stage", stage="train")).text
    assert page.index("Reasons for tags and deletions") < page.index("tagged as better") < page.index("it is good")


def test_one_stage_in_trouble_hides_nothing_else(
    cm: CheckpointManager, dashboard: Dashboard, visitor: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(stage: str, **_: object) -> list[Version]:
        raise CheckpointError(f"{stage} can't be read")

    visitor.get("/")
    monkeypatch.setattr(cm, "iter_history", broken)
    monkeypatch.setattr(cm, "reasons", broken)
    assert "version 2: done" in visitor.get("/activity").text
    assert visitor.get(visitor.at("/stage", stage="train")).status_code == 200
    dashboard.store._look_at_all()
    assert dashboard.store.reasons == {}
