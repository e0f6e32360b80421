"""Each promise of the dashboard about security, broken on purpose. The names are those of the attacks."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager.dashboard import activity, auth, guard
from checkpoint_manager.dashboard.auth import Logins, Role, TooManyTriesError
from tests.dashboard.conftest import SECRET, dashboard_of

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager
    from tests.dashboard.conftest import Browser, Dashboard


class TestHosts:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE"])
    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost:8710.evil.example", ""])
    def test_dns_rebinding_is_refused_with_each_method_on_each_path(self, dashboard: Dashboard, method: str, host: str) -> None:
        browser = dashboard.browser()
        paths = ("/", "/login", "/static/dashboard.css", "/events", "/nowhere")
        for path in paths:
            assert browser.client.request(method, path, headers={"host": host}).status_code == 421
        assert dashboard.log == ["a request for another host"] * len(paths)

    def test_two_hosts_are_refused(self, dashboard: Dashboard) -> None:
        hosts = [("host", "127.0.0.1:8710"), ("host", "evil.example")]
        assert dashboard.browser().client.get("/", headers=hosts).status_code == 421

    def test_its_own_names_are_answered(self, dashboard: Dashboard) -> None:
        for host in ("127.0.0.1:8710", "localhost:8710", "LOCALHOST:8710"):
            assert dashboard.browser().get("/login", host=host).status_code == 200


class TestLogin:
    @pytest.mark.parametrize("path", ["/", "/s/0123456789", "/activity", "/events", "/nowhere", "/s/x/stage?stage=train"])
    def test_nothing_is_shown_without_it(self, dashboard: Dashboard, path: str) -> None:
        answer = dashboard.browser().get(path)
        assert answer.status_code == 401
        assert "train" not in answer.text.replace("stage=train", "")

    def test_a_token_has_256_bits_and_works_once(self, dashboard: Dashboard) -> None:
        token = dashboard.site.logins.new_token(Role())
        assert len(token) == 43  # 256 bits in base64
        assert dashboard.browser().post("/login", {"token": token}).status_code == 200
        assert dashboard.browser().post("/login", {"token": token}).status_code == 403
        assert dashboard.log[-1] == "a login with a token that is not known, was used, or is too old"

    def test_it_is_not_kept_and_not_logged(self, dashboard: Dashboard, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        token = dashboard.site.logins.new_token(Role())
        browser = dashboard.browser()
        browser.post("/login", {"token": token})
        cookie = browser.client.cookies["checkpoints-8710"]
        assert not {token, cookie} & {each for text in caplog.messages for each in text.split()}
        assert token not in repr(vars(dashboard.site.logins))
        assert cookie not in repr(vars(dashboard.site.logins))

    def test_a_token_in_the_address_does_not_log_in(self, dashboard: Dashboard) -> None:
        token = dashboard.site.logins.new_token(Role())
        for address in (f"/?token={token}", f"/login?token={token}"):
            assert "set-cookie" not in dashboard.browser().get(address).headers

    def test_the_cookie_is_for_this_site_and_not_for_scripts(self, dashboard: Dashboard) -> None:
        browser = dashboard.browser()
        browser.client.follow_redirects = False
        cookie = browser.post("/login", {"token": dashboard.site.logins.new_token(Role())}).headers["set-cookie"]
        assert {"httponly", "samesite=strict", "path=/"} <= {each.strip().lower() for each in cookie.split(";")}
        assert "domain" not in cookie.lower()

    def test_tries_are_limited(self, dashboard: Dashboard) -> None:
        browser = dashboard.browser()
        for _ in range(auth.MOST_TRIES):
            assert browser.post("/login", {"token": "guess"}).status_code == 403
        answer = browser.post("/login", {"token": "guess"})
        assert (answer.status_code, answer.headers["retry-after"].isdecimal()) == (429, True)
        assert dashboard.log[-1] == "a login, after too many tries"
        assert (
            browser.post("/login", {"token": dashboard.site.logins.new_token(Role())}).status_code == 200
        )  # nobody is locked out

    def test_tries_links_and_sessions_end_with_time(self) -> None:
        now = 0.0
        logins = Logins(lambda: now)
        early, late = logins.new_token(Role()), logins.new_token(Role())
        begun = logins.log_in(early)
        assert begun is not None
        for _ in range(auth.MOST_TRIES):
            logins.log_in("guess")
        with pytest.raises(TooManyTriesError):
            logins.log_in("guess")
        now = auth.TRIES_SECONDS
        assert logins.log_in("guess") is None
        now = auth.LINK_SECONDS
        assert logins.log_in(late) is None
        assert logins.session(begun[1]) is begun[0]
        now += auth.IDLE_SECONDS
        assert logins.session(begun[1]) is None

    def test_a_session_that_is_used_ends_too(self) -> None:
        now = 0.0
        logins = Logins(lambda: now)
        begun = logins.log_in(logins.new_token(Role()))
        assert begun is not None
        while now < auth.SESSION_SECONDS:
            assert logins.session(begun[1]) is begun[0]
            now += auth.IDLE_SECONDS / 2
        assert logins.session(begun[1]) is None

    @pytest.mark.parametrize("limit", ["_MOST_LINKS", "_MOST_SESSIONS"])
    def test_links_and_sessions_are_limited_and_the_oldest_ends(self, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
        monkeypatch.setattr(auth, limit, 2)
        now = 0.0
        logins = Logins(lambda: now)
        if limit == "_MOST_LINKS":
            tokens = [logins.new_token(Role()) for _ in range(3)]
            assert [logins.log_in(token) is not None for token in tokens] == [False, True, True]
        else:
            cookies = []
            for _ in range(3):
                begun = logins.log_in(logins.new_token(Role()))
                assert begun is not None
                cookies.append(begun[1])
                now += 1
            assert [logins.session(cookie) is not None for cookie in cookies] == [False, True, True]

    def test_what_was_revealed_is_remembered_within_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(auth, "_MOST_REVEALED", 2)
        logins = Logins()
        begun = logins.log_in(logins.new_token(Role(read=True)))
        assert begun is not None
        for version in (1, 2, 3):
            begun[0].reveal("store", "train", version)
        assert begun[0].revealed == {("store", "train", 3)}

    def test_secrets_are_compared_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[tuple[bytes, bytes]] = []
        logins = Logins()
        token = logins.new_token(Role())
        for _ in range(4):
            logins.new_token(Role())
        monkeypatch.setattr(auth.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
        assert logins.log_in(token) is not None
        assert len(compared) == 5  # all of them, whichever it was

    def test_one_who_logged_out_is_out(self, visitor: Browser) -> None:
        cookie = visitor.client.cookies["checkpoints-8710"]
        assert visitor.send("/", "/logout").status_code == 200
        visitor.client.cookies.set("checkpoints-8710", cookie)
        assert visitor.get("/").status_code == 401

    def test_links_end_with_the_session_that_made_them(self, dashboard: Dashboard, owner: Browser) -> None:
        def made(browser: Browser) -> str:
            link = re.search(r"/login#([\w-]+)", browser.send("/activity", "/link", read="yes", change="yes").text)
            assert link is not None
            return link[1]

        thief, accomplice = dashboard.browser(), dashboard.browser()
        assert thief.post("/login", {"token": made(owner)}).status_code == 200
        assert accomplice.post("/login", {"token": made(thief)}).status_code == 200
        unused = [made(owner), made(thief)]
        owner.send("/", "/logout")
        assert [browser.get("/").status_code for browser in (thief, accomplice)] == [401, 401]
        assert [dashboard.browser().post("/login", {"token": each}).status_code for each in unused] == [403, 403]

    def test_links_do_not_prolong_a_session(self) -> None:
        now = 0.0
        logins = Logins(lambda: now)
        first = logins.log_in(logins.new_token(Role()))
        assert first is not None
        while now < auth.SESSION_SECONDS - auth.LINK_SECONDS:
            now += auth.LINK_SECONDS
            assert logins.session(first[1]) is first[0]
        second = logins.log_in(logins.new_token(Role(), first[0]))
        assert second is not None
        now = auth.SESSION_SECONDS - 1
        assert logins.session(second[1]) is second[0]
        now += 1
        assert logins.session(second[1]) is None

    def test_a_page_that_is_left_open_is_not_use(self, dashboard: Dashboard, visitor: Browser) -> None:
        (session,) = dashboard.site.logins._sessions.values()
        session.seen = seen = session.seen - auth.IDLE_SECONDS / 2
        assert visitor.get("/", **{"x-by-itself": "1"}).status_code == 200
        assert dashboard.site.logins.session(visitor.client.cookies["checkpoints-8710"], is_used=False) is session
        assert session.seen == seen
        visitor.get("/")
        assert session.seen > seen

    @pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\nx"])
    def test_it_does_not_lead_to_another_site(self, dashboard: Dashboard, to: str) -> None:
        browser = dashboard.browser()
        browser.client.follow_redirects = False
        answer = browser.post("/login", {"token": dashboard.site.logins.new_token(Role()), "to": to})
        assert answer.headers["location"] == "/"

    @pytest.mark.parametrize("path", ["//evil.example/x", "/%2Fevil.example/", "///evil.example"])
    def test_the_page_that_asks_for_it_leads_to_no_other_site(self, dashboard: Dashboard, path: str) -> None:
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        page = dashboard.browser().client.get(f"http://127.0.0.1:8710{path}", headers=headers)
        assert (page.status_code, "evil.example" in page.text) == (401, False)

    def test_a_link_of_a_colleague_leads_to_its_page(self, dashboard: Dashboard) -> None:
        browser = dashboard.browser()
        page = browser.at("/stage", stage="train")
        assert f'value="{page}"' in browser.get(page).text.replace("&amp;", "&")
        browser.client.follow_redirects = False
        answer = browser.post("/login", {"token": dashboard.site.logins.new_token(Role()), "to": page})
        assert answer.headers["location"] == page


class TestOtherSites:
    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site", "origin": "null"},
            {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:9999"},
            {"sec-fetch-site": "none"},
            {"origin": "https://evil.example"},
            {"origin": "http://127.0.0.1:9999"},
            {"origin": "https://127.0.0.1:8710"},
            {"origin": "null"},
            {},
        ],
    )
    def test_a_change_that_another_site_sends_is_refused(
        self, dashboard: Dashboard, owner: Browser, headers: dict[str, str]
    ) -> None:
        for path in ("/login", "/logout", owner.at("/reveal")):
            assert owner.client.post(path, data={"form": "x"}, headers=headers).status_code == 403
        assert owner.get("/").status_code == 200  # still logged in

    def test_a_form_without_the_token_of_the_session_is_refused(self, dashboard: Dashboard, owner: Browser) -> None:
        other = re.search(r'name="form" value="([^"]+)"', dashboard.browser(Role(read=True)).get("/").text)
        assert other is not None
        fields = {"stage": "train", "version": 1}
        for token in ({}, {"form": ""}, {"form": "guess"}, {"form": "ü"}, {"form": other[1]}):
            assert owner.post(owner.at("/reveal"), fields | token).status_code == 403
        assert dashboard.log[-1] == "a form that is not of this session"
        assert SECRET not in owner.get(owner.at("/version", stage="train", version=1)).text

    @pytest.mark.parametrize("mode", ["no-cors", "cors", "websocket"])
    def test_nothing_is_loaded_by_another_site(self, visitor: Browser, mode: str) -> None:
        answer = visitor.get("/static/dashboard.js", **{"sec-fetch-site": "cross-site", "sec-fetch-mode": mode})
        assert answer.status_code == 403

    def test_there_is_no_cors(self, visitor: Browser) -> None:
        for method in ("GET", "OPTIONS"):
            headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
            answer = visitor.client.request(method, "/", headers=headers)
            assert answer.status_code in {403, 405}
            assert not [name for name in answer.headers if name.startswith("access-control")]

    def test_a_link_on_another_site_is_followed_once_more_with_the_cookie(self, dashboard: Dashboard) -> None:
        browser = dashboard.browser()
        linked = browser.get("/activity", **{"sec-fetch-site": "cross-site"})
        assert (linked.status_code, 'http-equiv="refresh"' in linked.text) == (401, True)
        assert 'http-equiv="refresh"' not in browser.get("/activity", **{"sec-fetch-site": "same-origin"}).text

    def test_a_link_of_another_port_leads_to_the_first_page_only(self, dashboard: Dashboard, visitor: Browser) -> None:
        link = {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}
        assert [visitor.get(path, **link).status_code for path in ("/", "/login")] == [200, 200]
        assert visitor.get(visitor.at("/retention", keep_last=1), **link).status_code == 403
        assert dashboard.log[-1] == "a request of another site"


class TestStrangers:
    def test_they_can_not_push_out_what_sessions_did(
        self, dashboard: Dashboard, reader: Browser, caplog: pytest.LogCaptureFixture
    ) -> None:
        reader.send("/", reader.at("/reveal"), stage="train", version=1)
        caplog.clear()
        for _ in range(1100):
            dashboard.site.activity.note("refused", "a request for another host")
        assert "revealed data" in dashboard.log
        assert dashboard.log[-1] == "1080 more within a minute, which are not logged"
        assert len(caplog.messages) == 21
        assert caplog.messages[-1] == "refused: more, which are counted for a minute, and not logged"

    def test_they_are_told_again_after_a_while(self, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(activity, "_MOST_TOLD", 1)
        monkeypatch.setattr(activity, "_TOLD_WITHIN", timedelta(0))
        for _ in range(3):
            dashboard.site.activity.note("refused", "x")
        assert dashboard.log == ["x", "x", "x"]


class TestRoles:
    def test_metadata_is_the_default_and_no_data_is_shown(self, visitor: Browser) -> None:
        page = visitor.get(visitor.at("/version", stage="train", version=1)).text
        assert "a7" in page
        assert SECRET not in page
        assert "/reveal" not in page

    @pytest.mark.parametrize("path", ["/reveal", "/data"])
    def test_one_who_may_not_read_reveals_nothing(self, dashboard: Dashboard, visitor: Browser, path: str) -> None:
        answer = visitor.send("/", visitor.at(path), stage="train", version=1)
        assert (answer.status_code, SECRET in answer.text) == (403, False)
        assert dashboard.log[-1] == "to read data"

    def test_a_part_is_shown_only_of_what_was_revealed(self, reader: Browser) -> None:
        answer = reader.send("/", reader.at("/data"), stage="train", version=1)
        assert (answer.status_code, SECRET in answer.text) == (403, False)

    def test_reveals_are_logged(self, dashboard: Dashboard, reader: Browser, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "checkpoint_manager.dashboard")
        assert SECRET in reader.send("/", reader.at("/reveal"), stage="train", version=1).text
        assert dashboard.log[-1] == "revealed data"
        assert f"reveal by session 1: revealed data: train@1 in store {dashboard.store.id}" in caplog.messages
        assert SECRET not in caplog.text


class TestAnswers:
    def test_each_has_the_headers(self, dashboard: Dashboard, visitor: Browser) -> None:
        pages = ["/", "/login", "/nowhere", "/static/dashboard.css", visitor.at("/stage", stage="train")]
        answers = [visitor.get(page) for page in pages]
        answers += [dashboard.browser().get("/"), visitor.client.get("/", headers={"host": "x"}), visitor.client.put("/")]
        for answer in answers:
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-store"
            assert "server" not in answer.headers

    def test_pages_have_no_script_or_style_of_their_own(self, owner: Browser) -> None:
        for page in ("/", owner.at(""), owner.at("/stage", stage="train"), owner.at("/version", stage="train", version=1)):
            text = owner.get(page).text
            assert "<style" not in text
            assert not re.search(r"\s(style|on[a-z]+)\s*=", text)
            assert re.findall(r"<script[^>]*>", text) == ['<script type="module" src="/static/dashboard.js">']
            assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)

    def test_hostile_names_metadata_and_data_are_text(self, cm: CheckpointManager, reader: Browser) -> None:
        evil = "\"><script>alert(1)</script><b onclick='x'>\u202e\x00"
        cm.save_checkpoint(evil, {evil: [evil]}, metadata={evil: evil})
        cm.tag(evil, 1, "good")
        pages = [reader.get(page) for page in ("/", reader.at(""), reader.at("/stage", stage=evil))]
        pages.append(reader.send("/", reader.at("/reveal"), stage=evil, version=1))
        for answer in pages:
            assert answer.status_code == 200
            assert "<script>alert" not in answer.text
            assert "onclick='x'" not in answer.text
            assert "&lt;script&gt;alert(1)" in answer.text, answer.url

    def test_an_error_shows_nothing_of_itself(
        self, dashboard: Dashboard, visitor: Browser, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_: str) -> None:
            data = SECRET
            raise ZeroDivisionError(data)

        monkeypatch.setattr(dashboard.store, "look", broken)
        answer = visitor.get(visitor.at("/stage", stage="train"))
        assert (answer.status_code, "Something went wrong" in answer.text, SECRET in answer.text) == (500, True, False)
        assert re.fullmatch(r"A request ended with an error: ZeroDivisionError at .*test_security.py:\d+", caplog.messages[-1])
        assert SECRET not in caplog.text

    def test_the_store_s_errors_are_told_without_a_traceback(self, visitor: Browser) -> None:
        answer = visitor.get(visitor.at("/version", stage="train", version=99))
        assert answer.status_code == 404
        assert "ersion 99 of stage train" in answer.text
        assert "Traceback" not in answer.text

    def test_with_tls_other_servers_of_the_host_stay_as_they_are(self, cm: CheckpointManager) -> None:
        browser = dashboard_of(cm, is_encrypted=True).browser()
        assert "strict-transport-security" not in browser.get("/login").headers


class TestRequests:
    @pytest.mark.parametrize("path", ["/login", "/logout"])
    def test_a_huge_one_is_refused(self, visitor: Browser, path: str) -> None:
        answer = visitor.post(path, {"token": "x" * guard.MAX_BODY_BYTES})
        assert answer.status_code == 413

    def test_a_huge_one_of_unknown_length_is_refused(self, visitor: Browser) -> None:
        pieces = (b"token=" + b"x" * 1024 for _ in range(100))
        headers = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
        assert visitor.client.post("/login", content=pieces, headers=headers).status_code == 413

    def test_many_fields_are_refused(self, visitor: Browser) -> None:
        assert visitor.post("/login", {f"f{number}": "" for number in range(200)}).status_code == 400

    @pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
    def test_only_forms_are_read(self, visitor: Browser, kind: str) -> None:
        answer = visitor.client.post(
            "/logout", content=b'{"form": 1}', headers={"sec-fetch-site": "same-origin", "content-type": kind}
        )
        assert answer.status_code == 415

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
    def test_other_methods_are_refused(self, visitor: Browser, method: str) -> None:
        assert visitor.client.request(method, "/").status_code == 405

    @pytest.mark.parametrize(
        "path",
        [
            "/s/{store}/version?stage=train&version=x",
            "/s/{store}/version?stage=train&version=" + "9" * 5000,
            "/s/{store}/version?stage=train&version=" + "0" * 5000 + "1",
            "/s/{store}/version?stage=train",
            "/s/{store}/stage?stage=" + "x" * 300,
            "/s/{store}/stage",
        ],
    )
    def test_what_makes_no_sense_is_refused(self, visitor: Browser, path: str) -> None:
        assert visitor.get(path.format(store=visitor.store)).status_code == 400

    @pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fapp.py", "/static/"])
    def test_no_other_file_is_served(self, visitor: Browser, path: str) -> None:
        assert visitor.get(path).status_code in {404, 405}

    def test_a_get_changes_nothing(self, visitor: Browser) -> None:
        for path in ("/logout", visitor.at("/reveal"), visitor.at("/hide"), visitor.at("/data"), visitor.at("/attachment")):
            assert visitor.get(path).status_code == 405


def test_what_is_not_a_request_of_http_reaches_no_page() -> None:
    """No WebSockets, and no lifespan."""

    async def never(*_: object) -> None:
        raise AssertionError

    asyncio.run(guard.Guard(never, lambda _: True, lambda _: None)({"type": "websocket"}, never, never))
