"""The pages about a store as a whole, its keys and its health, and the page of what was done."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager.dashboard import feed
from checkpoint_manager.dashboard.auth import Role
from checkpoint_manager.dashboard.views.call import RefusedError, url
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from starlette.responses import Response

    from checkpoint_manager.dashboard.views.call import Call

_MOST_FINDINGS, _MOST_ROWS = 200, 100


def keys(call: Call) -> Response:
    """Show the key slots. Nothing in them is secret."""
    keys = call.store.cm.keys
    return call.page("keys.html", slots=keys.list(), is_rotating=keys.is_rotating())


def health(call: Call) -> Response:
    """Show what the last verification and the last look at the set-up found."""
    report, running = call.store.report, call.store.verification
    return call.page(
        "health.html",
        report=report,
        findings=[] if report is None else report.found.problems[:_MOST_FINDINGS],
        running=running,
        checks=call.store.checks,
    )


def verify(call: Call) -> Response:
    """Begin to verify the store, in a thread of its own."""
    quick = call.asked("quick") == "yes"
    if call.store.begin_verification(quick=quick):
        call.note("upkeep", f"began to verify the store{' without its attachments' if quick else ''}")
    return call.go(call.at("/health"))


def examine(call: Call) -> Response:
    """Look at the set-up of the store, as the doctor of the command line does."""
    call.store.checked(call.site.examine(call.store.location))
    call.note("upkeep", "checked the set-up")
    return call.go(call.at("/health"))


def activity(call: Call) -> Response:
    """Show what was done in this dashboard, and the versions of the stores, as one feed."""
    stores = [*call.site.stores.values()]
    for store in stores:
        with contextlib.suppress(CheckpointError):  # told on its own page
            store.overview()
    kind, start = call.asked("kind"), _start(call)
    found = feed.part(stores, call.site.activity.newest(), kind, start, _MOST_ROWS)
    end = found.end
    return call.page(
        "activity.html",
        rows=found.rows,
        older=end and url("/activity", kind=kind, before=end.at.isoformat(), **end._asdict() | {"at": None}),
        is_cut=found.is_cut,
        is_first=start is feed.START,
        is_complete=all(store.is_complete for store in stores),
        kind=kind,
        names={store.id: store.name for store in stores},
    )


def _start(call: Call) -> feed.Place:
    """Return where the part of the feed that is asked for begins.

    Raises:
        RefusedError: It is not a place in it.
    """
    before = call.asked("before")
    if not before:
        return feed.START
    try:
        at = datetime.fromisoformat(before)
        at = min(at if at.tzinfo is not None else at.replace(tzinfo=UTC), feed.START.at)
    except (ValueError, OverflowError):
        raise RefusedError(400, "Not a time", "The activity is shown before a time such as 2026-11-20T14:00.") from None
    return feed.Place(at, call.asked("store"), call.asked("stage"), call.number("version") or 0)


def ask_link(call: Call) -> Response:
    """Ask what a link for somebody else may allow."""
    return call.page("link.html", link="", role=None)


def make_link(call: Call) -> Response:
    """Make a link that works once, for somebody else, who may do no more than this session, and no longer."""
    wanted = Role(read=call.asked("read") == "yes", change=call.asked("change") == "yes")
    role = wanted & call.session.role
    link = f"{call.site.address}/login#{call.site.logins.new_token(role, call.session)}"
    call.note("change", f"made a link that allows its user to {role}")
    return call.page("link.html", link=link, role=role)
