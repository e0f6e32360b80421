"""What may come in and what goes out, whatever the page: the outermost layer of the application.

* **Hosts.** A request for another host than the allowed ones is refused, with any method and for any path: a page of a site
  whose name was made to lead to this address (DNS rebinding) sends the name of that site.
* **Origins.** What another site causes is refused, but for a link that is followed: by ``Sec-Fetch-Site``, which every browser
  sends since 2023, and by ``Origin``. A link of another port of this host, which comes with the cookie, leads to the first page
  only. A change has to prove that it comes from a page of this server by one of the two.
* **Sizes.** Bodies are limited. :mod:`.server` limits headers, and ends what is slow.
* **Answers** carry a content security policy that loads nothing but this server's own files, and are not stored.
* **Errors** are shown without their text: the log names their kind and the line of code, never what a variable holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from checkpoint_manager.dashboard import unexpected

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 64 * 1024
_METHODS = frozenset({"GET", "HEAD", "POST"})
_LINKED = frozenset({"/", "/login"})
"""Where a link of another port of this host may lead: it comes with the cookie, perhaps without a click."""
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "x-robots-tag": "noindex",
}


class Guard:
    """Checks each request before the application sees it, and completes each answer.

    Args:
        app: The application.
        is_own: Returns whether a ``Host``, in lower case, is one of this server.
        refused: Called with the reason when a request is refused.
    """

    def __init__(self, app: ASGIApp, is_own: Callable[[str], bool], refused: Callable[[str], None]) -> None:
        self._app = app
        self._is_own = is_own
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # no WebSockets, and no lifespan
        has_begun = False

        async def send_completed(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            app = await self._checked(scope, receive)
            await app(scope, receive, send_completed)
        except Exception as error:  # noqa: BLE001  # the one place: nothing of an error reaches a page
            unexpected.log("A request", error)
            if not has_begun:
                await _refusal(500, unexpected.TOLD)(scope, receive, send_completed)

    async def _checked(self, scope: Scope, receive: Receive) -> ASGIApp:
        """Return the application if it may see the request, or else the answer."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0].lower()):
            self._refused("a request for another host")
            return _refusal(421, "This server does not answer for that host.")
        if scope["method"] not in _METHODS:
            return _refusal(405, "Only GET, HEAD and POST are answered.", allow="GET, HEAD, POST")
        if problem := _foreign(scope, headers, hosts[0]):
            self._refused(problem)
            return _refusal(403, "This request comes from another site. Open the page here, and try again.")
        if not headers.get("content-length", "0").isdecimal() or int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
            return _refusal(413, "The request is too long.")
        body = await _body(receive)
        if body is None:
            return _refusal(413, "The request is too long.")
        return _with_body(self._app, body)


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request, or None if it is too long."""
    body, is_whole = bytearray(), False
    while not is_whole:
        message = await receive()
        body += message.get("body", b"")
        is_whole = not message.get("more_body", False)  # or the client has gone
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _foreign(scope: Scope, headers: Headers, host: str) -> str:
    """Return why a request counts as one of another site; empty if it does not."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    own = {f"{scope.get('scheme', 'http')}://{host.lower()}"}
    if origin is not None and origin != "null" and origin.lower() not in own:
        return "a request of another origin"
    if scope["method"] == "POST":
        if site is None and origin in {None, "null"}:
            return "a change that does not say where it comes from"
        return "a change that another site sent" if site not in {None, "same-origin"} else ""
    is_link = headers.get("sec-fetch-mode") == "navigate"
    if site in {None, "same-origin", "none"} or (is_link and (site == "cross-site" or scope["path"] in _LINKED)):
        return ""  # a link may be followed, and shows the page that its reader may see
    return "a request of another site"


def _refusal(status: int, text: str, **headers: str) -> ASGIApp:
    return PlainTextResponse(f"{text}\n", status, {"connection": "close", **headers})


def _with_body(app: ASGIApp, body: bytes) -> ASGIApp:
    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        is_given = False

        async def receive_again() -> Message:
            nonlocal is_given
            if is_given:
                return await receive()
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await app(scope, receive_again, send)

    return called
