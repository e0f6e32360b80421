"""``dashboard``: serve pages that show stores to the browsers of this host."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
import threading
import time
import webbrowser
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.hints import name_store
from checkpoint_manager.cli.options import Number, several_stores_options
from checkpoint_manager.cli.output import say, write_json, write_line
from checkpoint_manager.errors import CheckpointError, KeyUnavailableError, WrongKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.dashboard.auth import Role
    from checkpoint_manager.dashboard.server import Certificate, Place
    from checkpoint_manager.dashboard.stores import Check, ShownStore

_SECONDS_TO_OPEN = 30.0
"""How long a browser may take to read the file that leads to the link, which works once."""


@click.command()
@click.option("--allow-read", is_flag=True, help="Let the browser reveal data; each time is logged.")
@click.option(
    "--allow-change", is_flag=True, help="Let the browser restore, clear, tag, prune and verify; each time is logged."
)
@click.option("--port", type=Number(0, 65_535), metavar="N", help="The port on the loopback address. Default: 8710, or any.")
@click.option("--unix", "socket", metavar="PATH", help="Listen on a unix socket that only you can open, instead of a port.")
@click.option("--listen", metavar="ADDRESS", help="Listen where other hosts reach it. Needs --tls-cert and --host-name.")
@click.option(
    "--host-name", "names", multiple=True, metavar="NAME", help="With --listen: a name of this host. May be repeated."
)
@click.option("--tls-cert", metavar="FILE", help="The certificate, in PEM.")
@click.option("--tls-key", metavar="FILE", help="The key of the certificate, in PEM, if it is not in the same file.")
@click.option("--no-browser", is_flag=True, help="Don't open a browser; the link is printed in any case.")
@several_stores_options
def dashboard(  # noqa: PLR0913  # each is an option of its own
    accesses: list[Access],
    *,
    is_list: bool,  # noqa: ARG001  # passed by the options of several stores
    allow_read: bool,
    allow_change: bool,
    port: int | None,
    socket: str | None,
    listen: str | None,
    names: tuple[str, ...],
    tls_cert: str | None,
    tls_key: str | None,
    no_browser: bool,
    as_json: bool,
) -> None:
    """Show stores in a browser: pipelines, stages, versions, and what needs attention.

    It prints a link that works once, and opens it. Without --allow-read and --allow-change, that shows metadata only; with one
    of them, a second link is printed that shows metadata only, for somebody else.

    It answers this host only, and no other site in its browsers. What is revealed, changed or refused is logged to stderr.
    Ctrl-C ends it, and all its sessions.

    \b
    Examples:
      checkpoint-manager dashboard
      checkpoint-manager dashboard --scan pipelines --allow-read
      checkpoint-manager dashboard --unix ~/dashboard.sock --no-browser
    """
    if sum(each is not None for each in (port if listen is None else None, socket, listen)) > 1:
        raise UsageError("--port, --unix and --listen name different places", hint="Give one of them")
    try:
        from checkpoint_manager.dashboard import server, start  # noqa: PLC0415  # an extra
        from checkpoint_manager.dashboard.auth import Role  # noqa: PLC0415  # likewise
    except ModuleNotFoundError as error:
        if error.name not in {"starlette", "uvicorn", "jinja2", "h11", "anyio", "markupsafe"}:
            raise
        message = f"the dashboard needs {error.name}"
        raise UsageError(message, hint="Run: pip install 'checkpoint-manager[cli,dashboard]'") from None
    certificate = None if tls_cert is None else server.Certificate(tls_cert, tls_key)
    shown = list(_shown(accesses))
    _check_key(shown)
    place = _place(port, socket, listen, names, certificate)
    grants = Role(read=allow_read, change=allow_change)
    site = start.site(shown, place, functools.partial(_examine, {access.location: access for access in accesses}))
    _log_to_stderr()
    links = [(role, f"{place.address}/login#{site.logins.new_token(role)}") for role in _roles(grants)]
    tell = functools.partial(_tell, links, place, as_json=as_json, is_opened=not no_browser and socket is None)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how one ends it
        start.serve(site, place, tell)


def _shown(accesses: list[Access]) -> Iterator[ShownStore]:
    """Yield the stores to show. A key that is asked for is asked for once.

    Raises:
        NoStoreError: There is no store at a location.
    """
    from checkpoint_manager.dashboard.stores import ShownStore  # noqa: PLC0415  # loads the library; --help does not wait

    for access in accesses:
        access.check_there()
    secret = accesses[0].key_given()
    for access in accesses:
        yield ShownStore(access.location, functools.partial(access.open, key=secret))


def _check_key(shown: list[ShownStore]) -> None:
    """Raise if the key opens none of the stores. Other trouble of a store is what the pages show.

    Raises:
        KeyUnavailableError: There is no key.
        WrongKeyError: It opens no slot.
    """
    refused = None
    for store in shown:
        try:
            store.cm  # noqa: B018  # stays open for the pages
        except (KeyUnavailableError, WrongKeyError) as error:
            refused = refused or error
        except CheckpointError:
            return
        else:
            return
    if refused is not None:
        raise refused


def _place(
    port: int | None, socket: str | None, listen: str | None, names: tuple[str, ...], certificate: Certificate | None
) -> Place:
    """Listen where the options say."""
    from checkpoint_manager.dashboard import server  # noqa: PLC0415  # an extra

    if socket is not None:
        return server.on_unix_socket(os.path.expanduser(socket))
    if listen is not None:
        return server.elsewhere(listen, server.DEFAULT_PORT if port is None else port, names, certificate)
    return server.on_loopback(port)


def _examine(accesses: dict[str, Access], location: str) -> Iterator[Check]:
    """Yield what the doctor finds."""
    from checkpoint_manager.cli.commands.doctor.examine import examine  # noqa: PLC0415  # loads the library; --help does not wait
    from checkpoint_manager.dashboard.stores import Check  # noqa: PLC0415  # loads the library; --help does not

    access = accesses[location]
    if access.key is not None and access.key.kind in {"prompt", "fd"}:  # what can be read once is not read again
        access = replace(access, key=None)
    name_store(access.shown)  # for the commands that it advises
    for each in examine(access):
        yield Check(each.topic, each.state, each.found, each.next)


def _roles(grants: Role) -> list[Role]:
    """Return the roles that links are made for: all that is granted, and metadata only."""
    return list(dict.fromkeys([grants, type(grants)()]))


def _tell(links: list[tuple[Role, str]], place: Place, *, as_json: bool, is_opened: bool) -> None:
    """Print the links, and open the first one."""
    if as_json:
        fields = [{"url": link, "read": role.read, "change": role.change} for role, link in links]
        write_json("dashboard", {"links": fields})
    for role, link in links if not as_json else ():
        say(f"this link works once; with it, one can {role}:")
        write_line(link)
    if place.listener.family.name == "AF_UNIX":
        path = printable(str(place.listener.getsockname()))
        say(f"it listens on {path}; forward a port to it, such as 8710, and add that port to the link")
    if is_opened:
        _open(links[0][1])


def _open(link: str) -> None:
    """Open a link in a browser by way of a file that only this user can read: other users can read its command line."""
    descriptor, path = tempfile.mkstemp(prefix="checkpoints-", suffix=".html")
    with os.fdopen(descriptor, "w") as file:
        file.write(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={link}">\n')
    removal = threading.Timer(_SECONDS_TO_OPEN, _remove, [path])
    removal.daemon = True
    removal.start()
    # In a thread, so that the server goes on: webbrowser waits for a browser that runs in a terminal or is slow to start.
    threading.Thread(target=webbrowser.open, args=(f"file://{path}",), name="browser", daemon=True).start()


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _log_to_stderr() -> None:
    logger = logging.getLogger("checkpoint_manager.dashboard")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(_Said())


class _Said(logging.Handler):
    """Writes log records to stderr as lines of this program, with the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        say(f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.getMessage()}")
