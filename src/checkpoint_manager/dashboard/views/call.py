"""One request as a page sees it: who asks, for what, and how to answer."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from starlette.responses import HTMLResponse, RedirectResponse, Response

from checkpoint_manager.dashboard.hints import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from jinja2 import Environment
    from starlette.requests import Request

    from checkpoint_manager import Version
    from checkpoint_manager.dashboard.activity import Activity, Kind
    from checkpoint_manager.dashboard.auth import Logins, Session
    from checkpoint_manager.dashboard.stores import Check, ShownStore

MOST_FIELDS = 100
MOST_BYTES = 64 * 1024 * 1024
"""How much data is read for a page: its encoded size, without arrays, which are not read."""
_MAX_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Site:
    """What all requests share.

    Attributes:
        stores: The stores, by their ids.
        logins: Who may do what.
        activity: What was done.
        templates: The templates of the pages.
        cookie: The name of the cookie.
        address: The start of all links.
        is_encrypted: Whether TLS is used.
        examine: Looks at the set-up of the store at a location.
    """

    stores: Mapping[str, ShownStore]
    logins: Logins
    activity: Activity
    templates: Environment
    cookie: str
    address: str
    is_encrypted: bool
    examine: Callable[[str], Iterable[Check]]


class RefusedError(Exception):
    """A request can't be met. It is answered with a page that says why."""

    def __init__(self, status: int, title: str, text: str = "") -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text


def url(path: str, **query: object) -> str:
    """Return a path with a query. Values that are None or empty are left out."""
    given = {name: str(value) for name, value in query.items() if value not in {None, ""}}
    return f"{path}?{urlencode(given, errors='surrogatepass')}" if given else path


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        site: What all requests share.
        request: The request itself.
        session: Who asks.
        form: The fields of its body.
    """

    site: Site
    request: Request
    session: Session
    form: Mapping[str, str] = field(default_factory=dict)

    # What is asked for

    def asked(self, name: str, default: str = "") -> str:
        """Return a field of the form or, if it has none, of the query."""
        return self.form.get(name, self.request.query_params.get(name, default))

    def number(self, name: str) -> int | None:
        """Return a field that is a number, or None if it is not there.

        Raises:
            RefusedError: It is not a number.
        """
        text = self.asked(name)
        if not text:
            return None
        if not (text.isascii() and text.isdecimal()) or len(text) > _MAX_DIGITS:
            raise RefusedError(400, "Not a number", f"The field {name} has to be a whole number.")
        return int(text)

    @property
    def store(self) -> ShownStore:
        """The store that the path names.

        Raises:
            RefusedError: No store is shown there.
        """
        found = self.site.stores.get(self.request.path_params.get("store", ""))
        if found is None:
            raise RefusedError(404, "Store not found", "This dashboard shows no store at this address.")
        return found

    @property
    def stage(self) -> str:
        """The stage that is asked for.

        Raises:
            RefusedError: No stage is given.
        """
        stage = self.asked("stage")
        if not stage:
            raise RefusedError(400, "No stage is given")
        return stage

    @property
    def trail(self) -> list[tuple[str, str]]:
        """The pages above the one that was asked for, each with its address, as far as there are any."""
        store, stage = self.site.stores.get(self.request.path_params.get("store", "")), self.asked("stage")
        found = [("Pipelines", "/")]
        if store is not None:
            found.append((store.name, self.at("")))
            is_above = stage and not self.request.url.path.endswith("/stage")
            found += [(stage, self.at("/stage", stage=stage))] if is_above else []
        return found

    def at(self, page: str, **query: object) -> str:
        """Return the address of a page of this store."""
        return url(f"/s/{self.store.id}{page}", **query)

    def command(self, words: str, stage: str | None = None) -> str:
        """Return a command for this store, as it can be typed; ``STAGE`` in it stands for the stage."""
        return command(words if stage is None else words.replace("STAGE", shlex.quote(stage)), self.store.location)

    # Answers

    def page(self, template: str, status: int = 200, **values: Any) -> Response:  # noqa: ANN401  # whatever a template shows
        """Return a page."""
        notice, self.session.notice = self.session.notice, ""
        common = {"call": self, "session": self.session, "site": self.site, "notice": notice, "url": url}
        return HTMLResponse(self.site.templates.get_template(template).render(common | values), status)

    def go(self, address: str, notice: str = "") -> Response:
        """Send the browser to another page, which shows a notice once."""
        self.session.notice = notice
        return RedirectResponse(address, 303)

    def note(self, kind: Kind, what: str, *, stage: str = "", version: int | None = None, reason: str = "") -> None:
        """Log what is done."""
        store = self.request.path_params.get("store", "")
        self.site.activity.note(kind, what, session=self.session, store=store, stage=stage, version=version, reason=reason)


def version_of(call: Call) -> Version:
    """Return the version that is asked for, without its data.

    Raises:
        RefusedError: No version is given.
    """
    number = call.number("version")
    if number is None:
        raise RefusedError(400, "No version is given")
    return call.store.cm.get_version(call.stage, number)


def is_revealed(call: Call, version: Version) -> bool:
    """Return whether this session has revealed the data of a version, and may still read it."""
    return call.session.role.read and (call.store.id, version.stage, version.number) in call.session.revealed


def check_size(command: str, *versions: Version) -> None:
    """Raise an error if the data of versions is too large for a page.

    Args:
        command: The command that shows it, as it can be typed.
        versions: The versions.

    Raises:
        RefusedError: It is too large.
    """
    if sum((version.size or 0) - version.arrays_size for version in versions) > MOST_BYTES:
        text = f"A page shows up to {MOST_BYTES >> 20} MiB. Use the command line: {command}"
        raise RefusedError(413, "The data is too large for a page", text)


def fields_of(body: bytes, content_type: str) -> dict[str, str]:
    """Return the fields of a form. Browsers send a line break as CR LF, and names hold LF.

    Raises:
        RefusedError: It is not a form, or has too many fields.
    """
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise RefusedError(415, "This is not a form of this dashboard")
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise RefusedError(400, "The form can't be read") from None
    return {name: value.replace("\r\n", "\n") for name, value in fields}
