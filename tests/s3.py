"""A server that speaks S3's protocol, in this process, with faults to order."""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from checkpoint_manager.backends.stage_names import to_filename

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

BUCKET = "checkpoints"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "the-user", "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-user"}


class Server:
    """A server that is running, with one bucket.

    Attributes:
        behind: The bucket, through its back door.
    """

    def __init__(self, endpoint: str) -> None:
        from boto3 import client  # type: ignore[import-untyped]
        from obstore.store import S3Store

        self.endpoint = endpoint
        region = {"region_name": "us-east-1", "endpoint_url": endpoint}
        client("s3", **region).create_bucket(Bucket=BUCKET)
        self.behind: Any = S3Store(BUCKET, endpoint=endpoint, region="us-east-1", client_options={"allow_http": True})

    def get(self, key: str) -> bytes | None:
        """Return an object, or None if there is none."""
        try:
            return bytes(self.behind.get(key).bytes())
        except FileNotFoundError:
            return None

    def put(self, key: str, body: bytes) -> None:
        """Write an object."""
        self.behind.put(key, body)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.behind.delete(key)

    def keys(self, prefix: str) -> list[str]:
        """Return the names of all objects below a prefix."""
        return [meta["path"] for page in self.behind.list(prefix) for meta in page]

    def url(self) -> str:
        """Return the URL of a new, empty place."""
        return f"s3://{BUCKET}/{secrets.token_hex(4)}/store?endpoint={self.endpoint}"


class Azure(Server):
    """A server that speaks Azure's protocol, such as Azurite, with the account ``lab``, whose key is in the environment."""

    def __init__(self, endpoint: str) -> None:
        from obstore.store import AzureStore

        self.endpoint = endpoint
        account = endpoint.rpartition("/")[2]
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = {"x-ms-date": now, "x-ms-version": "2021-08-06", "Content-Length": "0"}
        signed = f"PUT{chr(10) * 12}x-ms-date:{now}\nx-ms-version:2021-08-06\n/{account}/{account}/{BUCKET}\nrestype:container"
        key = base64.b64decode(os.environ["AZURE_STORAGE_ACCOUNT_KEY"])
        signature = base64.b64encode(hmac.digest(key, signed.encode(), "sha256")).decode()
        headers["Authorization"] = f"SharedKey {account}:{signature}"
        _create(f"{endpoint}/{BUCKET}?restype=container", headers)
        self.behind = AzureStore(BUCKET, account_name=account, endpoint=endpoint, client_options={"allow_http": True})

    def url(self) -> str:
        return f"az://{BUCKET}/{secrets.token_hex(4)}/store?account={self.endpoint.rpartition('/')[2]}&endpoint={self.endpoint}"


class Gcs(Server):
    """A server that speaks the protocol of Google Cloud Storage, in this process."""

    def __init__(self) -> None:
        from obstore.store import GCSStore

        from tests.gcs import GcsServer

        self._server = GcsServer()
        self.endpoint = self._server.endpoint
        os.environ["GOOGLE_BEARER_TOKEN"] = "the-token-of-the-user"
        self.behind = GCSStore(BUCKET, base_url=self.endpoint, client_options={"allow_http": True})

    def url(self) -> str:
        return f"gs://{BUCKET}/{secrets.token_hex(4)}/store?endpoint={self.endpoint}"

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


def _create(url: str, headers: dict[str, str]) -> None:
    request = urllib.request.Request(url, method="PUT", headers=headers)
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.CONFLICT:  # it is there
            raise


class Moto(Server):
    """A server of moto's, in this process.

    Attributes:
        ignored: Headers of requests that it ignores.
        fault: Called with the method and the path of each request; what it returns replaces the answer: ``before``, the request
            is not carried out, or ``after``, it is. Another word that begins with ``after`` makes the client send it again. A
            status, such as ``507 Insufficient Storage``, is answered to a request that is not carried out.
        requests: The method and the path of each request.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, *_: Any) -> None:
                pass

        self.ignored: set[str] = set()
        self.fault: Callable[[str, str], str] | None = None
        self.requests: list[tuple[str, str]] = []
        self._app: WSGIApplication = create_backend_app("s3")  # what looks for the service of each request takes as long again
        self._writing = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        super().__init__(f"http://127.0.0.1:{self._server.server_port}")

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        self.requests.append((method, path))
        if "HTTP_X_AMZ_CHECKSUM_SHA256" in environ:  # with Object Lock, Amazon demands this; moto, what its client adds to it
            environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = "SHA256"
        for name in self.ignored:
            environ.pop(f"HTTP_{name.upper().replace('-', '_')}", None)
        fault = self.fault(method, path) if self.fault is not None else ""
        if fault == "before" or fault[:1].isdigit():
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _failed(start_response, "400 Bad Request" if fault == "before" else fault)
        if method in {"PUT", "DELETE", "POST"}:
            with self._writing:  # moto looks at a condition and writes in two steps
                answer = self._app(environ, start_response if not fault else _discarded)
        else:
            answer = self._app(environ, start_response if not fault else _discarded)
        return _failed(start_response, "400 Bad Request" if fault == "after" else "503 Slow Down") if fault else answer

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _failed(start_response: StartResponse, status: str) -> Iterable[bytes]:
    start_response(status, [("Content-Length", "0")])
    return [b""]


def _discarded(*_: Any, **__: Any) -> Callable[[bytes], object]:
    return lambda _: None


def prefix_of(location: str) -> str:
    """Return what the names of all objects of a store begin with."""
    return location.partition("?")[0].partition(f"://{BUCKET}/")[2]


def version_key(location: str, stage: str, version: int) -> str:
    """Return the name of the object of a version."""
    return f"{prefix_of(location)}/history/{to_filename(stage)}/{version:012d}"


def running() -> Iterator[Server]:
    """Provide a server for a session of tests: moto's, or the one that the environment names."""
    for variable, kind in {"TESTS_S3_ENDPOINT": Server, "TESTS_AZURE_ENDPOINT": Azure}.items():
        if os.environ.get(variable):
            yield kind(os.environ[variable])
            return
    server = Gcs() if os.environ.get("TESTS_BUCKETS") == "gs" else Moto()
    yield server
    server.stop()
