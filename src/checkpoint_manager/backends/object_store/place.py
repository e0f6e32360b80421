"""From a URL to the bucket it names: ``s3://bucket/prefix?endpoint=http://127.0.0.1:7480&region=us-east-1&profile=lab``.

``gs://bucket/prefix`` is Google Cloud Storage, and ``az://container/prefix?account=NAME`` Azure. An ``endpoint`` is only
needed for other servers, such as emulators.

Credentials are never in the URL. For S3, they come from the environment (``AWS_ACCESS_KEY_ID`` and its kin), from the profile
in ``~/.aws/credentials`` that the URL or ``AWS_PROFILE`` names (else ``default``), or from where the machine gets them; for the
others, from where their own tools have them.
"""

from __future__ import annotations

import configparser
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from checkpoint_manager._text import printable
from checkpoint_manager.errors import LocationError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_REQUEST_SECONDS = 30
_CONNECT_SECONDS = 5
_RETRY_SECONDS = 60
"""For how long obstore tries a request again, unless its caller waits for less."""
_MORE_SECONDS = 1
"""How much longer than its caller a request waits, so that it is the caller who gives up: obstore does not tell why it did."""
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "s3": ("endpoint", "region", "profile"),
    "gs": ("endpoint",),
    "az": ("account", "endpoint"),
}
_OF_OBJECT_LOCK = {"retain_until", "retention", "object_lock", "legal_hold"}
_BUCKET = re.compile(r"[$A-Za-z0-9._-]+")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9._~:\[\]-]+(/[A-Za-z0-9._~%/-]*)?")
"""What obstore can send. Other characters make it panic."""
_IN_THE_ENVIRONMENT = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")


class Place(NamedTuple):
    """A bucket, and the beginning of the names of all objects in it that belong to the store.

    Attributes:
        store: The bucket, as obstore knows it.
        location: Its URL, in one form for all spellings, for messages; the same for all users.
        is_private: Requests are encrypted on their way, or do not leave this host.
    """

    store: S3Store | GCSStore | AzureStore
    location: str
    is_private: bool


