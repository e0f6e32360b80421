"""What the pages of pipelines, stages and versions show."""

from __future__ import annotations

import os
import shutil
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, IntegrityError
from checkpoint_manager._store import listing
from checkpoint_manager.dashboard import app, pace, stores, tree
from checkpoint_manager.dashboard.auth import Role
from checkpoint_manager.dashboard.filters import local
from checkpoint_manager.dashboard.stores import ShownStore, stores_by_id
from checkpoint_manager.dashboard.views import call
from tests.dashboard.conftest import KEY, SECRET, TEMPLATES, dashboard_of, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checkpoint_manager import Checkpoint, Version
    from tests.dashboard.conftest import Browser, Dashboard


class TestPipelines:
    def test_what_needs_attention_stands_first(self, cm: CheckpointManager, visitor: Browser) -> None:
        @cm.stage
        def evaluate() -> None:
            raise ValueError("no labels")

        with pytest.raises(ValueError, match="no labels"):
            evaluate()
        page = visitor.get("/").text
        assert page.index("Needs attention") < page.index("ValueError: no labels") < page.index(">clean<")

    def test_stages_stand_in_the_order_of_the_pipeline(self, cm: CheckpointManager, visitor: Browser) -> None:
        cm.save_checkpoint("a last one", 1)
        page = visitor.get("/").text
        assert page.index(">clean<") < page.index(">train<") < page.index(">a last one<")

    @pytest.mark.parametrize(
        ("query", "shown"),
        [
            ({"name": "TRA"}, {"train"}),
            ({"state": "cleared"}, {"report"}),
            ({"state": "attention"}, set()),
            ({"metadata": "run=a8"}, {"train"}),
            ({"metadata": "run"}, {"train"}),
            ({"metadata": "run=a7"}, set()),
            ({"metadata": "n=3"}, {"report"}),
            ({}, {"clean", "train", "report"}),
        ],
    )
    def test_filters(self, cm: CheckpointManager, visitor: Browser, query: dict[str, str], shown: set[str]) -> None:
        cm.save_checkpoint("report", 1)
        cm.clear_checkpoint("report", metadata={"n": 3})
        for page in ("/", visitor.at("")):
            text = visitor.client.get(page, params=query).text
            assert {name for name in ("clean", "train", "report") if f">{name}</span>" in text} == shown

    def test_a_running_stage_shows_since_when_and_how_far(self, cm: CheckpointManager, visitor: Browser) -> None:
        with cm.loop("embed", range(10), initial={}, bar=False) as loop:
            for _ in zip(loop, range(4), strict=False):
                pass
            page = visitor.get(visitor.at("/stage", stage="embed")).text
            assert ">running" in page
            assert "since" in page
            assert "is-running" in visitor.get("/").text
        assert "is-running" not in visitor.get("/").text

    def test_a_function_that_runs_shows_before_it_has_a_version(self, cm: CheckpointManager, visitor: Browser) -> None:
        begun, end = threading.Event(), threading.Event()

        @cm.stage
        def slow() -> int:
            begun.set()
            end.wait(20)
            return 1

        thread = threading.Thread(target=slow)
        thread.start()
        assert begun.wait(20)
        try:
            assert "running" in visitor.get(visitor.at("/stage", stage="slow")).text
            assert ">slow<" in visitor.get("/").text
        finally:
            end.set()
            thread.join()

    def test_a_store_that_can_not_be_opened_does_not_hide_the_others(self, cm: CheckpointManager, tmp_path: Path) -> None:
        CheckpointManager(tmp_path / "other", key=bytes(32)).save_checkpoint("x", 1)
        dashboard = dashboard_of(cm)
        broken = ShownStore(str(tmp_path / "other"), lambda: CheckpointManager(tmp_path / "other", key=KEY))
        site = dashboard.site
        object.__setattr__(site, "stores", stores_by_id([*site.stores.values(), broken]))
        browser = dashboard.browser(Role())
        page = browser.get("/").text
        assert page.index('role="alert"') < page.index(">train<")
        assert browser.get(f"/s/{broken.id}").status_code == 502

    def test_a_store_that_is_large_is_shown_in_parts(self, cm: CheckpointManager, visitor: Browser) -> None:
        for number in range(310):
            cm.save_checkpoint(f"many {number:03}", 1)
        assert "All 312 stages" in visitor.get("/").text
        first, second = visitor.get(visitor.at("")).text, visitor.get(visitor.at("", start=300)).text
        assert (">many 297<" in first, ">many 298<" in first, ">many 298<" in second) == (True, False, True)


