"""The application: its addresses, and what every page has in common.

Each page is a function that runs in a thread, because reading a store may wait for a disk or a network. Before it is called,
the session is known and may do what the page needs; a change has the form token of the session, too.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from checkpoint_manager.dashboard import events, filters
from checkpoint_manager.dashboard.auth import SESSION_SECONDS, TooManyTriesError
from checkpoint_manager.dashboard.guard import Guard
from checkpoint_manager.dashboard.pace import PACE
from checkpoint_manager.dashboard.views import (
    changes,
    diff,
    download,
    numbers,
    pipeline_restore,
    pipelines,
    retention,
    stage,
    upkeep,
    version,
)
from checkpoint_manager.dashboard.views.call import Call, RefusedError, fields_of
from checkpoint_manager.errors import (
    ArgumentError,
    CheckpointError,
    CheckpointNotFoundError,
    IntegrityError,
    LockTimeoutError,
    RollbackError,
    StageNameError,
    TagError,
    VersionConflictError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from checkpoint_manager.dashboard.auth import Session
    from checkpoint_manager.dashboard.views.call import Site

_FIRST_PAGE_SECONDS = 3.0
"""How long after the start a browser has asked for its first page, as a rule."""
_HERE = os.path.dirname(os.path.abspath(__file__))
_STATUS: tuple[tuple[type[CheckpointError], int], ...] = (
    (CheckpointNotFoundError, 404),
    (VersionConflictError, 409),
    (StageNameError, 400),
    (TagError, 400),
    (ArgumentError, 400),
    (LockTimeoutError, 503),
    (IntegrityError, 502),
    (RollbackError, 502),
)


@dataclass(frozen=True, slots=True)
class _Page:
    """One address.

    Attributes:
        path: The address.
        show: Answers it.
        post: Whether it is sent as a form, with the token of its session.
        read: Whether its session must be allowed to read data.
        change: Whether its session must be allowed to make changes.
    """

    path: str
    show: Callable[[Call], Response]
    post: bool = False
    read: bool = False
    change: bool = False


_PAGES = (
    _Page("/", pipelines.show_all),
    _Page("/s/{store}", pipelines.show_store),
    _Page("/s/{store}/stage", stage.show),
    _Page("/s/{store}/version", version.show),
    _Page("/s/{store}/reveal", version.reveal, post=True, read=True),
    _Page("/s/{store}/hide", version.hide, post=True),
    _Page("/s/{store}/data", version.show_part, post=True, read=True),
    _Page("/s/{store}/attachment", download.send, post=True, read=True),
    _Page("/s/{store}/diff", diff.show),
    _Page("/s/{store}/diff/reveal", diff.reveal, post=True, read=True),
    _Page("/s/{store}/numbers", numbers.show, read=True),
    _Page("/s/{store}/numbers/offer", numbers.offer, post=True, read=True),
    _Page("/s/{store}/numbers/chart", numbers.chart, post=True, read=True),
    _Page("/s/{store}/restore/plan", changes.plan_restore, change=True),
    _Page("/s/{store}/restore", changes.restore, post=True, change=True),
    _Page("/s/{store}/pipeline/plan", pipeline_restore.plan, change=True),
    _Page("/s/{store}/pipeline/restore", pipeline_restore.restore, post=True, change=True),
    _Page("/s/{store}/clear/plan", changes.plan_clear, change=True),
    _Page("/s/{store}/clear", changes.clear, post=True, change=True),
    _Page("/s/{store}/tag/plan", changes.plan_tag, change=True),
    _Page("/s/{store}/tag", changes.tag, post=True, change=True),
    _Page("/s/{store}/untag/plan", changes.plan_untag, change=True),
    _Page("/s/{store}/untag", changes.untag, post=True, change=True),
    _Page("/s/{store}/retention", retention.show),
    _Page("/s/{store}/prune", retention.prune, post=True, change=True),
    _Page("/s/{store}/keys", upkeep.keys),
    _Page("/s/{store}/health", upkeep.health),
    _Page("/s/{store}/verify", upkeep.verify, post=True, change=True),
    _Page("/s/{store}/examine", upkeep.examine, post=True, change=True),
    _Page("/activity", upkeep.activity),
    _Page("/link", upkeep.ask_link),
    _Page("/link", upkeep.make_link, post=True),
)


def make_templates() -> Environment:
    """Return the templates. All that is put into them is escaped."""
    templates = Environment(
        loader=FileSystemLoader(os.path.join(_HERE, "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(filters.FILTERS)
    return templates


def compile_templates(templates: Environment) -> None:
    """Compile all templates, after a browser has asked for its first page, and while no page is being made."""
    time.sleep(_FIRST_PAGE_SECONDS)
    for name in templates.list_templates():
        PACE.give_way()
        templates.get_template(name)


def make_app(site: Site, is_own: Callable[[str], bool]) -> ASGIApp:
    """Return the application.

    Args:
        site: What its requests share.
        is_own: Returns whether a ``Host`` is one of this server.
    """
    routes = [
        Route("/login", _login_page(site), methods=["GET"]),
        Route("/login", _log_in(site), methods=["POST"]),
        Route("/logout", _answering(site, _Page("/logout", _log_out, post=True)), methods=["POST"]),
        Route("/events", events.answering(site, lambda request: _session(site, request, is_used=False)), methods=["GET"]),
        Mount("/static", StaticFiles(directory=os.path.join(_HERE, "static"))),
        *(Route(page.path, _answering(site, page), methods=["POST" if page.post else "GET"]) for page in _PAGES),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _lost(site), 405: _lost(site), Exception: _broken(site)})

    def refused(what: str) -> None:
        site.activity.note("refused", what)

    return Guard(app, is_own, refused)


def _answering(site: Site, page: _Page) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Return what answers the requests for one address."""

    async def answer(request: Request) -> Response:
        session = _session(site, request)
        if session is None:
            return _please_log_in(site, request)
        call = Call(site, request, session)
        try:
            if page.post:
                call = Call(site, request, session, await _form(call))
            _check_role(call, page)
            return await run_in_threadpool(_made, page, call)
        except RefusedError as refusal:
            return call.page("refused.html", refusal.status, title=refusal.title, text=refusal.text)
        except CheckpointError as error:
            status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
            return call.page("refused.html", status, title=error.message, text=call.store.hint_of(error))

    return answer


