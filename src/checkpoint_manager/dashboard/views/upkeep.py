"""The pages about a store as a whole, its keys and its health, and the page of what was done."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager._format.notes import read_run
from checkpoint_manager.dashboard.auth import Role
from checkpoint_manager.dashboard.filters import plural
from checkpoint_manager.dashboard.stores import shown_state
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from starlette.responses import Response

    from checkpoint_manager import Version
    from checkpoint_manager.dashboard.stores import ShownStore
    from checkpoint_manager.dashboard.views.call import Call

_MOST_FINDINGS, _MOST_ROWS = 200, 100
_FOLDED = 4
"""From so many stages on that one run saved, they are shown as one row."""


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
    stage: str = ""
    version: int | None = None
    reason: str = ""
    stages: Sequence[str] = ()


def activity(call: Call) -> Response:
    """Show what was done in this dashboard, and the newest version of each stage, as one feed."""
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
        with contextlib.suppress(CheckpointError):  # told on its own page
            store.overview()
        rows += _saved(store)
    rows.sort(key=lambda row: str(row.at), reverse=True)
    kind = call.asked("kind")
    chosen = [row for row in rows if kind in {"", row.kind}]
    return call.page(
        "activity.html",
        rows=chosen[:_MOST_ROWS],
        more=len(chosen) - _MOST_ROWS,
        kind=kind,
        names={store.id: store.name for store in call.site.stores.values()},
    )


def _saved(store: ShownStore) -> list[_Row]:
    """Return a row for the newest version of each stage; one row for many stages of the same run, or without one, day."""
    runs: dict[tuple[str, str, str, str], list[Version]] = {}
    for cell in store.known():
        if cell.version is not None:
            runs.setdefault(_run_of(cell.version), []).append(cell.version)
    rows = []
    for (_, state, who, reason), versions in runs.items():
        if state == "done" and len(versions) >= _FOLDED:
            newest = max(versions, key=lambda version: str(version.created_at))
            names = sorted(version.stage for version in versions)
            what = f"{plural(len(names), 'stage')} done"
            rows.append(_Row(newest.created_at, "saved", what, who, store.id, reason=reason, stages=names))
            continue
        for version in versions:
            what = f"version {version.number}: {state}"
            rows.append(_Row(version.created_at, "saved", what, who, store.id, version.stage, version.number, reason))
    return rows


def _run_of(version: Version) -> tuple[str, str, str, str]:
    """Return what the versions of a row have in common: the run or the day, the state, who saved them, and why."""
    run = read_run(version.metadata)
    day = "" if version.created_at is None else f"{version.created_at:%Y-%m-%d}"
    who = "" if version.origin is None else f"{version.origin.user}@{version.origin.host}"
    return day if run is None else run.id, shown_state(version), who, str(version.metadata.get("reason", ""))


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
