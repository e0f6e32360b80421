"""Calls of ``obstore``: bounded in time, interruptible, several at once, and with errors of this library.

``obstore`` runs its requests in threads of its own and blocks the caller until the answer is there, deaf to Ctrl-C. So each
call is made in a thread that is started for it, and the caller waits at a queue, which a signal or the timeout ends. The
request goes on meanwhile. At the end of the process, those under way are waited for, because a thread that is stopped in the
middle of one would abort the process; but not for long, as the process may end because its user has lost patience.

``obstore`` does not survive a fork: its threads are not there in the child, and a call would wait for ever. A child of a
process that has used it is told so.
"""

from __future__ import annotations

import _thread
import atexit
import errno
import os
import queue
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from obstore.exceptions import AlreadyExistsError, BaseError, NotModifiedError, PreconditionError

from checkpoint_manager._text import printable
from checkpoint_manager.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class TooLargeError(Exception):
    """An object is larger than what is read.

    Attributes:
        size: Its length in bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


_ANSWERS = (AlreadyExistsError, FileNotFoundError, NotModifiedError, PreconditionError, TooLargeError)
"""What may be the answer to a request: the server did what it was asked for."""
_LONGEST_END = 1.0
"""How long the end of the process waits for requests under way, in seconds."""
_MISSING_BUCKETS = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_MACHINE_IDENTITY = "http://169.254.169.254/"
"""Where the machines of a cloud ask for their credentials."""
_ANSWER = re.compile(r"<Code>([\w.]{1,60})</Code>(?:\s*<Message>([^<]+)</Message>)?")
"""What the server says, after all that obstore says of the request."""
_SENT_AGAIN = re.compile(r"after [1-9][0-9]* retries")
"""What obstore says of a request that it sent more than once: an earlier one may have been carried out."""
_CAUSES = {
    r"InvalidCertificate\(\s*Expired": (
        "the server's certificate has expired",
        "Have the certificate renewed, or set this host's clock",
    ),
    r"InvalidCertificate": (
        "the server's certificate is not one that this host trusts",
        "Add who signed it to this host's certificate authorities, or name the server as its certificate does",
    ),
    r"InvalidContentType|tls handshake eof": (
        "the server does not speak TLS there",
        "Write http:// in the endpoint in the URL, or name the port where the server speaks TLS",
    ),
    r"failed to lookup address": ("the server's name can't be resolved", "Check the endpoint in the URL"),
    r"404 Not Found": ("the server knows no such place", "Check the endpoint and the bucket in the URL"),
    r"Connection refused": ("no server answers there", "Check the endpoint in the URL, and that the server runs"),
}
"""What is found in the error of a request that reached no server, or a server without buckets: why, and what to do."""
_WRONG_CREDENTIALS = "Check the credentials: the environment, or the profile"
_NEW_CREDENTIALS = "Get new credentials, and open the store again"
_LATER = "Try again later: the server is busy, or out of order"
_REFUSALS = {
    "PermissionDeniedError": (
        errno.EACCES,
        "Check the credentials, and that they have the right to read, write, list and delete in the bucket",
    ),
    "UnauthenticatedError": (errno.EACCES, _WRONG_CREDENTIALS),
}
_REFUSALS_BY_CODE = {
    "AccessDenied": _REFUSALS["PermissionDeniedError"],
    "SignatureDoesNotMatch": (errno.EACCES, _WRONG_CREDENTIALS),
    "InvalidAccessKeyId": (errno.EACCES, _WRONG_CREDENTIALS),
    "AuthenticationFailed": (errno.EACCES, _WRONG_CREDENTIALS),
    "RequestTimeTooSkewed": (errno.EACCES, "Set this host's clock"),
    "ExpiredToken": (errno.EACCES, _NEW_CREDENTIALS),
    "InvalidToken": (errno.EACCES, _NEW_CREDENTIALS),
    "TokenRefreshRequired": (errno.EACCES, _NEW_CREDENTIALS),
    "SlowDown": (errno.EIO, _LATER),
    "ServerBusy": (errno.EIO, _LATER),
    "ServiceUnavailable": (errno.EIO, _LATER),
    "InternalError": (errno.EIO, _LATER),
}

_used_in = 0
"""The process in which obstore was first used; 0: in none."""
_under_way: set[object] = set()


class Pending(Generic[T]):
    """A call under way."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._known: tuple[bool, Any] | None = None

    def run(self) -> None:
        """Make the call; in a thread of its own."""
        try:
            self._answer.put((True, self._call()))
        except (*_ANSWERS, BaseError) as error:
            self._answer.put((False, error.with_traceback(None)))  # it would lead to this object, and so back to the error
        except BaseException as error:  # noqa: BLE001  # whoever waits gets it
            self._answer.put((False, error))
        finally:
            _under_way.discard(self)

    def wait(self, timeout: float) -> tuple[bool, Any]:
        """Return whether the call succeeded, and what it returned or raised: a TimeoutError while it is still under way.

        Args:
            timeout: How long to wait, in seconds.
        """
        if self._known is None:
            try:
                self._known = self._answer.get(timeout=min(timeout, threading.TIMEOUT_MAX))
            except queue.Empty:
                return False, TimeoutError()
        return self._known


