"""The dashboard in a real browser: its pages, its promises about security, and how it reads."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.dashboard.browser.conftest import HOSTILE, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from checkpoint_manager import CheckpointManager, KeyFile
    from tests.dashboard.browser.conftest import Running

    Start = Callable[..., Running]
    NewPage = Callable[..., Page]

PIPELINE = """
import select, sys
from checkpoint_manager import CheckpointManager, KeyFile

cm = CheckpointManager(sys.argv[1], key=KeyFile(sys.argv[2]))
@cm.stage
def publish():
    pass

with cm.loop("embed", range(1_000_000), initial={}, every_seconds=0.5, bar=False) as loop:
    for number in loop:
        if select.select([sys.stdin], [], [], 0.02)[0]:  # told to end
            break

@cm.stage
def evaluate():
    raise ValueError("no labels in the validation set")

evaluate()
"""


def log_in(page: Page, link: str) -> str:
    """Log in by a link, and return the address of the only store."""
    page.goto(link)
    page.wait_for_url("**/")
    return page.get_by_role("link", name="churn").get_attribute("href") or ""


class TestLogin:
    def test_a_link_logs_in_once_and_its_token_is_nowhere(self, start: Start, new_page: NewPage) -> None:
        running = start()
        page = new_page()
        log_in(page, running.links[0])
        expect(page.get_by_role("heading", name="Pipelines")).to_be_visible()
        token = running.links[0].partition("#")[2]
        assert token not in page.url
        assert page.evaluate("document.cookie") == ""
        page.go_back()
        assert token not in page.url
        other = new_page()
        other.goto(running.links[0])
        expect(other.get_by_role("alert")).to_contain_text("was used already")
        assert token not in running.log.read_text()
        assert "refused: a login" in running.log.read_text()

    def test_without_javascript_the_token_is_pasted_and_pages_work(self, start: Start, new_page: NewPage) -> None:
        running = start("--allow-read")
        page = new_page(java_script_enabled=False)
        page.goto(running.links[0])
        page.get_by_label("Token").fill(running.links[0].partition("#")[2])
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("link", name="train", exact=False).first.click()
        page.get_by_role("link", name="5", exact=True).click()
        page.get_by_role("button", name="Reveal the data").click()
        expect(page.get_by_text(SECRET)).to_be_visible()


def test_a_pipeline_of_another_process_is_watched_as_it_runs_and_fails(
    start: Start, new_page: NewPage, cm: CheckpointManager, key: KeyFile
) -> None:
    page = new_page()
    log_in(page, start().links[0])
    expect(page.locator("[data-live-state]")).to_be_visible()
    store = str(cm._store.backend.location)
    command = [sys.executable, "-c", PIPELINE, store, key.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        cell = page.locator(".cell.is-running", has_text="embed")
        expect(cell).to_be_visible()
        expect(cell.locator("progress")).to_be_visible()
        first = float(cell.locator("progress").get_attribute("value") or 0)
        expect(cell.locator("progress")).not_to_have_attribute("value", str(int(first)))
        process.communicate("end\n", timeout=30)
    expect(page.locator(".needs")).to_contain_text("ValueError: no labels in the validation set")
    expect(page.locator(".cell.is-stopped")).to_contain_text("embed")
    expect(page.locator(".cell.is-never-run")).to_contain_text("publish")


IMPATIENT = """
from checkpoint_manager.cli import main
from checkpoint_manager.dashboard import stores

