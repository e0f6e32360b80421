"""Taking a whole pipeline back on a page: planned for each stage, with a reason, all or nothing, and only as it was shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import StorageError
from checkpoint_manager.dashboard.auth import Role
from checkpoint_manager.dashboard.views import pipeline_restore
from tests.dashboard.test_changes import WHY, confirm

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager, Version
    from tests.dashboard.conftest import Browser, Dashboard


@pytest.fixture
def then(cm: CheckpointManager) -> str:
    """Return a moment, after which the stages went on."""
    moment = datetime.now(UTC).isoformat()
    cm.save_checkpoint("train", {"epoch": 3})
    cm.save_checkpoint("late", 1)
    return moment


def rows(page: str) -> dict[str, list[str]]:
    """Return what stands in the table of a plan, by stage."""
    found = {}
    for row in re.findall(r"<tr class=.*?</tr>", page, re.DOTALL):
        cells = [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)]
        found[cells[0]] = cells[1:4]
    return found


def fields_of(page: str) -> dict[str, str]:
    form = page[page.index('action="/s/') :]
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form))


class TestPlan:
    def test_a_time_or_a_tag_is_asked_for(self, cm: CheckpointManager, owner: Browser) -> None:
        cm.tag_pipeline("zero")
        cm.tag("train", 1, "good")
        assert "Restore the pipeline…" in owner.get(owner.at("")).text
        page = owner.get(owner.at("/pipeline/plan")).text
        assert ('name="at"' in page, 'name="tag"' in page, "<script>" in page) == (True, True, False)
        assert re.search(r'>zero</span></a> <span class="quiet">2 stages<', page)
        assert page.index(">zero<") < page.index(">good<")

    def test_each_stage_says_from_where_to_where(self, owner: Browser, then: str) -> None:
        page = owner.get(owner.at("/pipeline/plan", at=then)).text
        assert rows(page) == {
            "clean": ["kept", "1", "1"],
            "train": ["restored", "3", "2"],
            "late": ["cleared", "1", "none"],
        }
        assert "kept in the metadata of each new version" in page

    def test_an_age_means_one_moment_from_then_on(self, owner: Browser) -> None:
        answer = owner.get(owner.at("/pipeline/plan", at="30m"))
        assert answer.status_code == 200
        assert re.search(r"at=20\d\d-.*%2B00%3A00$", str(answer.url))
        assert str(owner.get(str(answer.url)).url) == str(answer.url)

    def test_a_tag_is_a_goal(self, cm: CheckpointManager, owner: Browser, then: str) -> None:
        cm.tag("train", 1, "good")
        page = owner.get(owner.at("/pipeline/plan", tag="good")).text
        assert rows(page)["train"] == ["restored", "3", "1"]
        assert rows(page)["clean"] == ["cleared", "1", "none"]

    @pytest.mark.parametrize(
        ("goal", "status"),
        [
            ({"at": "soon"}, 400),
            ({"at": "9" * 300}, 400),
            ({"at": "1h", "tag": "good"}, 400),
            ({"tag": "nowhere"}, 404),
            ({"tag": "<b>"}, 400),
        ],
    )
    def test_what_is_no_goal_is_refused(self, owner: Browser, goal: dict[str, str], status: int) -> None:
        answer = owner.get(owner.at("/pipeline/plan", **goal))
        assert (answer.status_code, "<b>" in answer.text) == (status, False)

    def test_a_stage_that_can_not_be_restored_is_told_and_nothing_can_be(
        self, cm: CheckpointManager, dashboard: Dashboard, owner: Browser, then: str
    ) -> None:
        versions = cm._store.backend._versions["train"]  # type: ignore[attr-defined]
        versions[2] = versions[2][:-1]
        page = owner.get(owner.at("/pipeline/plan", at=then)).text
        assert "can't be restored, because of 1 stage" in page
        assert rows(page)["train"][0] == "refused"
        assert "page Health" in page
        assert "<textarea" not in page
        digest = next(iter(dashboard.store.restore_plans._kept))
        answer = owner.send("/", owner.at("/pipeline/restore"), at=then, plan=digest, reason=WHY)
        assert (answer.status_code, cm.get_version("late").number) == (409, 1)

    def test_what_runs_is_told(self, cm: CheckpointManager, owner: Browser, then: str) -> None:
        with cm.loop("embed", range(3), initial={}, bar=False) as loop:
            next(iter(loop))
            assert re.search(r"Running now: <a [^>]+>embed</a>", owner.get(owner.at("/pipeline/plan", at=then)).text)

    def test_a_plan_that_takes_long_is_made_while_the_page_waits(
        self, owner: Browser, then: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline_restore, "WAIT_SECONDS", 0)
        page = owner.get(owner.at("/pipeline/plan", at=then)).text
        assert ("The plan is being made" in page, 'http-equiv="refresh"' in page) == (True, True)

    def test_many_stages_are_shown_in_parts(
        self, cm: CheckpointManager, owner: Browser, then: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pipeline_restore, "_MOST_ROWS", 2)
        page = owner.get(owner.at("/pipeline/plan", at=then)).text
        following = re.search(r'href="([^"]+)">Next', page)
        assert following is not None
        assert (len(rows(page)), len(rows(owner.get(following[1].replace("&amp;", "&")).text))) == (2, 1)

    def test_where_all_is_as_it_was_there_is_nothing_to_do(self, owner: Browser) -> None:
        page = owner.get(owner.at("/pipeline/plan", at=datetime.now(UTC).isoformat())).text
        assert ("There is nothing to restore" in page, "<textarea" in page) == (True, False)


class TestRestore:
    def test_it_does_what_was_shown_and_keeps_the_reason(
        self, cm: CheckpointManager, dashboard: Dashboard, owner: Browser, then: str
    ) -> None:
        page = confirm(owner, owner.at("/pipeline/plan", at=then))
        assert "2 stages changed" in page
        train, late = cm.get_version("train"), cm.get_version("late")
        assert (train.number, train.restored_from, train.metadata) == (4, 2, {"run": "a8", "reason": WHY})
        assert (late.number, late.status, late.metadata) == (2, "cleared", {"reason": WHY})
        assert cm.get_version("clean").number == 1
        assert re.fullmatch(r"restored the pipeline to 20.*: 2 stages changed", dashboard.log[-1])
        assert dashboard.site.activity.newest()[0].reason == WHY

    def test_a_damaged_newest_version_is_restored_over(self, cm: CheckpointManager, owner: Browser, then: str) -> None:
        versions = cm._store.backend._versions["train"]  # type: ignore[attr-defined]
        versions[3] = versions[3][:-1]
        assert "2 stages changed" in confirm(owner, owner.at("/pipeline/plan", at=then))
        assert cm.get_version("train").restored_from == 2

    @pytest.mark.parametrize("stage", ["train", "clean", "new"])
    def test_one_who_is_overtaken_changes_nothing_and_sees_what_happened(
        self, cm: CheckpointManager, dashboard: Dashboard, owner: Browser, then: str, stage: str
    ) -> None:
        fields = fields_of(owner.get(owner.at("/pipeline/plan", at=then)).text)
        cm.save_checkpoint(stage, 4, metadata={"reason": "a colleague's"})
        answer = owner.post(owner.at("/pipeline/restore"), {**fields, "reason": WHY})
        assert answer.status_code == 409
        assert "Nothing was changed." in answer.text
        assert "a colleague&#39;s" in answer.text
        assert (cm.get_version("train").restored_from, cm.get_version("late").status) == (None, "completed")
        assert dashboard.log[-1] == "a change, because somebody was quicker"

    @pytest.mark.parametrize("is_one_step", [False, True])
    def test_one_who_is_overtaken_at_the_last_moment_takes_all_back(
        self, cm: CheckpointManager, owner: Browser, then: str, monkeypatch: pytest.MonkeyPatch, is_one_step: bool
    ) -> None:
        if not is_one_step:
            monkeypatch.setattr("checkpoint_manager._operations.restore._MOST_TOGETHER", 1)
        fields = fields_of(owner.get(owner.at("/pipeline/plan", at=then)).text)

        def none(*_: object) -> None:
            cm.save_checkpoint("train", 4)

        monkeypatch.setattr(pipeline_restore, "_first_change", none)
        answer = owner.post(owner.at("/pipeline/restore"), {**fields, "reason": WHY})
        told = "Nothing was changed." if is_one_step else "What was changed before is taken back"
        assert (answer.status_code, told in answer.text) == (409, True)
        assert cm.load_checkpoint("train") == 4
        assert cm.load_checkpoint("late") == 1

    @pytest.mark.parametrize("is_full_for_ever", [False, True])
    def test_one_that_fails_says_what_was_taken_back(
        self,
        cm: CheckpointManager,
        dashboard: Dashboard,
        owner: Browser,
        then: str,
        monkeypatch: pytest.MonkeyPatch,
        is_full_for_ever: bool,
    ) -> None:
        monkeypatch.setattr("checkpoint_manager._operations.restore._MOST_TOGETHER", 1)
        fields, real = fields_of(owner.get(owner.at("/pipeline/plan", at=then)).text), cm.restore_checkpoint

        def full(stage: str, *more: Any, **named: Any) -> Version:
            if stage == "train" or is_full_for_ever:
                raise StorageError("the disk is full", hint="Free some space", stage=stage)
            return real(stage, *more, **named)

        monkeypatch.setattr(cm, "restore_checkpoint", full)
        answer = owner.post(owner.at("/pipeline/restore"), {**fields, "reason": WHY})
        assert (answer.status_code, "Free some space" in answer.text) == (500, True)
        told = "could not be taken back: late." if is_full_for_ever else "is taken back: those stages keep"
        assert told in answer.text
        assert dashboard.log[-1].startswith("began to restore the pipeline, and failed. ")
        assert cm.has_checkpoint("late") is not is_full_for_ever

    @pytest.mark.parametrize("more", [{"reason": " "}, {"plan": "0" * 64}, {"at": "1h"}, {"at": ""}, {"tag": "good"}])
    def test_a_reason_and_a_plan_that_was_shown_are_needed(
        self, cm: CheckpointManager, owner: Browser, then: str, more: dict[str, str]
    ) -> None:
        fields = fields_of(owner.get(owner.at("/pipeline/plan", at=then)).text)
        answer = owner.post(owner.at("/pipeline/restore"), {**fields, "reason": WHY, **more})
        assert answer.status_code in {400, 409}
        assert cm.get_version("train").number == 3

    @pytest.mark.parametrize("role", [Role(), Role(read=True)])
    def test_one_who_may_not_change_plans_and_changes_nothing(
        self, cm: CheckpointManager, dashboard: Dashboard, then: str, role: Role
    ) -> None:
        browser = dashboard.browser(role)
        assert browser.get(browser.at("/pipeline/plan", at=then)).status_code == 403
        assert browser.send("/", browser.at("/pipeline/restore"), at=then, reason=WHY).status_code == 403
        assert "Restore the pipeline" not in browser.get(browser.at("")).text
        assert dashboard.log[-1] == "to make a change"
        assert cm.get_version("train").number == 3

    def test_no_other_site_and_no_link_restores(self, dashboard: Dashboard, owner: Browser, then: str) -> None:
        path, fields = owner.at("/pipeline/restore"), fields_of(owner.get(owner.at("/pipeline/plan", at=then)).text)
        fields["reason"] = WHY
        assert owner.post(path, {**fields, "form": "guess"}).status_code == 403
        assert owner.post(path, fields, **{"sec-fetch-site": "cross-site"}).status_code == 403
        assert owner.post(path, fields, origin="https://evil.example").status_code == 403
        assert owner.post(path, fields, host="evil.example").status_code == 421
        assert owner.get(owner.at("/pipeline/restore", **fields)).status_code == 405
        assert dashboard.browser().post(path, fields).status_code == 401

    def test_hostile_names_are_text(self, cm: CheckpointManager, owner: Browser, then: str) -> None:
        evil = '"><script>alert(1)</script>\u202e'
        cm.save_checkpoint(evil, 1, metadata={"reason": evil})
        address = owner.at("/pipeline/plan", at=then)
        fields = fields_of(owner.get(address).text)
        cm.save_checkpoint(evil, 2)
        pages = [owner.get(address), owner.post(owner.at("/pipeline/restore"), {**fields, "reason": WHY})]
        assert [page.status_code for page in pages] == [200, 409]
        for page in pages:
            assert "<script>alert" not in page.text
            assert "&lt;script&gt;alert(1)" in page.text
