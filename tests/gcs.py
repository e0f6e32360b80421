"""A server that speaks the part of Google Cloud Storage's XML API that obstore uses, in this process.

None of the emulators that the package registries have speaks it. It follows
https://cloud.google.com/storage/docs/xml-api/reference-headers: a generation for each write of an object, and
``x-goog-if-generation-match`` (0: there is none) as the condition of a write.
"""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class _Object(NamedTuple):
    data: bytes
    generation: int
    written: datetime

    @property
    def tag(self) -> str:
        return f'"{hashlib.md5(self.data).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    objects: dict[str, _Object]
    changing: threading.Lock

    def log_message(self, *_: object) -> None:
        pass

    def _place(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return unquote(parts.path).partition("/")[2].partition("/")[2], query

    def _answer(self, status: int, body: bytes = b"", found: _Object | None = None, **headers: str) -> None:
        self.send_response(status)
        if found is not None:
            headers |= {
                "ETag": found.tag,
                "x-goog-generation": str(found.generation),
                "Last-Modified": format_datetime(found.written, usegmt=True),
            }
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        key, _ = self._place()
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        source = self.headers.get("x-goog-copy-source")
        condition = self.headers.get("x-goog-if-generation-match")
        with self.changing:
            there = self.objects.get(key)
            if source is not None:
                copied = self.objects.get(unquote(source).partition("/")[2])
                if copied is None:
                    return self._answer(HTTPStatus.NOT_FOUND)
                data = copied.data
            if condition is not None and int(condition) != (0 if there is None else there.generation):
                return self._answer(HTTPStatus.PRECONDITION_FAILED)
            self.objects[key] = written = _Object(data, self.server.next_generation(), datetime.now(UTC))  # type: ignore[attr-defined]
        return self._answer(HTTPStatus.OK, b"<CopyObjectResult/>" if source else b"", written)

    def do_GET(self) -> None:
        key, query = self._place()
        if not key:
            return self._answer(HTTPStatus.OK, self._listing(query))
        found = self.objects.get(key)
        if found is None:
            return self._answer(HTTPStatus.NOT_FOUND)
        if self.headers.get("If-None-Match") == found.tag:
            return self._answer(HTTPStatus.NOT_MODIFIED, found=found)
        asked = self.headers.get("Range")
        if asked is None:
            return self._answer(HTTPStatus.OK, found.data, found)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(found.data)), len(found.data) - 1)
        if begin > end:
            return self._answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        part = found.data[begin : end + 1]
        return self._answer(HTTPStatus.PARTIAL_CONTENT, part, found, Content_Range=f"bytes {begin}-{end}/{len(found.data)}")

    def do_HEAD(self) -> None:
        self.do_GET() if self._place()[0] in self.objects else self._answer(HTTPStatus.NOT_FOUND)

    def do_DELETE(self) -> None:
        with self.changing:
            gone = self.objects.pop(self._place()[0], None)
        self._answer(HTTPStatus.NOT_FOUND if gone is None else HTTPStatus.NO_CONTENT)

    def _listing(self, query: dict[str, str]) -> bytes:
        prefix, after = query.get("prefix", ""), query.get("continuation-token") or query.get("start-after", "")
        size = int(query.get("max-keys", "1000"))
        entries: list[str] = []
        folders: set[str] = set()
        last = ""
        for key, found in sorted(self.objects.items()):
            if not key.startswith(prefix) or key <= after:
                continue
            if len(entries) + len(folders) == size:
                break
            last = key
            folder, delimiter, _ = key[len(prefix) :].partition("/") if query.get("delimiter") else ("", "", "")
            if delimiter:
                folders.add(f"{prefix}{folder}/")
            else:
                entries.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(found.data)}</Size><ETag>{escape(found.tag)}</ETag>"
                    f"<LastModified>{found.written.isoformat()}</LastModified></Contents>"
                )
        is_whole = not any(key.startswith(prefix) and key > max(last, after) for key in self.objects)
        more = "" if is_whole else f"<NextContinuationToken>{escape(last)}</NextContinuationToken>"
        common = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders))
        return f"<ListBucketResult>{''.join(entries)}{common}{more}</ListBucketResult>".encode()


class GcsServer(ThreadingHTTPServer):
    """The server, running.

    Attributes:
        endpoint: Its URL.
        objects: What it holds, by name, in its only bucket.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.objects: dict[str, _Object] = {}
        self._generation = 1_795_000_000_000_000
        held = {"objects": self.objects, "changing": threading.Lock()}
        super().__init__(("127.0.0.1", 0), type("Handler", (_Handler,), held))
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def next_generation(self) -> int:
        """Return the number of the next write."""
        self._generation += 1
        return self._generation