stores.WAIT_SECONDS = 0
main()
"""
"""The program, with pages that wait for nothing."""


@pytest.mark.parametrize("has_javascript", [True, False])
def test_a_page_that_waits_for_data_is_loaded_again(start: Start, new_page: NewPage, has_javascript: bool) -> None:
    running = start("--allow-read", program=("-c", IMPATIENT))
    page = new_page(java_script_enabled=has_javascript)
    told: list[str] = []
    page.on("response", lambda response: told.append(response.text() if "/version" in response.url and response.ok else ""))
    page.goto(running.links[0])
    if not has_javascript:
        page.get_by_label("Token").fill(running.links[0].partition("#")[2])
        page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="train", exact=False).first.click()
    page.get_by_role("link", name="1", exact=True).click()
    page.get_by_role("button", name="Reveal the data").click()
    expect(page.get_by_text(SECRET)).to_be_visible()
    assert any("This page is loaded again in a moment" in each for each in told)


def test_data_is_revealed_compared_restored_and_one_is_overtaken(
    start: Start, new_page: NewPage, cm: CheckpointManager
) -> None:
    running = start("--allow-read", "--allow-change")
    page = new_page()
    store = log_in(page, running.links[0])

    page.goto(f"{running.address}{store}/version?stage=train&version=3")
    assert page.get_by_text(SECRET).count() == 0
    page.get_by_role("button", name="Reveal the data").click()
    expect(page.get_by_text(SECRET)).to_be_visible()
    page.get_by_role("button", name="Hide the data").click()
    expect(page.get_by_text(SECRET)).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download weights").click()
    assert (download.value.suggested_filename, download.value.path().read_bytes()) == ("weights", b"12345")

    page.goto(f"{running.address}{store}/stage?stage=train")
    page.get_by_label("compare from version 3").check()
    page.get_by_role("button", name="Compare the two").click()
    expect(page.get_by_text("difference", exact=False).first).to_be_visible()
    expect(page.get_by_text("$.loss")).to_have_count(0)
    assert page.get_by_text("0.2", exact=True).count() == 0
    page.get_by_role("button", name="Reveal the differences").click()
    expect(page.get_by_text("$.loss")).to_be_visible()
    expect(page.get_by_text("0.2", exact=True)).to_be_visible()

    page.goto(f"{running.address}{store}/version?stage=train&version=3")
    page.get_by_role("link", name="Restore…").click()
    page.get_by_label("Reason").fill("the loss went up")
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("status").first).to_contain_text("version 6 is a copy of version 3")
    assert cm.get_version("train").metadata["reason"] == "the loss went up"

    page.goto(f"{running.address}{store}/restore/plan?stage=train&version=1")
    cm.save_checkpoint("train", {"epoch": 7})
    page.get_by_label("Reason").fill("once more")
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("heading", name="Somebody was quicker")).to_be_visible()
    assert cm.get_version("train").number == 7

    log = running.log.read_text()
    assert "reveal by session 1: revealed data: train@3" in log
    assert "(the loss went up)" in log
    assert "reveal by session 1: downloaded the attachment weights: train@3" in log
    assert SECRET not in log


def test_one_who_may_only_look_is_refused(start: Start, new_page: NewPage, cm: CheckpointManager) -> None:
    running = start("--allow-read", "--allow-change")
    page = new_page()
    store = log_in(page, running.links[1])
    page.goto(f"{running.address}{store}/version?stage=train&version=3")
    assert page.get_by_role("button", name="Reveal the data").count() == 0
    assert page.get_by_role("link", name="Restore…").count() == 0
    answer = page.goto(f"{running.address}{store}/restore/plan?stage=train&version=3")
    assert answer is not None
    assert answer.status == 403


ATTACK = """<!doctype html><title>evil</title>
<form method="post" action="{address}{path}"><input name="form" value="x"><input name="stage" value="train">
<input name="version" value="1"><input name="expected" value="5"><input name="reason" value="evil"></form>
<script>document.forms[0].submit()</script>"""


@pytest.fixture
def evil() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the address of another site on this host, and its pages."""
    pages: dict[str, bytes] = {}

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(pages.get(self.path, b"<!doctype html><title>evil</title>"))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", pages
        server.shutdown()
        thread.join()