class TestALargeStore:
    """While not all of it is read, pages look at the stages that they show, and say how many they know."""

    @pytest.fixture(autouse=True)
    def cold(self, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dashboard.store, "_begin_sweep", lambda _: None)
        monkeypatch.setattr(stores, "_SHARE", float("inf"))  # names are listed each time

    def test_a_page_looks_at_the_stages_that_it_shows_and_at_no_others(
        self, cm: CheckpointManager, dashboard: Dashboard, visitor: Browser
    ) -> None:
        for number in range(310):
            cm.save_checkpoint(f"many {number:03}", 1)
        page = visitor.get(visitor.at("", start=300)).text
        assert dashboard.store._cells.keys() == {*(f"many {number:03}" for number in range(299, 310)), "train", "clean"}
        assert "13 of 312 stages read so far" in visitor.get(visitor.at("", start=300)).text
        assert "301\u2013312 of 312" in page
        assert "in the order of their names" in page
        assert "not read yet" not in page

    def test_what_it_has_no_time_for_is_shown_by_name(
        self, dashboard: Dashboard, visitor: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dashboard.store._cells.clear()
        monkeypatch.setattr(stores, "WAIT_SECONDS", -1.0)
        page = visitor.get(visitor.at("")).text
        assert page.count("not read yet") == 2
        assert "0 of 2 stages read so far" in page

    def test_filters_and_what_needs_attention_say_what_they_rest_on(
        self, cm: CheckpointManager, visitor: Browser, dashboard: Dashboard
    ) -> None:
        cm.save_checkpoint("b", 1)
        with pytest.raises(ZeroDivisionError):
            cm.stage("a")(lambda: 1 / 0)()
        page = visitor.get(visitor.at("", state="failed")).text
        assert "None of the stages read so far matches the filters" in page
        assert "a filter by state or metadata finds only those that were read" in page
        assert ">b</span>" in visitor.get(visitor.at("", name="b")).text
        dashboard.store.look("a")
        assert ">a</span>" in visitor.get(visitor.at("", state="failed")).text
        assert 'Needs attention <span class="quiet">of the stages read so far</span>' in visitor.get("/").text

    def test_a_stage_that_is_not_there_any_more_is_left_out(
        self, cm: CheckpointManager, dashboard: Dashboard, visitor: Browser
    ) -> None:
        cm.delete_stage("train")
        assert "train" in cm.stages(checked=False)
        assert ">train<" not in visitor.get(visitor.at("")).text
        dashboard.store._look_at_all()
        assert (dashboard.store.is_complete, dashboard.store.names()) == (True, ["clean"])

    def test_a_stage_that_runs_and_has_no_version_is_listed_by_its_name(self, cm: CheckpointManager, visitor: Browser) -> None:
        with cm.loop("embed", range(10), initial={}, bar=False) as loop:
            next(iter(loop))
            page = visitor.get(visitor.at("")).text
        assert page.index(">clean<") < page.index(">embed<") < page.index(">train<")

    def test_what_was_made_of_a_stage_is_told_as_far_as_it_is_known(self, cm: CheckpointManager, visitor: Browser) -> None:
        rows = cm.stage("rows")(lambda: [1, 2])
        cm.stage("count")(lambda rows: {"rows": len(rows)})(rows())
        visitor.get(visitor.at(""))
        assert "as far as the stages are read" in visitor.get(visitor.at("/stage", stage="rows")).text


def test_the_background_waits_for_pages_but_not_for_those_that_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_LONGEST_SECONDS", 60.0)
    own, begun, done = pace.Pace(), threading.Event(), threading.Event()

    def look() -> None:
        begun.set()
        own.give_way()
        done.set()

    with own.making_a_page():
        with own.waiting():
            own.give_way()
        thread = threading.Thread(target=look)
        thread.start()
        assert begun.wait(60)
        assert not done.is_set()
    thread.join(60)
    assert done.is_set()


class TestStage:
    def test_its_versions_are_shown_in_parts(self, cm: CheckpointManager, visitor: Browser) -> None:
        for _ in range(70):
            cm.save_checkpoint("train", 1)
        page = visitor.get(visitor.at("/stage", stage="train")).text
        assert "below=13" in page
        older = visitor.get(visitor.at("/stage", stage="train", below=13)).text
        assert ("version=12&" in older.replace("&amp;", "&")) or 'version=12"' in older
        assert 'version=13"' not in older

    def test_tags_restores_deletions_and_failures_are_in_the_chart_and_the_table(
        self, cm: CheckpointManager, visitor: Browser
    ) -> None:
        cm.tag("train", 1, "good")
        cm.restore_checkpoint("train", 1, metadata={"reason": "it went up"})
        cm.save_checkpoint("train", 1)
        cm.delete_versions("train", [2])
        page = visitor.get(visitor.at("/stage", stage="train")).text
        chart, table = page[page.index('<svg class="timeline"') : page.index("</svg>", page.index("timeline"))], page
        assert "restored" in chart
        assert "1 deleted" in chart
        assert ">good<" in chart
        assert 'aria-label="Timeline: 3 versions' in chart
        assert "restored from 1" in table
        assert "reason=it went up" in table

    def test_columns_that_say_nothing_are_left_out(self, cm: CheckpointManager, visitor: Browser) -> None:
        @cm.stage
        def timed() -> int:
            return 1

        timed()
        pages = [visitor.get(visitor.at("/stage", stage=stage)).text for stage in ("clean", "train", "timed")]
        assert [">Took<" in page for page in pages] == [False, False, True]
        assert [("Compare </span>from" in page, "Compare the two" in page) for page in pages] == [
            (False, False),
            (True, True),
            (False, False),
        ]

    def test_what_was_made_of_it_is_shown_without_reading_it(
        self, cm: CheckpointManager, visitor: Browser, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows, count = cm.stage("rows")(lambda: [1, 2]), cm.stage("count")(lambda rows: {"rows": len(rows)})
        half = cm.stage("half")(lambda count: count["rows"] / 2)
        half(count(rows()))
        cm.clear_checkpoint("half")
        assert dashboard.store.made_of("rows") == ["count"]
        half(count(rows()))
        assert (dashboard.store.made_of("rows"), dashboard.store.made_of("half")) == (["count", "half"], [])
        for number in range(3):
            cm.save_checkpoint("other", number)
        visitor.get("/")
        monkeypatch.setattr(dashboard.store, "_begin_sweep", lambda _: None)
        read, walk = set(), listing.walk
        monkeypatch.setattr(listing, "walk", lambda store, stage, *rest: read.add(stage) or walk(store, stage, *rest))
        page = visitor.get(visitor.at("/stage", stage="rows")).text
        assert page.index("Used by") < page.index(">count<") < page.index(">half<")
        assert read <= {"rows"}

    def test_a_stage_that_failed_still_follows(self, cm: CheckpointManager, dashboard: Dashboard) -> None:
        lengths = [2]
        rows = cm.stage("rows")(lambda: [1, 2])

        def count(rows: list[int]) -> int:
            return lengths.pop()

        cm.stage("count", revision=1)(count)(rows())
        with pytest.raises(IndexError):
            cm.stage("count", revision=2)(count)(rows())
        assert cm.get_version("count").status == "failed"
        assert dashboard.store.made_of("rows") == ["count"]

    def test_damage_is_shown_with_what_to_do(self, tmp_path: Path) -> None:
        cm = CheckpointManager(tmp_path / "store", key=KEY)
        cm.save_checkpoint("train", 1)
        cm.save_checkpoint("train", 2)
        path = tmp_path / "store/history/train/000000000002.checkpoint"
        path.chmod(0o600)
        path.write_bytes(b"nothing of this opens" * 20)
        browser = dashboard_of(cm).browser(Role())
        page = browser.get(browser.at("/stage", stage="train"))
        assert page.status_code == 200
        assert "is-damaged" in page.text
        assert 'role="alert"' in page.text
        assert "is-damaged" in browser.get("/").text

    def test_versions_before_an_error_are_shown_with_it(
        self, cm: CheckpointManager, visitor: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        history = cm.iter_history

        def read(stage: str, below: int | None = None) -> Iterator[Version]:
            yield next(iter(history(stage, below=below)))
            raise IntegrityError("the record of deletions is damaged", hint="Run repair")

        def refuse(_: str) -> None:
            raise IntegrityError("the record of tags is damaged")

        monkeypatch.setattr(cm, "iter_history", read)
        monkeypatch.setattr(cm, "tags", refuse)
        page = visitor.get(visitor.at("/stage", stage="train")).text
        assert "the record of deletions is damaged" in page
        assert visitor.at("/version", stage="train", version=2).replace("&", "&amp;") in page

    def test_one_that_is_not_there_is_not_found(self, visitor: Browser) -> None:
        assert visitor.get(visitor.at("/stage", stage="nowhere")).status_code == 404


class TestVersion:
    def test_metadata_comes_first_and_data_behind_a_button(self, reader: Browser) -> None:
        page = reader.get(reader.at("/version", stage="train", version=1)).text
        assert page.index("Metadata") < page.index("Reveal the data")
        assert SECRET not in page
        revealed = reader.send("/", reader.at("/reveal"), stage="train", version=1).text
        assert SECRET in revealed
        assert SECRET not in reader.get(reader.at("/version", stage="train", version=2)).text
        assert SECRET not in reader.send("/", reader.at("/hide"), stage="train", version=1).text

    def test_nothing_reads_data_for_a_page_that_does_not_show_it(
        self, cm: CheckpointManager, owner: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("data was read")

        for method in ("get_checkpoint", "load_checkpoint", "get_json", "diff", "verify"):
            monkeypatch.setattr(cm, method, refuse)
        pages = ("/stage?stage=train", "/version?stage=train&version=1", "/diff?stage=train&old=1&new=2")
        for page in ("/", "", *pages):
            assert owner.get(page if page == "/" else owner.at(page)).status_code == 200

    def test_while_the_way_down_to_it_is_verified_the_page_loads_again(
        self, cm: CheckpointManager, reader: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        is_verified, get_json, read = threading.Event(), cm.get_json, list[int]()

        def slow(stage: str, version: int) -> Checkpoint:
            read.append(version)
            assert is_verified.wait(20)
            return get_json(stage, version)

        monkeypatch.setattr(cm, "get_json", slow)
        monkeypatch.setattr(stores, "WAIT_SECONDS", 0)
        pages = [reader.send("/", reader.at("/diff/reveal"), stage="train", old=1, new=2).text]
        pages += [reader.get(reader.at("/version", stage="train", version=version)).text for version in (2, 1, 1)]
        for page in pages:
            assert ('http-equiv="refresh"' in page, "This page is loaded again" in page, SECRET in page) == (True, True, False)
        assert read == [1]  # once, and down to the lowest that was asked for
        monkeypatch.setattr(stores, "_MOST_AT_ONCE", 1)
        assert "This page is loaded again" in reader.send("/", reader.at("/reveal"), stage="clean", version=1).text
        assert read == [1]
        is_verified.set()
        monkeypatch.setattr(stores, "WAIT_SECONDS", 60)
        page = reader.get(reader.at("/version", stage="train", version=1)).text
        assert ("http-equiv" in page, SECRET in page) == (False, True)
        assert "$.loss" in reader.get(reader.at("/diff", stage="train", old=1, new=2)).text
        monkeypatch.setattr(stores, "_FEW_VERSIONS", 0)
        monkeypatch.setattr(stores, "WAIT_SECONDS", 0)
        cm.save_checkpoint("train", 3)
        is_verified.clear()
        assert "This page is loaded again" in reader.get(reader.at("/version", stage="train", version=1)).text
        is_verified.set()

    def test_a_version_that_the_newest_one_does_not_lead_back_to_is_not_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cm = CheckpointManager(tmp_path / "store", key=KEY)
        cm.save_checkpoint("train", 1)
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
        cm.save_checkpoint("train", 2)
        cm.save_checkpoint("train", 3)
        with monkeypatch.context() as other_user:
            other_user.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
            CheckpointManager(tmp_path / "copy", key=KEY).save_checkpoint("train", SECRET)
        version = "history/train/000000000002.checkpoint"
        os.replace(tmp_path / "copy" / version, tmp_path / "store" / version)
        reader = dashboard_of(cm).browser(Role(read=True))
        for page, fields in (("/reveal", {"version": 2}), ("/diff/reveal", {"old": 2, "new": 3})):
            for wait in (0, 60):
                monkeypatch.setattr(stores, "WAIT_SECONDS", wait)
                answer = reader.send("/", reader.at(page), stage="train", **fields)
                assert SECRET not in answer.text
            assert (answer.status_code, "is of another history" in answer.text) == (502, True)

    def test_large_data_is_shown_in_parts(self, cm: CheckpointManager, reader: Browser) -> None:
        cm.save_checkpoint("large", {"rows": [{"id": number, "name": f"row {number}"} for number in range(5000)]})
        page = reader.send("/", reader.at("/reveal"), stage="large", version=1).text
        assert ("row 0<" in page, "row 4999<" in page, len(page) < 200_000) == (True, False, True)
        rest = reader.send("/", reader.at("/data"), stage="large", version=1, at="/rows", start=4990).text
        assert ("row 4989<" in rest, "row 4999<" in rest) == (False, True)
        found = reader.send("/", reader.at("/data"), stage="large", version=1, search="ROW 4321").text
        assert "1 value found" in found
        assert "/rows/4321/name" in found
        for at in ("rows", "/rows/5000", "/rows/x", "/nothing"):
            assert reader.send("/", reader.at("/data"), stage="large", version=1, at=at).status_code == 404

    def test_values_that_json_does_not_have_and_attachments_are_told(self, cm: CheckpointManager, reader: Browser) -> None:
        data = {
            "t": (1, {"a": b"x"}),
            "s": {1},
            "d": {1: "one", "~/": [2]},
            "deep": [[[["x"]]]],
            "c": 1 + 2j,
            "n": None,
            "b": True,
        }
        cm.save_checkpoint("odd", data, attachments={"raw": b"12345"})
        page = reader.send("/", reader.at("/reveal"), stage="odd", version=1).text
        for text in ("tuple of 2", "set of 1", "dict of 2", "raw", "5 B", "true", "null"):
            assert text in page

    def test_data_that_is_too_large_for_a_page_is_not_read(
        self, cm: CheckpointManager, dashboard: Dashboard, reader: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(call, "MOST_BYTES", 10)
        for page, command in (("/reveal", "show"), ("/diff/reveal", "diff"), ("/numbers/offer", "show")):
            answer = reader.send("/", reader.at(page), stage="train", version=1, old=1, new=2)
            assert (answer.status_code, f"checkpoint-manager {command}" in answer.text) == (413, True)
        assert dashboard.log[-1] == "may see metadata and read data"

    def test_of_a_long_list_only_what_is_shown_is_looked_at(self) -> None:
        class Long(list[int]):
            looked_at = 0

            def __iter__(self) -> Iterator[int]:
                raise AssertionError

            def __getitem__(self, index: Any) -> Any:
                self.looked_at += 1
                return super().__getitem__(index)

        data = Long(range(10_000))
        (node,) = tree.part(data, start=7000).nodes
        assert (node.text, node.more, node.children[0].text, data.looked_at) == ("10000", 7050, "7000", 50)

    def test_data_that_is_nested_deeply_has_an_end(self, cm: CheckpointManager, reader: Browser) -> None:
        data: object = "the bottom"
        for _ in range(200):
            data = [data]
        cm.save_checkpoint("deep", data)
        assert ">open</button>" in reader.send("/", reader.at("/reveal"), stage="deep", version=1).text
        found = reader.send("/", reader.at("/data"), stage="deep", version=1, search="bottom").text
        assert "1 value found" in found


def test_the_events_say_which_stage_changed_and_nothing_else(
    cm: CheckpointManager, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from checkpoint_manager.dashboard import events

    looked, real = threading.Event(), events._look

    def look(stores: Any, query: Any) -> Any:
        found = real(stores, query)
        looked.set()
        return found

    monkeypatch.setattr(events, "_look", look)
    dashboard.store.overview(60)

    async def watch() -> list[bytes]:
        changes = events._changes([dashboard.store], {}, lambda: True)
        found = [await anext(changes)]
        wanted = asyncio.ensure_future(anext(changes))
        assert await asyncio.to_thread(looked.wait, 60)
        cm.save_checkpoint("train", SECRET, metadata={"run": SECRET})
        found.append(await asyncio.wait_for(wanted, 60))
        await changes.aclose()
        return found

    found = asyncio.run(watch())
    assert found == [b"retry: 3000\n\n", b'data: {"store":"%s","stage":"train"}\n\n' % dashboard.store.id.encode()]


def test_a_stream_without_changes_gives_signs_of_life_until_its_session_ends(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a proxy would cut it off."""
    import asyncio

    from checkpoint_manager.dashboard import events

    monkeypatch.setattr(events, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(events, "_BEAT_SECONDS", 0)
    dashboard.store.overview(60)
    is_logged_in = iter([True, True, False])

    async def watch() -> list[bytes]:
        return [each async for each in events._changes([dashboard.store], {}, lambda: next(is_logged_in))]

    assert asyncio.run(watch()) == [b"retry: 3000\n\n", b":\n\n", b":\n\n"]


def test_an_unexpected_error_ends_neither_looks_nor_verifications(
    cm: CheckpointManager,
    dashboard: Dashboard,
    owner: Browser,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(SECRET)

    with monkeypatch.context() as patch:
        patch.setattr(cm, "stale_stages", broken)
        patch.setattr(cm, "verify", broken)
        assert "Something went wrong" in owner.get("/").text
        owner.send("/health", owner.at("/verify"))
        until(lambda: dashboard.store.verification is None)
        assert "Something went wrong" in owner.get(owner.at("/health")).text
    for what in ("A look at all stages", "A verification"):
        assert f"{what} ended with an error: OSError at {__file__}:" in caplog.text
    assert SECRET not in caplog.text
    assert "Something went wrong" not in owner.get("/").text
    owner.send("/health", owner.at("/verify"))
    until(lambda: dashboard.store.verification is None)
    assert "no problem found" in owner.get(owner.at("/health")).text


def test_activity_looks_at_the_stages_by_itself(dashboard: Dashboard) -> None:
    browser = dashboard.browser()
    browser.client.follow_redirects = False
    browser.post("/login", {"token": dashboard.site.logins.new_token(Role())})
    assert "version 2" in browser.get("/activity").text


def test_pages_are_compiled_before_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_FIRST_PAGE_SECONDS", 0)
    app.compile_templates(TEMPLATES)
    assert len(TEMPLATES.cache or ()) == len(TEMPLATES.list_templates())


def test_stores_that_are_called_the_same_are_told_apart() -> None:
    places = ["/data/a/checkpoints", "/data/b/checkpoints", "/srv/a/checkpoints/", "/data/other", "memory:", "/checkpoints"]
    named = stores_by_id(ShownStore(place, lambda: CheckpointManager("memory:")) for place in places)
    names = [store.name for store in named.values()]
    assert names == ["data/a/checkpoints", "b/checkpoints", "srv/a/checkpoints", "other", "memory:", "/checkpoints"]


def test_a_page_of_what_is_not_known_yet_is_loaded_again(
    dashboard: Dashboard, visitor: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = visitor.get("/").text
    assert 'http-equiv="refresh"' not in shown
    monkeypatch.setattr(dashboard.store, "_complete_at", None)
    monkeypatch.setattr(dashboard.store, "_begin_sweep", lambda _: None)
    for page in ("/", visitor.at("")):
        assert '<noscript><meta http-equiv="refresh" content="1; url=?"></noscript>' in visitor.get(page).text
        assert "2 of 2 stages read so far" in visitor.get(page).text


class TestEvents:
    def test_one_logs_in_first(self, dashboard: Dashboard) -> None:
        assert dashboard.browser().get("/events").status_code == 401

    def test_streams_are_limited_and_end_with_the_session(
        self, dashboard: Dashboard, visitor: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from checkpoint_manager.dashboard import events

        session = next(iter(dashboard.site.logins._sessions.values()))
        monkeypatch.setattr(events, "_PAUSE_SECONDS", 0.01)

        def look(_: float | None = None) -> None:
            dashboard.site.logins.log_out(session)
            raise CheckpointError("it is gone")

        monkeypatch.setattr(dashboard.store, "overview", look)
        answer = visitor.get("/events")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert events._Stream.open_now == 0
        monkeypatch.setattr(events, "_MOST_STREAMS", 0)
        assert dashboard.browser(Role()).get("/events").status_code == 503


def test_a_time_at_the_end_of_the_calendar_is_shown_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert local(datetime.max.replace(tzinfo=UTC)) == "9999-12-31 23:59:59 UTC"
        assert local(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01 09:00:00"
    finally:
        monkeypatch.undo()
        time.tzset()