def start(call: Callable[[], T]) -> Pending[T]:
    """Start a call.

    Raises:
        StorageError: This process was forked from one that has used obstore.
    """
    global _used_in  # noqa: PLW0603  # a fact about the process
    _used_in = _used_in or os.getpid()
    if _used_in != os.getpid():
        message = "an object store was used before this process was forked, and its library does not work in the child"
        hint = 'Start processes with multiprocessing.get_context("spawn"), or use the store only after the fork'
        raise StorageError(message, hint=hint, errno=errno.ENOTSUP)
    pending = Pending(call)
    _under_way.add(pending)
    try:
        _thread.start_new_thread(pending.run, ())
    except BaseException:
        _under_way.discard(pending)
        raise
    return pending


@atexit.register
def _finish() -> None:
    """Wait for the requests under way."""
    deadline = time.monotonic() + _LONGEST_END
    while _under_way and _used_in == os.getpid() and time.monotonic() < deadline:
        time.sleep(0.005)


def translate(error: BaseException, action: str, where: str, stage: str | None = None) -> NoReturn:
    """Raise an error of obstore, or the end of a wait, as one of this library."""
    first = str(error).partition("\n")[0].partition("Debug source")[0] or "no answer in time"
    whole = str(error)
    number, hint = errno.EIO, "Check that the server is reachable, then try again"
    if any(each in whole for each in _MISSING_BUCKETS):
        first, number, hint = "there is no such bucket", errno.ENOENT, "Create the bucket, or name another one"
    elif answer := _ANSWER.search(whole):
        first = ": ".join([f"the server answered {answer[1]}", *([answer[2].strip(". \n")] if answer[2] else [])])
        known = _REFUSALS_BY_CODE.get(answer[1]) or _REFUSALS.get(type(error).__name__)
        number, hint = known or (number, hint)
    elif _MACHINE_IDENTITY in whole:
        first = f"there are no credentials in the environment or a profile, and this machine has none: {first}"
        number, hint = _REFUSALS["UnauthenticatedError"]
    elif cause := next((told for pattern, told in _CAUSES.items() if re.search(pattern, whole)), None):
        first, hint = cause
    elif isinstance(error, BaseError):
        number, hint = _REFUSALS.get(type(error).__name__, (number, hint))
    if number == errno.EACCES and _SENT_AGAIN.search(whole):
        number = errno.EIO  # not known to be refused
    if stage is not None:
        action = f"{action} stage {printable(stage)} in"
    elif not action.endswith((" from", " to", " of")):
        action = f"{action} in"
    message = f"can't {action} {where}: {printable(first)}"
    raise StorageError(message, hint=hint, errno=number, filename=where, stage=stage) from None


def is_answer(error: BaseException, answers: tuple[type[Exception], ...]) -> bool:
    """Return whether a call failed with one of the answers to it. That there is no such bucket is none."""
    return isinstance(error, answers) and not any(each in str(error) for each in _MISSING_BUCKETS)


def is_to_be_translated(error: BaseException) -> bool:
    """Return whether a call failed with what only obstore or the server says."""
    is_panic = type(error).__name__ == "PanicException"  # of obstore, which does not export it
    return is_panic or (isinstance(error, Exception) and not isinstance(error, (StorageError, MemoryError)))
