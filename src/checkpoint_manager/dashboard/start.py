"""Putting a dashboard together, and serving it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager.dashboard import background, server
from checkpoint_manager.dashboard.activity import Activity
from checkpoint_manager.dashboard.app import compile_templates, make_app, make_templates
from checkpoint_manager.dashboard.auth import Logins
from checkpoint_manager.dashboard.stores import stores_by_id
from checkpoint_manager.dashboard.views.call import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp

    from checkpoint_manager.dashboard.server import Place
    from checkpoint_manager.dashboard.stores import Check, ShownStore


def site(shown: Iterable[ShownStore], place: Place, examine: Callable[[str], Iterable[Check]]) -> Site:
    """Return what all requests share.

    Args:
        shown: The stores.
        place: Where the dashboard listens.
        examine: Looks at the set-up of the store at a location.
    """
    is_encrypted = place.certificate is not None
    port = place.address.rpartition(":")[2]
    cookie = "__Host-checkpoints" if is_encrypted else f"checkpoints-{port}"  # browsers don't tell ports apart
    return Site(stores_by_id(shown), Logins(), Activity(), make_templates(), cookie, place.address, is_encrypted, examine)


def application(site: Site, place: Place) -> ASGIApp:
    """Return what answers requests for a place."""
    return make_app(site, place.is_own)


def serve(site: Site, place: Place, started: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        site: What all requests share.
        place: Where.
        started: Called once requests are answered.
    """

    def begin() -> None:
        started()
        background.start("templates", lambda: compile_templates(site.templates))

    server.serve(application(site, place), place, begin)
