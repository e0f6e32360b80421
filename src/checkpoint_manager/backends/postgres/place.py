"""The URL of a store in PostgreSQL: what libpq is given, the schema, and the location that is shown.

::

    postgresql://user@host:port/database?schema=checkpoints

All but ``schema`` is libpq's: several hosts, ``sslmode``, ``service``, and the rest of
https://www.postgresql.org/docs/current/libpq-connect.html. What the URL leaves out, libpq takes from its own places: the
environment, ``~/.pgpass``, a service file. The location names host, port, user and database even so, because another
environment would lead to another store.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from checkpoint_manager.errors import LocationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMA = "checkpoints"
_MAX_SCHEMA_BYTES = 63
_NAME = re.compile(r"[a-z_]{1,40}")
_SECRETS = {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
_IN_AUTHORITY = ("user", "host", "port", "dbname")
_DEFAULTS = {
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "fallback_application_name": "checkpoint_manager",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""A connection whose other end has vanished is noticed within a minute, and not after the two hours of most systems."""


class Place(NamedTuple):
    """Where a store is.

    Attributes:
        location: Its URL without secrets.
        schema: The schema of its tables.
        parameters: What libpq is given; may hold a password.
    """

    location: str
    schema: str
    parameters: Mapping[str, str]

    def __repr__(self) -> str:
        """Leave out the parameters."""
        return f"Place({self.location!r})"


def parse(url: str) -> Place:
    """Return the place that a URL names.

    Raises:
        LocationError: It is not a URL of libpq, or names no schema that can be used.
    """
    base, _, query = url.partition("?")
    pairs = query.split("&") if query else []
    named = [pair for pair in pairs if pair.partition("=")[0] == "schema"]
    rest = "&".join(pair for pair in pairs if pair not in named)
    schema = dict(parse_qsl("&".join(named), keep_blank_values=True)).get("schema", _SCHEMA)
    if not schema or len(schema.encode()) > _MAX_SCHEMA_BYTES or "\0" in schema or schema.startswith("pg_"):
        message = "the schema in the URL of the database is empty, longer than 63 bytes, or begins with pg_"
        raise LocationError(message, hint="Write ?schema=checkpoints at the end of the URL")
    given = _given(f"postgresql:{base.partition(':')[2]}{'?' if rest else ''}{rest}")
    if given is None:
        raise _unreadable([pair.partition("=")[0] for pair in pairs] if "@" not in query else [])
    several = {"target_session_attrs": "read-write"} if "," in given.get("host", "") else {}
    return Place(_location(given, schema), schema, {**_DEFAULTS, **several, **given})


def _given(url: str) -> dict[str, str] | None:
    """Return the parameters that the URL names; None if it is not valid. libpq's message could hold the password."""
    try:
        return {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    except (psycopg.Error, UnicodeError):
        return None


def _unreadable(names: list[str]) -> LocationError:
    """Return the error for a URL that is not valid: the first parameter that libpq does not know, if it may be shown."""
    known = {"schema", *(option.keyword.decode() for option in pq.Conninfo.get_defaults())}
    for name in names:
        if name not in known and _NAME.fullmatch(name):
            message = f"the URL of the database has the parameter {name}, which PostgreSQL's client library does not know"
            return LocationError(message, hint="Give schema, and parameters of libpq, such as sslmode=verify-full")
    message = "the URL of the database is not one that PostgreSQL's client library reads"
    hint = "Write postgresql://user@host:5432/database?schema=checkpoints, and %25 for a percent sign"
    return LocationError(message, hint=hint)


def _location(given: Mapping[str, str], schema: str) -> str:
    defaults = {option.keyword.decode(): option.val.decode() for option in pq.Conninfo.get_defaults() if option.val}
    named = {**({} if "service" in given else defaults), **given}
    user, host, port = (named.get(name, "") for name in _IN_AUTHORITY[:3])
    database = named.get("dbname", "" if "service" in given else user)
    others = {name: value for name, value in given.items() if name not in {*_IN_AUTHORITY, *_SECRETS}}
    authority = f"{quote(user, safe='')}@" if user else ""
    ports = port.split(",")
    hosts = host.split(",") if host else []
    if hosts and len(ports) in {1, len(hosts)}:
        ports = ports * len(hosts) if len(ports) == 1 else ports
        authority += ",".join(
            f"{f'[{each}]' if ':' in each else quote(each, safe='')}{f':{number}' if number else ''}"
            for each, number in zip(hosts, ports, strict=True)
        )
    else:
        others |= {"host": host} if host else {}
        others |= {"port": port} if port else {}
    return f"postgresql://{authority}/{quote(database, safe='')}?{urlencode({**others, 'schema': schema})}"