def place_of(url: str, answer_seconds: float = _RETRY_SECONDS) -> Place:
    """Return the place that a URL names; nothing is asked of the server.

    Args:
        url: The URL.
        answer_seconds: How long the caller waits for an answer.

    Raises:
        LocationError: The URL names none, or has parts that are not known.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    path, _, query = rest.partition("?")
    bucket, _, prefix = path.partition("/")
    prefix = unquote(prefix).strip("/")
    shown = printable(f"{scheme}://{path}")
    if "@" in bucket or ":" in bucket:
        raise _with_credentials(scheme)
    if not bucket or "#" in rest or any(part in {"", ".", ".."} for part in prefix.split("/") if prefix):
        raise LocationError(f"{shown} names no bucket and prefix", hint=f"Write {scheme}://bucket/prefix")
    if not _BUCKET.fullmatch(bucket):
        message = f"{shown} has characters in the name of its bucket that none can have"
        raise LocationError(message, hint="Use letters, digits, hyphens, underscores and dots")
    parameters = _parameters(scheme, shown, query)
    endpoint = _endpoint(shown, parameters)
    if scheme == "az" and not parameters.get("account") and not os.environ.get("AZURE_STORAGE_ACCOUNT_NAME"):
        raise LocationError(f"{shown} names no account", hint="Write az://container/prefix?account=NAME")
    options = {"prefix": prefix or None, **_of_requests(endpoint, answer_seconds)}
    try:
        if scheme == "s3":
            store: S3Store | GCSStore | AzureStore = S3Store(bucket, **options, **_s3(shown, parameters, endpoint))
        elif scheme == "gs":
            store = GCSStore(bucket, **options | ({"base_url": endpoint} if endpoint else {}))
        else:
            settings: dict[str, Any] = {"account_name": parameters.get("account"), "endpoint": endpoint}
            store = AzureStore(bucket, **options, **{name: value for name, value in settings.items() if value})
    except BaseError as error:
        message = f"{shown} can't be opened: {printable(str(error).partition(chr(10))[0])}"
        raise LocationError(message, hint="Check the URL, and the credentials in the environment") from None
    kept = {name: parameters[name] for name in ("account",) if name in parameters} | (
        {"endpoint": endpoint} if endpoint else {}
    )
    location = f"{scheme}://{bucket}{'/' if prefix else ''}{quote(prefix)}{'?' if kept else ''}{urlencode(kept, safe=':/')}"
    return Place(store, location, is_private=_is_private(endpoint))


def _with_credentials(scheme: str) -> LocationError:
    message = f"the URL of a bucket in {scheme}:// has a user or a port"
    return LocationError(message, hint="Leave credentials to the environment, and give the server as ?endpoint=")


def _parameters(scheme: str, shown: str, query: str) -> dict[str, str]:
    given = parse_qsl(query, keep_blank_values=True)
    if any("@" in name or ("@" in value and name != "profile") for name, value in given):
        raise _with_credentials(scheme)
    known = _PARAMETERS[scheme]
    for name, _ in given:
        if name in _OF_OBJECT_LOCK and scheme == "s3":
            message = f"{shown} asks for {name}, and obstore does not send what Object Lock needs with each object"
            raise LocationError(message, hint="Give the bucket a default retention, which holds for every object of the store")
        if name not in known:
            message = f"{shown} has the parameter {printable(name)}, which is not known"
            raise LocationError(
                message, hint=f"Use {', '.join(known) or 'none'}; credentials come from the environment or a profile"
            )
    return dict(given)


def _endpoint(shown: str, parameters: dict[str, str]) -> str:
    """Return the address of the server; empty if the URL names none."""
    endpoint = parameters.get("endpoint")
    if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
        message = f"the endpoint of {shown} is not the address of a server: {printable(endpoint) or 'it is empty'}"
        raise LocationError(message, hint="Write endpoint=https://HOST:PORT, or with http:// for a server without TLS")
    return (endpoint or "").rstrip("/")


def _is_private(endpoint: str) -> bool:
    """Return whether requests are encrypted on their way, or do not leave this host."""
    host = endpoint.partition("://")[2].partition("/")[0]
    is_here = host.partition(":")[0] in {"127.0.0.1", "localhost"} or host.startswith("[::1]")
    return is_here or not endpoint.startswith("http://")


def _of_requests(endpoint: str, answer_seconds: float) -> dict[str, Any]:
    """Return the settings of requests: how long each may take, and how often it is tried again."""
    client: ClientConfig = {
        "timeout": timedelta(seconds=min(_REQUEST_SECONDS, answer_seconds + _MORE_SECONDS)),
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "allow_http": endpoint.startswith("http://"),
    }
    retry: RetryConfig = {
        "max_retries": 10,
        "retry_timeout": timedelta(seconds=min(_RETRY_SECONDS, answer_seconds + _MORE_SECONDS)),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
    }
    return {"client_options": client, "retry_config": retry}


def _s3(shown: str, parameters: dict[str, str], endpoint: str) -> dict[str, Any]:
    """Return the settings of a bucket of S3: its server, its region, and what opens it if the environment does not say."""
    settings: dict[str, Any] = {"checksum_algorithm": "SHA256"}  # Object Lock demands it; it is computed anyway
    if endpoint:
        settings["endpoint"] = endpoint
    region = parameters.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:
        settings["region"] = region or "us-east-1"  # what servers other than Amazon's go by
    profile = parameters.get("profile") or os.environ.get("AWS_PROFILE")
    if profile is None and any(os.environ.get(name) for name in _IN_THE_ENVIRONMENT):
        return settings
    found = _profile(profile or "default")
    if found is None and profile is not None:
        raise LocationError(f"the profile {printable(profile)} for {shown} is not in {_credentials_file()}")
    return settings | (found or {})


def _credentials_file() -> str:
    return os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.expanduser("~/.aws/credentials")


def _profile(name: str) -> dict[str, Any] | None:
    """Return the keys of a profile, or None if it is not there."""
    profiles = configparser.RawConfigParser(default_section="")
    try:
        profiles.read(_credentials_file())
        found = profiles[name]
        keys = {
            "access_key_id": found["aws_access_key_id"],
            "secret_access_key": found["aws_secret_access_key"],
            "session_token": found.get("aws_session_token", ""),
        }
    except (KeyError, configparser.Error):
        return None
    return {key: value for key, value in keys.items() if value}