class TestAttacks:
    @pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
    def test_another_site_of_this_host_changes_and_reads_nothing(
        self, start: Start, new_page: NewPage, cm: CheckpointManager, evil: tuple[str, dict[str, bytes]], name: str
    ) -> None:
        """Ports don't make another site: the cookie is sent, and everything else has to hold."""
        running = start("--allow-read", "--allow-change")
        page = new_page()
        store = log_in(page, running.links[0])
        address = evil[0].replace("127.0.0.1", name)
        for path in (f"{store}/restore", f"{store}/clear", f"{store}/reveal", "/logout"):
            evil[1]["/attack"] = ATTACK.format(address=running.address, path=path).encode()
            page.goto(f"{address}/attack")
            page.wait_for_url(f"{running.address}/**")
            expect(page.get_by_text("This request comes from another site")).to_be_visible()
        assert cm.get_version("train").number == 5
        page.goto(address)
        fetched = page.evaluate(
            "url => Promise.all([{}, {mode: 'no-cors'}, {credentials: 'include'}].map(how =>"
            " fetch(url, how).then(answer => answer.text(), () => 'refused')))",
            f"{running.address}{store}/stage?stage=train",
        )
        assert all("train" not in text for text in fetched)
        framed = "url => new Promise(done => { const f = document.createElement('iframe'); f.src = url; f.onload = () => "
        framed += "{ try { done(f.contentDocument.body.innerText) } catch { done('refused') } }; document.body.append(f) })"
        assert page.evaluate(framed, running.address) == "refused"
        page.goto(running.address)
        expect(page.get_by_role("heading", name="Pipelines")).to_be_visible()  # still logged in

    def test_a_name_that_was_made_to_lead_here_is_refused(self, start: Start, new_page: NewPage) -> None:
        running = start()
        page = new_page()
        log_in(page, running.links[0])
        answer = page.goto(running.address.replace("127.0.0.1", "rebound.example"))
        assert answer is not None
        assert (answer.status, answer.text()) == (421, "This server does not answer for that host.\n")
        assert "refused: a request for another host" in running.log.read_text()

    def test_hostile_text_runs_nothing(self, start: Start, new_page: NewPage) -> None:
        running = start("--allow-read")
        page = new_page()
        opened: list[str] = []
        page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: opened.append(message.text))
        store = log_in(page, running.links[0])
        page.get_by_role("link", name=HOSTILE).first.click()
        page.get_by_role("link", name="1", exact=True).click()
        page.get_by_role("button", name="Reveal the data").click()
        expect(page.locator(".tree")).to_contain_text(HOSTILE)
        page.goto(f"{running.address}{store}?name=%3Cscript%3Ealert(1)%3C/script%3E&metadata=%22%3E%3Cscript%3E")
        assert opened == []


PAGES = (
    "/",
    "{store}",
    "{store}/stage?stage=train",
    "{store}/version?stage=train&version=3",
    "{store}/diff?stage=train&old=1&new=5",
    "{store}/numbers?stage=train",
    "{store}/restore/plan?stage=train&version=3",
    "{store}/pipeline/plan",
    "{store}/pipeline/plan?tag=good",
    "{store}/pipeline/plan?at=2001-01-01",
    "{store}/clear/plan?stage=train",
    "{store}/tag/plan?stage=train&version=3",
    "{store}/retention",
    "{store}/retention?stage=train&keep_last=1",
    "{store}/keys",
    "{store}/health",
    "/activity",
    "/link",
    "/nowhere",
)


def test_each_page_is_accessible_fits_a_phone_and_breaks_no_rule_of_its_own(start: Start, new_page: NewPage) -> None:
    running = start("--allow-read", "--allow-change")
    page = new_page(bypass_csp=True)  # for axe; that nothing breaks the policy is looked at in the other context
    strict = new_page(viewport={"width": 360, "height": 740})
    store = log_in(page, running.links[0])
    page.goto(f"{running.address}/activity")
    page.get_by_role("link", name="Make a link").click()
    with page.expect_navigation():  # until its styles are there, too
        page.get_by_role("button", name="Make a link").click()
    link = page.locator("code").first.inner_text()
    assert Axe().run(page, options=AXE).response["violations"] == []
    log_in(strict, link)
    told: list[str] = []
    strict.on("console", lambda message: told.append(message.text))
    found: list[tuple[str, str, str]] = []
    for path in PAGES:
        where = f"{running.address}{path.format(store=store)}"
        strict.goto(where)
        wider = strict.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0, (path, wider)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto(where)
            page.wait_for_function("!document.querySelector('[data-again]')")  # until a plan is made
            for each in Axe().run(page, options=AXE).response["violations"]:
                found += [(path, each["id"], node["html"][:120]) for node in each["nodes"]]
    page.goto(f"{running.address}{store}/version?stage=train&version=3")
    with page.expect_navigation():
        page.get_by_role("button", name="Reveal the data").click()
    for each in Axe().run(page, options=AXE).response["violations"]:
        found += [("revealed", each["id"], node["html"][:120]) for node in each["nodes"]]
    assert found == []
    refused = ("status of 403", "status of 404")  # the pages that refuse, as they should
    assert [text for text in told if not any(each in text for each in refused)] == []


AXE = {"resultTypes": ["violations"]}


def test_the_keyboard_suffices(start: Start, new_page: NewPage) -> None:
    running = start()
    page = new_page()
    log_in(page, running.links[0])
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    page.get_by_label("Name").focus()
    page.keyboard.type("tra")
    expect(page.locator(".cell:visible")).to_have_count(1)
    page.keyboard.press("Enter")
    page.wait_for_url("**name=tra**")
    page.locator(".cell a").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="train", exact=True)).to_be_visible()
