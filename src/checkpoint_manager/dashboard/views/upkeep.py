"""The pages about a store as a whole, its keys and its health, and the page of what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager.dashboard.auth import Role
from checkpoint_manager.dashboard.stores import shown_state

if TYPE_CHECKING:
    from datetime import datetime

    from starlette.responses import Response

    from checkpoint_manager.dashboard.views.call import Call

_MOST_FINDINGS, _MOST_ROWS = 200, 200


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


class _Row(NamedTuple):
    at: datetime | None
    kind: str
    what: str
    who: str
    store: str
    stage: str
    version: int | None
    reason: str


def activity(call: Call) -> Response:
    """Show what was done with this dashboard, and what was saved last of each stage, as one feed."""
    rows = [
        _Row(
            event.at,
            event.kind,
            event.what,
            "" if event.session is None else f"session {event.session}",
            event.store,
            event.stage,
            event.version,
            event.reason,
        )
        for event in call.site.activity.newest()
    ]
    for store in call.site.stores.values():
        rows += [
            _Row(
                cell.at,
                "saved",
                f"{shown_state(cell.version)}: version {cell.version.number}",
                "" if cell.version.origin is None else f"{cell.version.origin.user}@{cell.version.origin.host}",
                store.id,
                cell.stage,
                cell.version.number,
                str(cell.version.metadata.get("reason", "")),
            )
            for cell in store.known()
            if cell.version is not None
        ]
    rows.sort(key=lambda row: str(row.at), reverse=True)
    kind = call.asked("kind")
    chosen = [row for row in rows if kind in {"", row.kind}]
    return call.page(
        "activity.html",
        rows=chosen[:_MOST_ROWS],
        kind=kind,
        names={store.id: store.name for store in call.site.stores.values()},
    )


def make_link(call: Call) -> Response:
    """Make a link that works once, for somebody else, who may do no more than this session."""
    wanted = Role(read=call.asked("read") == "yes", change=call.asked("change") == "yes")
    role = wanted & call.session.role
    link = f"{call.site.address}/login#{call.site.logins.new_token(role)}"
    call.note("change", f"made a link with which one can {role}")
    return call.page("link.html", link=link, role=role)