def _made(page: _Page, call: Call) -> Response:
    with PACE.making_a_page():
        return page.show(call)


def _session(site: Site, request: Request, *, is_used: bool = True) -> Session | None:
    """Return the session of a request, or None. What a page that is left open asks for by itself is not use."""
    is_used = is_used and "x-by-itself" not in request.headers
    return site.logins.session(request.cookies.get(site.cookie, ""), is_used=is_used)


async def _form(call: Call) -> dict[str, str]:
    """Return the fields of a form, if it is one of this session.

    Raises:
        RefusedError: It is not.
    """
    form = fields_of(await call.request.body(), call.request.headers.get("content-type", ""))
    if not call.session.owns(form.pop("form", "")):
        call.note("refused", "a form that is not of this session")
        raise RefusedError(403, "This form belongs to another session", "Open the page again, and send the form from there.")
    return form


def _check_role(call: Call, page: _Page) -> None:
    """Raise an error if the session may not do what a page does."""
    role = call.session.role
    if page.read and not role.read:
        call.note("refused", "to read data", stage=call.asked("stage"))
        raise RefusedError(403, "Your link does not allow reading data", _how_to("--allow-read"))
    if page.change and not role.change:
        call.note("refused", "to make a change", stage=call.asked("stage"))
        raise RefusedError(403, "Your link does not allow changes", _how_to("--allow-change"))


def _how_to(option: str) -> str:
    return f"To allow it, start the dashboard with {option}, and log in with the link that it then prints."


def _log_out(call: Call) -> Response:
    call.site.logins.log_out(call.session)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(call.site.cookie, httponly=True, samesite="strict", secure=call.site.is_encrypted)
    return response


def _please_log_in(site: Site, request: Request, status: int = 401, problem: str = "") -> Response:
    """Return the page that asks for a token. A link from another site comes without the cookie, and is followed once more."""
    to = _inside(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    is_link = to != "/" and request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site"
    values = {"problem": problem, "to": to if request.method == "GET" else "/", "is_link": is_link}
    return HTMLResponse(site.templates.get_template("login.html").render(values), status)


def _login_page(site: Site) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(request: Request) -> Response:
        return _please_log_in(site, request, 200)

    return answer


def _log_in(site: Site) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(request: Request) -> Response:
        try:
            form = fields_of(await request.body(), request.headers.get("content-type", ""))
            found = site.logins.log_in(form.get("token", "").strip())
        except RefusedError as refusal:
            return _please_log_in(site, request, refusal.status, refusal.title)
        except TooManyTriesError as error:
            site.activity.note("refused", "a login, after too many tries")
            answer = _please_log_in(site, request, 429, f"Too many tries. Wait {error.seconds:.0f} seconds.")
            answer.headers["retry-after"] = f"{error.seconds:.0f}"
            return answer
        if found is None:
            site.activity.note("refused", "a login with a token that is not known, was used, or is too old")
            return _please_log_in(site, request, 403, "This token is not known, was used already, or is too old.")
        session, cookie = found
        site.activity.note("login", f"may {session.role}", session=session)
        response = RedirectResponse(_inside(form.get("to", "")), 303)
        options = {"httponly": True, "secure": site.is_encrypted, "path": "/", "max_age": int(SESSION_SECONDS)}
        response.set_cookie(site.cookie, cookie, samesite="strict", **options)  # type: ignore[arg-type]  # a dict of several types
        return response

    return answer


def _inside(address: str) -> str:
    """Return an address if it is one of this server, or else that of the first page."""
    is_inside = address.startswith("/") and not address.startswith(("//", "/\\", "/login")) and address.isprintable()
    return address if is_inside else "/"


def _broken(site: Site) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    async def answer(request: Request, _: Exception) -> Response:
        """Answer without a word of the error, which may hold data; the guard logs where it was raised."""
        session = _session(site, request)
        if session is None:
            return _please_log_in(site, request, 500)
        text = "This is a bug in the dashboard. Its log names the line of code."
        return Call(site, request, session).page("refused.html", 500, title="Something went wrong", text=text)

    return answer


def _lost(site: Site) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        session = _session(site, request)
        if session is None:
            return _please_log_in(site, request)
        status = getattr(error, "status_code", 404)
        title = "Page not found" if status == 404 else "Method not allowed"
        return Call(site, request, session).page("refused.html", status, title=title, text="")

    return answer
