"""Changes: each shows what it will do, asks why, uses the version that was expected, and is logged."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from checkpoint_manager import IntegrityError
from checkpoint_manager._operations.save import Draft, append
from checkpoint_manager.dashboard import plans
from checkpoint_manager.dashboard.auth import Role
from checkpoint_manager.dashboard.views import retention
from tests.dashboard.conftest import SECRET, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager import CheckpointManager, Retention, Version
    from tests.dashboard.conftest import Browser, Dashboard

WHY = "the labels were wrong"
CHANGES = ("/restore", "/clear", "/tag", "/untag", "/prune", "/verify", "/examine")
PLANS = ("/restore/plan", "/clear/plan", "/tag/plan", "/untag/plan")


def confirm(browser: Browser, plan: str, **more: str) -> str:
    """Open a plan, and send the form of it with a reason; return the page that follows."""
    page = browser.get(plan)
    assert page.status_code == 200, page.text
    form = re.search(r'<form method="post" action="(/s/[^"]+)">(.*?)</form>', page.text, re.DOTALL)
    assert form is not None
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form[2]))
    return browser.post(form[1], {**fields, "reason": WHY, **more}).text


@pytest.fixture(autouse=True)
def tagged(cm: CheckpointManager) -> None:
    cm.tag("train", 1, "good")


@pytest.mark.parametrize(
    ("plan", "where"),
    [
        ("/restore/plan?version=1", "in the metadata of the new version"),
        ("/clear/plan?", "in the metadata of the new version"),
        ("/tag/plan?version=2&name=best", "in the store, with the tags"),
        ("/untag/plan?name=good", "in the store, with the tags"),
        ("/retention?keep_last=1", "in the store, with the tags"),
    ],
)
def test_a_plan_says_where_its_reason_is_kept(cm: CheckpointManager, owner: Browser, plan: str, where: str) -> None:
    cm.save_checkpoint("train", 3)
    assert f"The reason is kept {where}" in owner.get(owner.at(f"{plan}&stage=train")).text


class TestRestore:
    def test_it_shows_what_it_does_and_keeps_the_reason(
        self, cm: CheckpointManager, dashboard: Dashboard, owner: Browser
    ) -> None:
        plan = owner.at("/restore/plan", stage="train", version=1)
        assert "appended as version 3" in owner.get(plan).text
        assert "Restored: version 3 is a copy of version 1." in confirm(owner, plan)
        restored = cm.get_version("train")
        assert (restored.number, restored.restored_from, restored.metadata) == (3, 1, {"run": "a7", "reason": WHY})
        assert dashboard.log[-1] == "restored version 1"
        assert dashboard.site.activity.newest()[0].reason == WHY

    def test_one_who_is_overtaken_changes_nothing_and_sees_what_happened(
        self, cm: CheckpointManager, dashboard: Dashboard, owner: Browser
    ) -> None:
        plan = owner.at("/restore/plan", stage="train", version=1)
        page = owner.get(plan).text
        cm.save_checkpoint("train", 3, metadata={"reason": "a colleague's"})
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page))
        answer = owner.post(owner.at("/restore"), {**fields, "reason": WHY})
        assert answer.status_code == 409
        assert "Somebody was quicker" in answer.text
        assert "a colleague&#39;s" in answer.text
        assert cm.get_version("train").number == 3
        assert dashboard.log[-1] == "a change, because somebody was quicker"

    @pytest.mark.parametrize("reason", ["", "   \n\t"])
    def test_a_reason_is_needed(self, cm: CheckpointManager, owner: Browser, reason: str) -> None:
        assert "A reason is needed" in confirm(owner, owner.at("/restore/plan", stage="train", version=1), reason=reason)
        assert cm.get_version("train").number == 2

    def test_an_expected_version_is_needed(self, cm: CheckpointManager, owner: Browser) -> None:
        answer = owner.send("/", owner.at("/restore"), stage="train", version=1, reason=WHY)
        assert answer.status_code == 400
        assert cm.get_version("train").number == 2


class TestClear:
    def test_it_keeps_the_reason(self, cm: CheckpointManager, owner: Browser) -> None:
        assert "Cleared: version 3 marks the stage as not done." in confirm(owner, owner.at("/clear/plan", stage="train"))
        assert (cm.get_version("train").status, cm.get_version("train").metadata) == ("cleared", {"reason": WHY})
        assert "cleared already" in confirm(owner, owner.at("/clear/plan", stage="train"))

    def test_one_who_is_overtaken_clears_nothing(self, cm: CheckpointManager, owner: Browser) -> None:
        page = confirm(owner, owner.at("/clear/plan", stage="train"), expected="1")
        assert "Somebody was quicker" in page
        assert cm.has_checkpoint("train")

    def test_a_name_of_two_lines_is_sent_as_browsers_do(self, cm: CheckpointManager, owner: Browser) -> None:
        cm.save_checkpoint("two\nlines", 1)
        confirm(owner, owner.at("/clear/plan", stage="two\nlines"), stage="two\r\nlines")
        assert cm.get_version("two\nlines").status == "cleared"


class TestTags:
    def test_a_tag_is_asked_for_planned_and_given(self, cm: CheckpointManager, owner: Browser) -> None:
        assert 'name="name"' in owner.get(owner.at("/tag/plan", stage="train", version=2)).text
        confirm(owner, owner.at("/tag/plan", stage="train", version=2, name="best"))
        assert cm.tags("train") == {"best": 2, "good": 1}

    def test_a_tag_that_moves_says_so(self, cm: CheckpointManager, owner: Browser) -> None:
        plan = owner.at("/tag/plan", stage="train", version=2, name="good")
        assert "is moved from version 1" in owner.get(plan).text
        confirm(owner, plan)
        assert cm.tags("train") == {"good": 2}

    def test_a_tag_that_somebody_else_moved_stays(self, cm: CheckpointManager, owner: Browser) -> None:
        page = confirm(owner, owner.at("/tag/plan", stage="train", version=2, name="good"), expected="0")
        assert "now names version 1. Nothing was changed." in page
        page = confirm(owner, owner.at("/untag/plan", stage="train", name="good"), expected="2")
        assert "Somebody was quicker" in page
        assert cm.tags("train") == {"good": 1}

    def test_a_tag_is_removed(self, cm: CheckpointManager, owner: Browser) -> None:
        confirm(owner, owner.at("/untag/plan", stage="train", name="good"))
        assert cm.tags("train") == {}
        assert owner.get(owner.at("/untag/plan", stage="train", name="good")).status_code == 404


class TestRetention:
    def test_bytes_are_shown_by_stage(self, visitor: Browser) -> None:
        page = visitor.get(visitor.at("/retention")).text
        assert 'aria-label="Bytes of 2 stages' in page
        assert visitor.get(visitor.at("/retention", stage="train")).status_code == 200

    def test_no_more_is_measured_than_a_page_may_read(self, visitor: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retention, "_MOST_MEASURED", 1)
        assert 'aria-label="Bytes of 1 stage' in visitor.get(visitor.at("/retention")).text

    def test_a_stage_that_can_not_be_read_hides_no_other(
        self, cm: CheckpointManager, visitor: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        history = cm.iter_history

        def read(stage: str) -> Iterator[Version]:
            if stage == "clean":
                raise IntegrityError("damaged")
            return history(stage)

        monkeypatch.setattr(cm, "iter_history", read)
        assert 'aria-label="Bytes of 1 stage' in visitor.get(visitor.at("/retention")).text

    def test_without_a_rule_nothing_is_pruned(self, cm: CheckpointManager, owner: Browser) -> None:
        answer = owner.send("/", owner.at("/prune"), stage="train", reason=WHY)
        assert (answer.status_code, "The policy has no rule" in answer.text) == (400, True)
        assert len(cm.history("train")) == 2

    def test_a_policy_shows_what_it_keeps_and_why(self, cm: CheckpointManager, visitor: Browser) -> None:
        for number in (3, 4, 5):
            cm.save_checkpoint("train", number)
        page = visitor.get(visitor.at("/retention", keep_last=2)).text
        assert "2 versions would be deleted for good" in page
        assert ", and 4 kept, by" in page
        assert "tag good" in page
        assert "/prune" not in page

    def test_what_would_be_deleted_stands_above_the_button(self, cm: CheckpointManager, owner: Browser) -> None:
        cm.save_checkpoint("train", 3)
        page = owner.get(owner.at("/retention", keep_last=1, stage="train")).text
        assert page.index("</table>") < page.index('class="dangerous"')
        assert 'aria-label="Store"' not in page

    def test_pruning_deletes_what_was_shown(self, cm: CheckpointManager, dashboard: Dashboard, owner: Browser) -> None:
        for number in (3, 4, 5):
            cm.save_checkpoint("train", number)
        assert "2 versions deleted for good." in confirm(owner, owner.at("/retention", keep_last=2, stage="train"))
        assert [each.number for each in cm.history("train")] == [5, 4, 1]
        assert dashboard.log[-1] == "pruned 2 versions (keep_last=2)"

    def test_a_plan_that_has_changed_deletes_nothing(self, cm: CheckpointManager, owner: Browser) -> None:
        for number in (3, 4, 5):
            cm.save_checkpoint("train", number)
        page = owner.get(owner.at("/retention", keep_last=2)).text
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page[page.index("/prune") :]))
        cm.save_checkpoint("train", 6)
        answer = owner.post(owner.at("/prune"), {**fields, "reason": WHY})
        assert (answer.status_code, len(cm.history("train"))) == (409, 6)

    def test_what_changes_at_the_last_moment_deletes_nothing(
        self, cm: CheckpointManager, dashboard: Dashboard, owner: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in (3, 4, 5):
            cm.save_checkpoint("train", number)

        def save_then(*_: object) -> bool:
            cm.save_checkpoint("train", 6)
            return False

        monkeypatch.setattr(retention, "_has_changed", save_then)
        page = confirm(owner, owner.at("/retention", keep_last=2, stage="train"))
        assert "newest version is 6, not 5" in page
        assert len(cm.history("train")) == 6
        assert "pruned" not in dashboard.log[-1]

    def test_a_plan_that_protects_more_by_now_deletes_nothing(self, cm: CheckpointManager, owner: Browser) -> None:
        page = owner.get(owner.at("/retention", keep_last=1, stage="clean")).text
        assert "/prune" not in page
        cm.untag("train", "good")
        plan = owner.at("/retention", keep_last=1, stage="train")
        fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', owner.get(plan).text))
        cm.tag("train", 1, "again")
        answer = owner.post(owner.at("/prune"), {**fields, "reason": WHY})
        assert (answer.status_code, len(cm.history("train"))) == (409, 2)

    def test_one_plan_is_made_at_a_time_and_pages_are_of_it(
        self, cm: CheckpointManager, dashboard: Dashboard, visitor: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made, end, real = [], threading.Event(), plans.plan_retention

        def slow(cm: CheckpointManager, policy: Retention, stage: str) -> plans.RetentionPlan:
            made.append(str(policy))
            assert end.wait(20)
            return real(cm, policy, stage)

        monkeypatch.setattr(plans, "plan_retention", slow)
        monkeypatch.setattr(retention, "WAIT_SECONDS", 0)
        monkeypatch.setattr(retention, "_MOST_ROWS", 2)
        first, second = visitor.at("/retention", keep_last=1), visitor.at("/retention", keep_last=2)
        for address in (first, second, first):
            page = visitor.get(address).text
            assert ("The plan is being made" in page, 'http-equiv="refresh"' in page) == (True, True)
        end.set()
        monkeypatch.setattr(retention, "WAIT_SECONDS", 60)
        page = visitor.get(first).text
        following = re.search(r'href="([^"]+)">Next', page)
        assert following is not None
        cm.save_checkpoint("train", 3)
        assert visitor.get(following[1].replace("&amp;", "&")).status_code == 200
        assert made == ["keep_last=1"]
        monkeypatch.setattr(retention, "WAIT_SECONDS", 0)
        visitor.get(second)
        until(lambda: (making := dashboard.store.retention_plans._making) is None or making.job.age is not None)
        monkeypatch.setattr(retention, "WAIT_SECONDS", 60)
        monkeypatch.setattr(plans, "_READY_SECONDS", -1)  # nobody asked for it for a long time
        visitor.get(second)
        assert made == ["keep_last=1", "keep_last=2", "keep_last=2"]

    def test_a_plan_that_can_not_be_made_is_told(
        self, dashboard: Dashboard, visitor: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert visitor.get(visitor.at("/retention", stage="nowhere", keep_last=1)).status_code == 404
        monkeypatch.setattr(plans, "plan_retention", lambda *_: SECRET + 1)  # type: ignore[operator]
        answer = visitor.get(visitor.at("/retention", keep_last=1))
        assert (answer.status_code, "Something went wrong" in answer.text) == (500, True)
        assert re.fullmatch(r"A plan ended with an error: TypeError at .*test_changes.py:\d+", caplog.messages[-1])

    def test_few_plans_are_kept(self, dashboard: Dashboard, visitor: Browser) -> None:
        for number in range(1, 9):
            visitor.get(visitor.at("/retention", keep_last=number))
        assert len(dashboard.store.retention_plans._kept) <= 4

    @pytest.mark.parametrize("query", [{"keep_within": "soon"}, {"keep_last": "-1"}, {"keep_last": "x"}])
    def test_a_policy_that_is_none_is_refused(self, visitor: Browser, query: dict[str, str]) -> None:
        assert visitor.get(visitor.at("/retention", **query)).status_code == 400


class TestUpkeep:
    def test_a_verification_runs_and_is_shown(self, cm: CheckpointManager, dashboard: Dashboard, owner: Browser) -> None:
        assert "Not verified since" in owner.get(owner.at("/health")).text
        owner.send("/", owner.at("/verify"))
        while dashboard.store.verification is not None:
            assert owner.get(owner.at("/health")).status_code == 200
        assert "3 versions read, and no problem found" in owner.get(owner.at("/health")).text

    def test_the_set_up_is_looked_at(self, owner: Browser) -> None:
        assert "looked at /data/pipeline" in owner.send("/", owner.at("/examine")).text

    def test_keys_show_slots_and_nothing_secret(self, cm: CheckpointManager, visitor: Browser) -> None:
        page = visitor.get(visitor.at("/keys")).text
        assert cm.keys.list()[0].slot in page
        assert "checkpoint-manager key rotate --store /data/pipeline" in page
        assert "rotation" not in page.split("Keys are added")[0]

    def test_activity_is_one_feed(self, owner: Browser, visitor: Browser) -> None:
        confirm(owner, owner.at("/restore/plan", stage="train", version=1))
        visitor.get("/")
        page = visitor.get("/activity").text
        assert page.index("restored version 1") < page.index("may see metadata")
        assert "version 3: done" in page
        assert WHY in page
        assert "restored" not in visitor.get("/activity?kind=login").text

    def test_many_stages_of_one_run_are_one_row(self, cm: CheckpointManager, visitor: Browser) -> None:
        for number in range(5):
            cm.stage(f"table_{number}")(lambda: 1)()
        cm.save_checkpoint("alone", 1, metadata={"reason": WHY})
        visitor.get("/")
        page = visitor.get("/activity").text
        assert page.count('<tr class="kind-saved">') == 5
        row = page[page.index("5 stages done") : page.index("</details>")]
        assert all(f">table_{number}</a>" in row for number in range(5))
        assert "version 1: done" in page
        assert WHY in page

    def test_a_link_for_a_colleague_allows_no_more_than_one_may(self, dashboard: Dashboard, reader: Browser) -> None:
        page = reader.send("/link", "/link", read="yes", change="yes").text
        link = re.search(r"<code[^>]*>(http://127.0.0.1:8710/login#([^<]+))</code>", page)
        assert link is not None
        colleague = dashboard.browser()
        assert colleague.post("/login", {"token": link[2]}).status_code == 200
        assert "You can see metadata and read data" in colleague.get("/").text
        assert link[2] not in str(dashboard.log)


class TestDiff:
    def test_it_is_redacted_until_it_is_revealed(self, dashboard: Dashboard, reader: Browser) -> None:
        address = reader.at("/diff", stage="train", old=1, new=2)
        page = reader.get(address).text
        assert ("loss" in page, "0.25" in page, "2 differences" in page) == (False, False, False)  # keys are data, too
        assert ("metadata run" in page, "Reveal the differences" in page) == (True, True)
        revealed = reader.send(address, reader.at("/diff/reveal"), stage="train", old=1, new=2).text
        assert ("$.loss" in revealed, "0.25" in revealed, "Reveal the differences" in revealed) == (True, True, False)
        assert "2 differences: 2 changed" in revealed
        assert dashboard.log[-2:] == ["revealed data", "revealed data"]

    def test_one_who_may_not_read_sees_what_is_known_of_both(self, visitor: Browser) -> None:
        page = visitor.get(visitor.at("/diff", stage="train", old=2, new=1)).text
        assert ("metadata run" in page, "$.loss" in page) == (True, False)
        assert visitor.send("/", visitor.at("/diff/reveal"), stage="train", old=1, new=2).status_code == 403

    def test_long_ones_are_shown_in_parts(self, cm: CheckpointManager, reader: Browser) -> None:
        cm.save_checkpoint("long", list(range(700)))
        cm.save_checkpoint("long", [each + 0.5 for each in range(700)])
        page = reader.send("/", reader.at("/diff/reveal"), stage="long", old=1, new=2).text
        assert ("700 differences" in page, "$[299]" in page, "$[300]" in page) == (True, True, False)
        assert "$[699]" in reader.get(reader.at("/diff", stage="long", old=1, new=2, start=600)).text

    def test_two_are_needed(self, reader: Browser) -> None:
        assert reader.get(reader.at("/diff", stage="train", old=1)).status_code == 400


class TestNumbers:
    def test_a_number_over_versions_is_a_chart_and_a_table(
        self, cm: CheckpointManager, dashboard: Dashboard, reader: Browser
    ) -> None:
        cm.save_checkpoint("train", {"loss": "none"})
        assert "/loss" in reader.send("/", reader.at("/numbers/offer"), stage="train").text
        page = reader.send("/", reader.at("/numbers/chart"), stage="train", at="/loss").text
        assert "A line over versions 1 to 2: from 0.5 to 0.25" in page
        assert "1 version left out" in page
        assert dashboard.log[-1] == "read a number of up to 200 versions"
        assert "2 versions" not in reader.send("/", reader.at("/numbers/chart"), stage="clean", at="/rows/0").text

    def test_the_newest_numbers_are_offered(self, reader: Browser) -> None:
        page = reader.send("/", reader.at("/numbers/offer"), stage="train").text
        assert all(f"<code>{each}</code>" in page for each in ("/epoch", "/loss"))

    def test_numbers_in_lists_and_of_numpy_are_offered_and_shown(self, cm: CheckpointManager, reader: Browser) -> None:
        cm.save_checkpoint("train", {"loss": np.float64(0.125), "rows": [1]})
        offered = reader.send("/", reader.at("/numbers/offer"), stage="train").text
        assert all(f"<code>{each}</code>" in offered for each in ("/loss", "/rows/0"))
        page = reader.send("/", reader.at("/numbers/chart"), stage="train", at="/loss").text
        assert "A line over versions 1 to 3: from 0.5 to 0.125" in page

    def test_a_form_that_no_value_has_is_not_a_number(self, cm: CheckpointManager, reader: Browser) -> None:
        draft = Draft(b'values/1\n{"rate":{"!numpy":[]},"epoch":3}', {}, "completed")
        append(cm._store, "train", cm._store.history.tip("train"), draft)
        offered = reader.send("/", reader.at("/numbers/offer"), stage="train").text
        assert ("<code>/epoch</code>" in offered, "<code>/rate</code>" in offered) == (True, False)
        assert "3 versions left out" in reader.send("/", reader.at("/numbers/chart"), stage="train", at="/rate").text

    def test_a_version_without_data_is_left_out(self, cm: CheckpointManager, reader: Browser) -> None:
        cm.clear_checkpoint("train")
        page = reader.send("/", reader.at("/numbers/chart"), stage="train", at="/loss").text
        assert "1 version left out" in page

    def test_no_data_is_read_until_it_is_asked_for(self, dashboard: Dashboard, reader: Browser) -> None:
        before = list(dashboard.log)
        assert reader.get(reader.at("/numbers", stage="train")).status_code == 200
        assert dashboard.log == before

    def test_what_is_not_there_is_not_offered(self, cm: CheckpointManager, reader: Browser) -> None:
        cm.clear_checkpoint("new")
        cm.save_checkpoint("new", 1)
        cm.delete_stage("new")
        assert "holds no numbers" in reader.send("/", reader.at("/numbers/offer"), stage="new").text

    @pytest.mark.parametrize("page", ["/numbers/offer", "/numbers/chart"])
    def test_it_is_logged_before_anything_is_read(
        self, cm: CheckpointManager, dashboard: Dashboard, reader: Browser, monkeypatch: pytest.MonkeyPatch, page: str
    ) -> None:
        def read(*_: object) -> None:
            assert "number" in dashboard.log[-1]
            raise IntegrityError("read")

        monkeypatch.setattr(cm, "get_json", read)
        reader.send("/", reader.at(page), stage="train", at="/loss")
        assert "number" in dashboard.log[-1]


@pytest.mark.parametrize("path", [*CHANGES, *PLANS])
def test_one_who_may_not_change_changes_nothing(
    cm: CheckpointManager, dashboard: Dashboard, reader: Browser, path: str
) -> None:
    fields = {"stage": "train", "version": 1, "name": "good", "expected": 2, "reason": WHY, "keep_last": 1}
    answer = reader.get(reader.at(path, **fields)) if path in PLANS else reader.send("/", reader.at(path), **fields)
    assert answer.status_code == 403
    assert dashboard.log[-1] == "to make a change"
    assert (cm.get_version("train").number, cm.tags("train")) == (2, {"good": 1})


@pytest.mark.parametrize("path", CHANGES)
def test_a_link_changes_nothing(cm: CheckpointManager, owner: Browser, path: str) -> None:
    fields = {"stage": "train", "version": 1, "name": "good", "expected": 2, "reason": WHY, "keep_last": 1}
    assert owner.get(owner.at(path, **fields)).status_code == 405
    assert (cm.get_version("train").number, cm.tags("train")) == (2, {"good": 1})


@pytest.mark.parametrize("path", ["/numbers", "/numbers/offer", "/numbers/chart", "/reveal", "/data", "/diff/reveal"])
def test_one_who_may_change_only_reads_nothing(dashboard: Dashboard, path: str) -> None:
    operator = dashboard.browser(Role(change=True))
    fields = {"stage": "train", "version": 1, "old": 1, "new": 2, "at": "/note"}
    answer = (
        operator.get(operator.at(path, **fields)) if path == "/numbers" else operator.send("/", operator.at(path), **fields)
    )
    assert (answer.status_code, SECRET in answer.text) == (403, False)
