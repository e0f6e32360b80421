"""What is particular to a bucket: untrustworthy servers, lost answers, leases, forks, and objects that others change."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from obstore.exceptions import GenericError, PermissionDeniedError
from obstore.store import S3Store

from checkpoint_manager import (
    CheckpointError,
    CheckpointManager,
    IntegrityError,
    LocationError,
    LockTimeoutError,
    RollbackError,
    StorageError,
)
from checkpoint_manager.backends.base import Lease
from checkpoint_manager.backends.maintenance import Leftover
from checkpoint_manager.backends.object_store import backend as backend_module
from checkpoint_manager.backends.object_store import calls, chunks, lease, objects, probe
from checkpoint_manager.backends.object_store.backend import ObjectStoreBackend
from checkpoint_manager.backends.object_store.place import place_of
from checkpoint_manager.backends.registry import open_backend
from tests.s3 import BUCKET, CREDENTIALS, Moto, prefix_of, version_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = bytes(range(32))


@pytest.fixture
def server(s3: Moto) -> Iterator[Moto]:
    if not isinstance(s3, Moto):
        pytest.skip("its faults are to order only from moto")
    s3.requests.clear()
    yield s3
    s3.fault = None
    s3.ignored.clear()


@pytest.fixture
def url(s3: Moto) -> str:
    return s3.url()


@pytest.fixture
def cm(url: str) -> CheckpointManager:
    return CheckpointManager(url, key=KEY)


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "location"),
        [
            ("s3://bucket", "s3://bucket"),
            ("S3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("s3://bucket/a%20b", "s3://bucket/a%20b"),
            (
                "s3://bucket/a?region=eu-west-1&endpoint=http://127.0.0.1:7480/",
                "s3://bucket/a?endpoint=http://127.0.0.1:7480",
            ),
            ("gs://bucket/a", "gs://bucket/a"),
            ("gs://bucket/a?endpoint=http://127.0.0.1:4443/", "gs://bucket/a?endpoint=http://127.0.0.1:4443"),
            ("az://container/a?account=lab", "az://container/a?account=lab"),
        ],
    )
    def test_a_place_has_one_name(self, url: str, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        assert place_of(url).location == location

    @pytest.mark.parametrize(
        "url",
        [
            "s3://",
            "s3:///prefix",
            "s3://bucket/a//b",
            "s3://bucket/../b",
            "s3://bucket/a#b",
            "s3://bucket/a?key=the-secret",
            "s3://the-user:the-secret@bucket/a",
            "s3://the-user:a/b//the-secret@bucket/a",
            "s3://bucket/a?endpoint=http://the-user:the-secret@127.0.0.1",
            "s3://bucket/a?endpoint=http://the-user:the-secret%40127.0.0.1",
            "s3://bucket/a?endpoint=http://the-user:a&the-secret@127.0.0.1",
            "s3://host:9000/bucket",
            "s3://bucket/a?profile=nobody",
            "gs://bucket?region=eu",
            "s3://bucket/a?retain_until=2027-01-01",
            "s3://buck et/a",
            "s3://bucket/a?endpoint=",
            "s3://bucket/a?endpoint=127.0.0.1:7480",
            "s3://bucket/a?endpoint=ftp://127.0.0.1",
            "s3://bucket/a?endpoint=http://127 0.0.1",
            "az://container/a",
        ],
    )
    def test_what_names_no_place_is_refused_without_its_secrets(self, url: str) -> None:
        with pytest.raises(LocationError) as caught:
            open_backend(url)
        assert "the-secret" not in str(caught.value)
        assert "panic" not in str(caught.value)
        assert caught.value.hint or "nobody" in url

    def test_a_profile_has_the_credentials(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in CREDENTIALS:
            monkeypatch.delenv(name, raising=False)
        (home / ".aws").mkdir()
        (home / ".aws" / "credentials").write_text(
            "[default]\naws_access_key_id = default-user\naws_secret_access_key = a\n"
            "[lab]\naws_access_key_id = lab-user\naws_secret_access_key = b\naws_session_token = c\n"
        )
        assert place_of("s3://bucket").store.config["access_key_id"] == "default-user"
        assert place_of("s3://bucket?profile=lab").store.config["session_token"] == "c"
        monkeypatch.setenv("AWS_PROFILE", "lab")
        assert place_of("s3://bucket").store.config["access_key_id"] == "lab-user"


class TestServers:
    @pytest.mark.parametrize("condition", ["if-none-match", "if-match"])
    def test_one_that_ignores_a_condition_is_refused(self, server: Moto, condition: str) -> None:
        server.ignored = {condition}
        with pytest.raises(StorageError, match=r"(?i)it ignores " + condition):
            ObjectStoreBackend(server.url())
        assert server.keys("") == [key for key in server.keys("") if "probes" not in key]

    def test_one_that_knows_no_condition_is_refused(self, server: Moto) -> None:
        puts = itertools.count()
        server.fault = lambda method, path: (
            "412 Precondition Failed" if method == "PUT" and "/probes/" in path and next(puts) else ""
        )
        with pytest.raises(StorageError, match="never replaces an object on condition"):
            ObjectStoreBackend(server.url())

    def test_one_whose_lists_lag_is_refused(self, server: Moto) -> None:
        url = server.url()

        def lag(method: str, path: str) -> str:
            is_put = any(put == "PUT" and f"{prefix_of(url)}/probes/" in key for put, key in server.requests)
            if is_put and method == "GET" and path.strip("/") == BUCKET:  # not a late one of another store
                server.fault = None
                for key in server.keys(f"{prefix_of(url)}/probes"):
                    server.delete(key)
            return ""

        server.fault = lag
        with pytest.raises(StorageError, match="does not list an object that was just put"):
            ObjectStoreBackend(url)

    def test_one_that_was_tried_is_not_tried_again(self, server: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
        url = server.url()
        ObjectStoreBackend(url)
        monkeypatch.setattr(probe, "_known", {})  # another process
        server.requests.clear()
        ObjectStoreBackend(url)
        assert [method for method, _ in server.requests] == ["GET"]

    def test_a_copy_of_a_bucket_is_tried_where_it_is(self, server: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = server.url(), server.url()
        ObjectStoreBackend(first)
        server.put(f"{prefix_of(second)}/probed", server.get(f"{prefix_of(first)}/probed") or b"")
        server.ignored = {"if-match"}
        with pytest.raises(StorageError):
            ObjectStoreBackend(second)

    def test_a_bucket_that_is_not_there_is_said_to_be_missing(self, s3: Moto) -> None:
        with pytest.raises(StorageError, match=r"there is no such bucket\. Create the bucket"):
            ObjectStoreBackend(s3.url().replace(f"://{BUCKET}/", "://nowhere/"))

    def test_a_server_that_is_not_reached_is_said_to_be_so(self, s3: Moto) -> None:
        """The text of the first error is that of a server whose certificate ended yesterday."""
        errors: list[Exception] = [
            GenericError("x: InvalidCertificate(\n    ExpiredContext {"),
            GenericError("InvalidCertificate("),
        ]
        for endpoint in ("http://127.0.0.1:1", "http://no-such-host.invalid", s3.endpoint.replace("http:", "https:")):
            bare = S3Store("b", endpoint=endpoint, client_options={"allow_http": True}, retry_config={"max_retries": 0})
            with pytest.raises(GenericError) as caught:
                bare.get("x")
            errors.append(caught.value)
        told = []
        for error in errors:
            with pytest.raises(StorageError) as translated:
                calls.translate(error, "read from", "s3://b/p")
            told.append(str(translated.value).removeprefix("can't read from s3://b/p: ").partition(". ")[0])
        assert told == [
            "the server's certificate has expired",
            "the server's certificate is not one that this host trusts",
            "no server answers there",
            "the server's name can't be resolved",
            "the server does not speak TLS there",
        ]

    @pytest.mark.parametrize(
        ("stage", "message"), [(None, "can't read from s3://b/p: "), ("train", "can't read from stage train in s3://b/p: ")]
    )
    def test_wrong_credentials_are_said_to_be_wrong(self, stage: str | None, message: str) -> None:
        """The server calls them that; to obstore they merely lack a right."""
        answer = PermissionDeniedError("lacks a right: <Code>SignatureDoesNotMatch</Code>")
        with pytest.raises(StorageError, match=f"^{message}.*Check the credentials"):
            calls.translate(answer, "read from", "s3://b/p", stage)

    @pytest.mark.parametrize(
        ("code", "errno_", "hint"),
        [
            ("RequestTimeTooSkewed", errno.EACCES, "Set this host's clock"),
            ("ExpiredToken", errno.EACCES, "Get new credentials, and open the store again"),
            ("SlowDown", errno.EIO, "Try again later: the server is busy, or out of order"),
            ("AccessDenied", errno.EACCES, calls._REFUSALS["PermissionDeniedError"][1]),
            ("Unheard.Of", errno.EACCES, calls._REFUSALS["PermissionDeniedError"][1]),
        ],
    )
    def test_what_the_server_says_is_told_with_what_mends_it(self, code: str, errno_: int, hint: str) -> None:
        """Its answer follows a long text of obstore's, and some servers answer 403 and some 400."""
        answer = f"<Error><Code>{code}</Code>\n<Message>So it is.</Message></Error>"
        text = f"lacks a right: {'x' * 500} in 1 ms - 403: {answer}\n\nDebug source"
        with pytest.raises(StorageError) as caught:
            calls.translate(PermissionDeniedError(text), "read from", "s3://b/p")
        told = f"can't read from s3://b/p: the server answered {code}: So it is"
        assert (caught.value.message, caught.value.hint, caught.value.errno) == (told, hint, errno_)

    def test_a_refused_listing_is_told_as_a_missing_right(self) -> None:
        """To obstore, it is an error of any kind."""
        with pytest.raises(
            StorageError, match=r"^can't read the keyring of s3://b/p: .*that they have the right to read"
        ) as caught:
            calls.translate(GenericError("403 Forbidden: <Code>AccessDenied</Code>"), "read the keyring of", "s3://b/p")
        assert caught.value.errno == errno.EACCES

    def test_a_code_in_the_name_of_a_stage_is_not_what_the_server_says(self) -> None:
        with pytest.raises(StorageError, match="that they have the right to read"):
            calls.translate(PermissionDeniedError("lacks a right for path history/ExpiredToken/1"), "read from", "s3://b/p")

    def test_a_server_that_has_no_buckets_is_told(self, cm: CheckpointManager, server: Moto) -> None:
        """A web server, for example, to which a typing error in the endpoint may lead."""
        server.fault = lambda *_: "404 Not Found"
        for act in (lambda: CheckpointManager(server.url(), key=KEY), cm.stages):
            with pytest.raises(StorageError, match=r"knows no such place\. Check the endpoint and the bucket in the URL"):
                act()

    @pytest.mark.parametrize("status", ["304 Not Modified", "404 Not Found", "409 Conflict", "412 Precondition Failed"])
    def test_an_answer_to_another_request_is_an_error_of_ours(self, cm: CheckpointManager, server: Moto, status: str) -> None:
        """A proxy in between, or a policy that forbids a deletion, may answer any request so."""
        cm.save_checkpoint("train", 1)
        acts: list[Callable[[], object]] = [
            cm.stages,
            lambda: cm.load_checkpoint("train"),
            lambda: cm.save_checkpoint("train", 2),
            lambda: cm.tag("train", 1, "good"),
            lambda: cm.delete_stage("train"),
        ]
        for method, act in itertools.product(("GET", "HEAD", "PUT", "POST", "DELETE"), acts):
            server.fault = lambda asked, _, method=method: status if asked == method else ""  # type: ignore[misc]
            with contextlib.suppress(CheckpointError):
                act()
        server.fault = None
        assert cm.verify().ok

    def test_a_call_leaves_no_reference_cycle(self, cm: CheckpointManager) -> None:
        for number in range(2):
            cm.save_checkpoint("train", number)
            cm.load_checkpoint("train")
        gc.collect()
        others = {id(each): each for each in gc.get_objects() if isinstance(each, calls.Pending)}  # other tests' may be held
        gc.disable()
        try:
            cm.save_checkpoint("train", 2)
            cm.load_checkpoint("train")
            deadline = time.monotonic() + 10
            while left := [each for each in gc.get_objects() if isinstance(each, calls.Pending) and id(each) not in others]:
                assert time.monotonic() < deadline  # a call whose answer nobody waits for may be under way still
                left.clear()
                time.sleep(0.01)
        finally:
            gc.enable()

    @pytest.mark.usefixtures("impatient")
    def test_a_server_that_is_not_there_is_waited_for_no_longer_than_asked(self, cm: CheckpointManager, server: Moto) -> None:
        cm.save_checkpoint("train", 1)
        answered = threading.Event()

        def wait(*_: object) -> str:
            answered.wait(30)
            return ""

        server.fault = wait
        backend = cm._store.backend
        backend.patience = 0.05
        with pytest.raises(StorageError, match="no answer in time"):
            cm.load_checkpoint("train")
        answered.set()
        backend.patience = 30
        assert cm.load_checkpoint("train") == 1

    def test_ctrl_c_ends_a_wait(self, cm: CheckpointManager, server: Moto) -> None:
        cm.save_checkpoint("train", 1)
        answered = threading.Event()

        def interrupt(*_: object) -> str:
            os.kill(os.getpid(), signal.SIGINT)
            answered.wait(30)
            return ""

        server.fault = interrupt
        with pytest.raises(KeyboardInterrupt):
            cm.load_checkpoint("train")
        server.fault = None
        answered.set()
        assert cm.load_checkpoint("train") == 1

    def test_what_a_signal_handler_raises_ends_a_wait_as_it_is(
        self, cm: CheckpointManager, server: Moto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answered = threading.Event()

        def alarm(*_: object) -> None:
            raise TimeoutError("the caller's")

        def interrupt(*_: object) -> str:
            os.kill(os.getpid(), signal.SIGUSR1)
            answered.wait(30)
            return ""

        before = signal.signal(signal.SIGUSR1, alarm)
        try:
            server.fault = interrupt
            with pytest.raises(TimeoutError, match="the caller's"):
                cm.save_checkpoint("train", 1)
        finally:
            server.fault = None
            answered.set()
            signal.signal(signal.SIGUSR1, before)

    def test_a_panic_of_obstore_is_an_error_of_the_storage(self, url: str) -> None:
        """A region with a line break in it leads to one, for example. Obstore prints it, too."""

        class PanicException(BaseException):  # the name that pyo3 gives it
            pass

        def fail() -> None:
            raise PanicException("request valid")

        with pytest.raises(StorageError, match="request valid"):
            ObjectStoreBackend(url)._objects.call(fail, "read from")

    @pytest.mark.parametrize("error", [MemoryError(), StorageError("refused", errno=13)])
    def test_what_is_not_of_the_server_is_not_translated(self, url: str, error: Exception) -> None:
        def fail() -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            ObjectStoreBackend(url)._objects.call(fail, "read from")
        assert caught.value is error

    @pytest.mark.parametrize("timeout", [0, 1e300])
    def test_any_timeout_of_locks_leaves_time_for_a_request(self, url: str, timeout: float) -> None:
        cm = CheckpointManager(url, key=KEY, lock_timeout=timeout)
        cm.save_checkpoint("train", 1)
        assert cm.load_checkpoint("train") == 1

    def test_a_call_that_can_not_be_started_is_not_waited_for(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        backend = ObjectStoreBackend(url)
        under_way = set(calls._under_way)
        monkeypatch.setattr(calls._thread, "start_new_thread", fail)
        with pytest.raises(RuntimeError):
            backend.stages()
        assert calls._under_way <= under_way

    def test_credentials_are_in_no_message(
        self, s3: Moto, cm: CheckpointManager, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level(logging.DEBUG)
        told = [repr(cm), repr(cm._store.backend), repr(vars(cm._store.backend))]
        cm.save_checkpoint("train", 1)
        with pytest.raises(CheckpointError) as caught:
            CheckpointManager(f"s3://nowhere/a?endpoint={s3.endpoint}", key=KEY)
        told += [str(caught.value), repr(caught.value), str(vars(caught.value)), caplog.text]
        assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in "".join(told)


def once(method: str, part: str, how: str) -> Callable[[str, str], str]:
    """Return a fault of the first request of a method for an object."""
    left = [how]
    return lambda asked, path: left.pop() if left and asked == method and part in path else ""


def after_the_put(server: Moto, fault: Callable[[str, str], str]) -> Callable[[str, str], str]:
    """Return a fault that begins after the next put of a version."""

    def wait(method: str, path: str) -> str:
        if method == "PUT" and "/history/" in path:
            server.fault = fault
        return ""

    return wait


class TestLostAnswers:
    @pytest.mark.parametrize("how", ["before", "after"])
    @pytest.mark.parametrize("part", ["/history/", "/records/", "/keyring"])
    def test_a_write_whose_answer_is_lost_is_done_once(self, cm: CheckpointManager, server: Moto, how: str, part: str) -> None:
        cm.save_checkpoint("train", 1)
        server.fault = once("PUT", part, how)
        if part == "/history/":
            assert cm.save_checkpoint("train", 2).number == 2
        elif part == "/records/" and how == "after":
            with pytest.raises(StorageError):
                cm.tag("train", 1, "good")
            cm.tag("train", 1, "good")
        elif how == "after":
            with pytest.raises(StorageError):
                cm.keys.rotate()
            cm.keys.rotate()
        server.fault = None
        assert cm.verify().ok
        assert [version.number for version in cm.history("train")] == ([2, 1] if part == "/history/" else [1])

    def test_a_write_that_is_refused_is_known_to_have_failed(self, cm: CheckpointManager, server: Moto) -> None:
        server.fault = lambda method, path: "403 Forbidden" if method == "PUT" and "/history/" in path else ""
        with pytest.raises(StorageError, match="that they have the right to read") as caught:
            cm.save_checkpoint("train", 1)
        assert caught.value.errno == errno.EACCES
        server.fault = None
        assert not cm.has_checkpoint("train")

    def test_a_write_that_is_refused_when_it_is_sent_again_is_not_known_to_have_failed(
        self, cm: CheckpointManager, server: Moto
    ) -> None:
        """As where the credentials expire in between: what was sent first was carried out."""
        cm.save_checkpoint("train", 1)
        how = ["after, to be sent again", "403 Forbidden"]
        server.fault = lambda method, path: how.pop(0) if method == "PUT" and "/history/" in path and how else ""
        assert cm.save_checkpoint("train", 2).number == 2
        assert not how
        assert [cm.load_checkpoint("train", version.number) for version in cm.history("train")] == [2, 1]

    def test_a_large_version_that_ends_in_an_error_leaves_nothing(
        self, url: str, server: Moto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)

        def pieces() -> Iterator[bytes]:
            yield b"x" * 450
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            ObjectStoreBackend(url).append("train", 1, pieces)
        assert [key for key in server.keys(prefix_of(url)) if "/names/" not in key] == [f"{prefix_of(url)}/probed"]

    def test_a_large_version_whose_chunks_are_swept_is_not_put_in_the_place_of_another(
        self, url: str, server: Moto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)
        backend = ObjectStoreBackend(url)
        backend.append("train", 1, lambda: [b"a" * 150])
        before = server.keys(f"{prefix_of(url)}/chunks")

        def pieces() -> Iterator[bytes]:
            yield b"x" * 250
            while len(uploaded := set(server.keys(f"{prefix_of(url)}/chunks")) - set(before)) < 2:
                time.sleep(0.01)  # the two whole ones are on their way
            for key in uploaded:
                server.delete(key)

        with pytest.raises(StorageError, match="lost its chunks"):
            backend.replace("train", 1, pieces)
        with backend.open("train", 1) as file:
            assert file.read(150) == b"a" * 150

    @pytest.mark.parametrize("others", [1, 3])
    def test_a_version_that_others_replace_meanwhile_is_tried_again_but_not_without_end(
        self, url: str, server: Moto, monkeypatch: pytest.MonkeyPatch, others: int
    ) -> None:
        monkeypatch.setattr(backend_module, "_MOST_SETS", 3)
        backend = ObjectStoreBackend(url)
        backend.append("train", 1, lambda: [b"1"])
        left = list(range(others))

        def replace(method: str, path: str) -> str:
            if left and method == "PUT" and "/history/" in path:
                number, fault, server.fault = left.pop(), server.fault, None
                server.put(version_key(url, "train", 1), b"other %d" % number)
                server.fault = fault
            return ""

        server.fault = replace
        if others < 3:
            backend.replace("train", 1, lambda: [b"2"])
        else:
            with pytest.raises(StorageError, match=r"version 1 of stage train in .* is replaced by others again and again"):
                backend.replace("train", 1, lambda: [b"2"])
        with backend.open("train", 1) as file:
            assert file.read(9) == (b"2" if others < 3 else b"other 0")

    def test_a_large_version_whose_answer_is_lost_is_whole(
        self, cm: CheckpointManager, server: Moto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 100_000)
        server.fault = once("PUT", "/history/", "after")
        cm.save_checkpoint("train", "x" * 500_000)
        assert CheckpointManager(cm._store.backend, key=KEY).load_checkpoint("train") == "x" * 500_000

    def test_a_write_that_was_sent_twice_is_its_own(
        self, cm: CheckpointManager, server: Moto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 100_000)
        server.fault = once("PUT", "/history/", "after, to be sent again")
        assert cm.save_checkpoint("train", "x" * 500_000).number == 1
        assert CheckpointManager(cm._store.backend, key=KEY).load_checkpoint("train") == "x" * 500_000

    @pytest.mark.parametrize("method", ["PUT", "POST", "GET"], ids=["replace", "delete the old chunks", "list the new ones"])
    def test_a_rotation_that_fails_keeps_what_the_version_names(
        self, cm: CheckpointManager, server: Moto, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 100_000)
        backend = cm._store.backend
        cm.save_checkpoint("train", "x" * 300_000)
        whole = b"y" * 300_000
        fault = once(method, "", "before")
        server.fault = once("PUT", "/history/", "after") if method == "PUT" else after_the_put(server, fault)
        with pytest.raises(StorageError):
            backend.replace("train", 1, lambda: [whole])
        server.fault = None
        with backend.open("train", 1) as file:
            assert file.read(300_000) == whole

    def test_a_version_whose_chunks_could_not_be_looked_at_is_whole(
        self, cm: CheckpointManager, server: Moto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 100_000)
        server.fault = after_the_put(server, once("GET", "", "before"))
        assert cm.save_checkpoint("train", "x" * 300_000).number == 1
        assert CheckpointManager(cm._store.backend, key=KEY).load_checkpoint("train") == "x" * 300_000

    @pytest.mark.parametrize("lost", [1, 2, 3, 4])
    def test_a_save_whose_look_afterwards_fails_is_not_to_be_saved_again(
        self, cm: CheckpointManager, server: Moto, lost: int
    ) -> None:
        """Which requests are lost: the first ones after the put, of which there are three at once."""
        for number in (1, 2):
            cm.save_checkpoint("train", number)
        left = ["before"] * lost
        server.fault = after_the_put(server, lambda method, _: left.pop() if left and method == "GET" else "")
        told = "was written"
        try:
            cm.save_checkpoint("train", 3)
        except StorageError as error:
            told = str(error)
        assert "was written" in told
        assert "try again" not in told
        server.fault = None
        assert [version.number for version in cm.history("train")] == [3, 2, 1]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", ["503 Slow Down", "507 Insufficient Storage", "429 Too Many Requests"])
def test_a_server_that_takes_no_more_is_an_error_in_time_and_nothing_is_lost(url: str, server: Moto, status: str) -> None:
    cm = CheckpointManager(url, key=KEY, lock_timeout=0.5)
    for number in (1, 2):
        cm.save_checkpoint("train", number)
    server.fault = lambda method, _: status if method == "PUT" else ""
    with pytest.raises(StorageError) as caught:
        cm.save_checkpoint("train", 3)
    assert caught.value.hint
    assert CheckpointManager(url, key=KEY).load_checkpoint("train") == 2
    server.fault = None
    saved = cm.save_checkpoint("train", 4).number  # the one before may have arrived by now: its request is tried on
    assert [cm.load_checkpoint("train", version=number) for number in (1, 2, saved)] == [1, 2, 4]
    assert cm.verify().ok


class TestLeases:
    @pytest.fixture
    def other(self, url: str) -> ObjectStoreBackend:
        """Return the store as another process has it."""
        return ObjectStoreBackend(url)

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """Let time pass as it is told; sleeping makes it pass."""
        times = [1000.0]
        monkeypatch.setattr(lease, "now", lambda: times[0])
        monkeypatch.setattr(backend_module, "now", lambda: times[0])
        monkeypatch.setattr(lease.time, "sleep", lambda seconds: times.__setitem__(0, times[0] + max(seconds, 0.01)))
        return times

    def test_one_that_is_held_is_waited_for_and_names_its_holder(self, url: str, other: ObjectStoreBackend) -> None:
        with ObjectStoreBackend(url).lock("train", 1, purpose="run") as held:
            assert isinstance(held, Lease)
            assert held.lost == ""
            with pytest.raises(LockTimeoutError) as caught, other.lock("train", 0.05, purpose="run"):
                pass
        assert caught.value.holder == f"process {os.getpid()}"
        with other.lock("train", 0, purpose="run"):
            pass

    def test_one_that_nobody_renews_is_taken_over_and_its_holder_knows(
        self, url: str, other: ObjectStoreBackend, clock: list[float]
    ) -> None:
        with ObjectStoreBackend(url).lock("train", 0, purpose="run") as held:
            with other.lock("train", 60, purpose="run") as taken:
                assert "could not be renewed" in held.lost
                held.renew()
                assert "taken over" in held.lost
                assert taken.lost == ""
            with other.lock("train", 0, purpose="run"):
                pass

    def test_one_that_is_waited_for_without_end_is_asked_for_ever_more_rarely(
        self, url: str, other: ObjectStoreBackend, clock: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []
        passes = lease.time.sleep
        monkeypatch.setattr(lease.time, "sleep", lambda seconds: (pauses.append(seconds), passes(seconds)))
        with ObjectStoreBackend(url).lock("train", 0, purpose="run"), other.lock("train", float("inf"), purpose="run"):
            assert max(pauses) == 1
            assert len(pauses) < 80

    def test_one_that_is_renewed_is_not_taken_over(self, url: str, other: ObjectStoreBackend, clock: list[float]) -> None:
        with ObjectStoreBackend(url).lock("train", 0, purpose="run") as held:
            for _ in range(3):
                with pytest.raises(LockTimeoutError), other.lock("train", 15, purpose="run"):
                    pass
                held.renew()
            assert held.lost == ""

    @pytest.mark.parametrize("faults", [["after"], ["after", "before"], ["after", "before", "before"]])
    def test_a_renewal_whose_answer_was_lost_keeps_it(
        self, server: Moto, url: str, clock: list[float], faults: list[str]
    ) -> None:
        with ObjectStoreBackend(url).lock("train", 0, purpose="run") as held:
            for how in faults:
                server.fault = once("PUT", "/leases/", how)
                held.renew()
            held.renew()
            assert held.lost == ""
            clock[0] += 15
            held.renew()
            assert held.lost == ""

    @pytest.mark.parametrize("planted", [b"{}", b"", b"x" * 5000], ids=["small", "empty", "large"])
    def test_what_a_killed_upload_left_is_removed_once_its_lease_has_ended(
        self, s3: Moto, url: str, other: ObjectStoreBackend, clock: list[float], planted: bytes
    ) -> None:
        prefix = prefix_of(other.location)
        other.append("train", 1, lambda: [b"x"])
        s3.put(f"{prefix}/chunks/train/{'3c' * 16}/000000", b"half")
        s3.put(f"{prefix}/leases/train/{'3c' * 16}", planted)
        with pytest.raises(LockTimeoutError), other.lock("train", 5, purpose="run", name="3c" * 16):
            pass
        found = other.leftovers()
        assert [each.path.partition("/")[0] for each in found] == ["leases", "chunks"]
        assert not other.remove(found[1])
        assert all(other.remove(each) for each in found)
        assert other.leftovers() == []
        assert s3.keys(prefix) == [f"{prefix}/history/train/000000000001", f"{prefix}/probed"]

    @pytest.mark.parametrize("planted", [b"", b"x" * 5000], ids=["empty", "large"])
    def test_one_that_was_planted_is_taken_over(
        self, s3: Moto, other: ObjectStoreBackend, clock: list[float], planted: bytes
    ) -> None:
        s3.put(f"{prefix_of(other.location)}/leases/train/run", planted)
        with other.lock("train", 60, purpose="run") as held:
            held.renew()
            assert held.lost == ""

    def test_trouble_with_giving_it_back_is_passed_over(self, url: str, server: Moto) -> None:
        with ObjectStoreBackend(url).lock("train", 0, purpose="run") as held:
            server.fault = lambda method, _: "" if method == "GET" else "before"
        server.requests.clear()
        held.renew()
        assert server.requests == []

    @pytest.mark.parametrize("planted", [b"", b"{}", b"[]", b'{"notice": 1}', b'{"notice": "\xff"}'])
    def test_one_without_a_notice_is_not_listed_as_a_run(self, s3: Moto, other: ObjectStoreBackend, planted: bytes) -> None:
        s3.put(f"{prefix_of(other.location)}/leases/train/run", planted)
        assert other.held_runs() == []

    def test_what_is_not_of_a_stage_is_not_left_over(self, s3: Moto, other: ObjectStoreBackend) -> None:
        for folder in ("leases", "chunks"):
            s3.put(f"{prefix_of(other.location)}/{folder}/%zz/{'3c' * 16}/000000", b"x")
        assert other.leftovers() == []

    def test_the_lease_of_a_living_upload_is_not_removed(self, url: str, other: ObjectStoreBackend, clock: list[float]) -> None:
        with ObjectStoreBackend(url).lock("train", 0, purpose="run", name="3c" * 16) as held:
            (found,) = other.leftovers()
            held.renew()
            assert not other.remove(found)

    def test_the_chunks_of_a_version_are_not_removed(
        self, url: str, other: ObjectStoreBackend, monkeypatch: pytest.MonkeyPatch, server: Moto
    ) -> None:
        """A list of leftovers that was made before the version was written may name them."""
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)
        other.append("train", 1, lambda: [b"x" * 150])
        (key, _) = there = server.keys(f"{prefix_of(url)}/chunks")
        path = key.removeprefix(f"{prefix_of(url)}/").rpartition("/")[0]
        assert other.remove(Leftover("leftover", path, "", "train"))
        assert server.keys(f"{prefix_of(url)}/chunks") == there

    def test_chunks_that_were_swept_under_a_writer_are_noticed(
        self, s3: Moto, other: ObjectStoreBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 10)

        def pieces() -> Iterator[bytes]:
            yield b"x" * 100
            for key in s3.keys(f"{prefix_of(other.location)}/chunks"):
                s3.delete(key)
            yield b"y" * 5

        with pytest.raises(StorageError, match="lost its chunks"):
            other.append("train", 1, pieces)


def open_in_child(url: str, backend: Any, told: Any) -> None:
    try:
        with backend.open("train", 1):
            told.send("opened")
    except StorageError as error:
        told.send(str(error))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_forked_child_is_told_and_a_spawned_one_works(url: str, start: str) -> None:
    cm = CheckpointManager(url, key=KEY)
    cm.save_checkpoint("train", 1)
    context = multiprocessing.get_context(start)
    here, there = context.Pipe(False)
    if start == "fork":
        process = context.Process(target=open_in_child, args=(url, cm._store.backend, there))
    else:
        process = context.Process(target=_open_url_in_child, args=(url, there))
    process.start()
    there.close()
    told = here.recv()
    process.join()
    assert ("spawn" in told) if start == "fork" else (told == "opened")


def _open_url_in_child(url: str, told: Any) -> None:
    open_in_child(url, ObjectStoreBackend(url), told)


class TestListing:
    def test_the_newest_is_found_by_the_hint(self, server: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(objects, "PAGE", 4)
        monkeypatch.setattr(backend_module, "_HINT_EVERY", 8)
        backend = ObjectStoreBackend(server.url())
        for version in range(1, 22):
            backend.append("train", version, lambda: [b"x"])
        head = f"{prefix_of(backend.location)}/heads/train"
        assert server.get(head) == b"16"
        for forged in (b"16", b"3", b"500", b"999999999999", b"no number", b"", b"1" * 2000):
            server.put(head, forged)
            fresh = ObjectStoreBackend(backend.location)
            assert fresh.newest("train").number == 21
            assert fresh.versions("train") == list(range(1, 22))

    @pytest.mark.parametrize("name", ["%zz", "x" * 80 + "%%" + "0" * 64, "Case"])
    def test_what_is_no_stage_is_not_listed(self, s3: Moto, url: str, name: str) -> None:
        s3.put(f"{prefix_of(url)}/history/{name}/000000000001", b"x")
        for content in (b"\xff", b"x" * 2000):
            s3.put(f"{prefix_of(url)}/names/{name}", content)
            assert ObjectStoreBackend(url).stages() == []


def test_many_large_versions_are_deleted_a_few_at_once(url: str, server: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)
    backend = ObjectStoreBackend(url)
    for version in range(1, 13):
        backend.append("train", version, lambda: [b"x" * 150])
    started: list[int] = []

    def count(*_: object) -> str:
        started.append(len(calls._under_way))
        return ""

    server.fault = count
    backend.delete("train", range(1, 12))
    assert max(started) <= 2 * objects.AT_ONCE  # a thread that has answered counts until it ends
    assert len(server.keys(f"{prefix_of(url)}/chunks")) == 2


def test_runs_are_looked_at_a_few_at_once_and_not_without_end(url: str, server: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_MOST_RUNS", 14)
    backend = ObjectStoreBackend(url)
    for number in range(16):
        server.put(f"{prefix_of(url)}/leases/train/{number}", b'{"notice": "eA=="}')
    started: list[int] = []

    def count(*_: object) -> str:
        started.append(len(calls._under_way))
        return ""

    server.fault = count
    assert len(backend.held_runs()) == 14
    assert max(started) <= 2 * objects.AT_ONCE  # a thread that has answered counts until it ends


class TestSizes:
    """Objects that are shorter or longer than this library writes them."""

    @pytest.mark.parametrize("size", [0, 1000, 64 * 1024, 64 * 1024 + 1, 100_001])
    @pytest.mark.parametrize("chunk", [0, 1])
    def test_a_chunk_of_another_size_is_damage(
        self, s3: Moto, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch, size: int, chunk: int
    ) -> None:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 100_000)
        cm.save_checkpoint("train", "x" * 300_000)
        key = s3.keys(f"{prefix_of(cm._store.backend.location)}/chunks")[chunk]
        s3.put(key, (s3.get(key) or b"").ljust(size, b"x")[:size])
        fresh = CheckpointManager(ObjectStoreBackend(cm._store.backend.location), key=KEY)
        with pytest.raises(IntegrityError):
            fresh.load_checkpoint("train")
        assert not fresh.verify().ok

    def test_a_segment_that_is_too_long_is_damage(
        self, s3: Moto, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend_module, "_MAX_SEGMENT_BYTES", 1000)
        cm.save_checkpoint("train", 1, attachments={"weights": b"old"})
        (key,) = s3.keys(f"{prefix_of(cm._store.backend.location)}/attachments")
        s3.put(key, b"x" * 1001)
        with pytest.raises(IntegrityError):
            cm.get_checkpoint("train").attachments["weights"].read()

    def test_a_lease_that_is_too_long_is_held_by_another(self, s3: Moto, url: str) -> None:
        s3.put(f"{prefix_of(url)}/leases/train/run", b"x" * 2000)
        with pytest.raises(LockTimeoutError), ObjectStoreBackend(url).lock("train", 0, purpose="run"):
            pass

    def test_a_note_of_the_probe_that_is_too_long_is_written_again(self, s3: Moto, url: str) -> None:
        probe._known.clear()
        s3.put(f"{prefix_of(url)}/probed", b"x" * 5000)
        ObjectStoreBackend(url)
        assert (s3.get(f"{prefix_of(url)}/probed") or b"").startswith((b"quoted ", b"unquoted "))


class Bucket:
    """What its administrator does: he reads, changes and removes any object, and puts back what he kept."""

    def __init__(self, server: Moto, cm: CheckpointManager) -> None:
        self.server = server
        self.prefix = prefix_of(cm._store.backend.location)
        self.kept = {key: server.get(key) or b"" for key in server.keys(self.prefix)}

    def name(self, key: str) -> str:
        return f"{self.prefix}/{key}"

    def put_back(self, part: str) -> None:
        for key in self.server.keys(self.prefix):
            if part in key:
                self.server.delete(key)
        for key, data in self.kept.items():
            if part in key:
                self.server.put(key, data)

    def change(self, key: str) -> None:
        data = bytearray(self.server.get(self.name(key)) or b"")
        data[-1] ^= 1
        self.server.put(self.name(key), bytes(data))

    def swap(self, one: str, other: str) -> None:
        first, second = self.server.get(self.name(one)) or b"", self.server.get(self.name(other)) or b""
        self.server.put(self.name(one), second)
        self.server.put(self.name(other), first)


V = "history/train/00000000000"
ATTACKS: dict[str, tuple[Callable[[Bucket], object], type[CheckpointError]]] = {
    "a changed version": (lambda bucket: bucket.change(f"{V}4"), IntegrityError),
    "swapped versions": (lambda bucket: bucket.swap(f"{V}4", f"{V}3"), IntegrityError),
    "the newest removed": (lambda bucket: bucket.server.delete(bucket.name(f"{V}4")), RollbackError),
    "all of it put back": (lambda bucket: bucket.put_back(""), RollbackError),
    "the versions put back": (lambda bucket: bucket.put_back("history"), RollbackError),
    "the keyring put back": (lambda bucket: bucket.put_back("keyring"), RollbackError),
    "the keyring removed": (lambda bucket: bucket.server.delete(bucket.name("keyring")), IntegrityError),
    "the deletions put back": (lambda bucket: bucket.put_back("gaps"), RollbackError),
    "a version of another stage": (
        lambda bucket: bucket.server.put(
            bucket.name(f"{V}4"), bucket.server.get(bucket.name("history/other/000000000001")) or b""
        ),
        IntegrityError,
    ),
    "a planted version": (lambda bucket: bucket.server.put(bucket.name(f"{V}9"), b"planted"), IntegrityError),
    "a planted list of chunks": (
        lambda bucket: bucket.server.put(bucket.name(f"{V}4"), b"chunks 1 %b %012d %08d\n" % (b"ab" * 16, 10**11, 10**7)),
        IntegrityError,
    ),
    "a stage removed": (
        lambda bucket: [bucket.server.delete(key) for key in bucket.server.keys(bucket.name("history/train"))],
        RollbackError,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("is_running", [True, False], ids=["a running process", "a new process"])
def test_an_administrator_of_the_bucket_deceives_nobody(s3: Moto, cm: CheckpointManager, attack: str, is_running: bool) -> None:
    cm.save_checkpoint("other", "other")
    for number in (1, 2, 3):
        cm.save_checkpoint("train", number)
    cm.delete_versions("train", [1])
    bucket = Bucket(s3, cm)
    cm.delete_versions("train", [2])
    cm.save_checkpoint("train", 4)
    if "deletions" not in attack:
        cm.keys.rotate()
    act, expected = ATTACKS[attack]
    act(bucket)
    with pytest.raises(expected):
        (cm if is_running else CheckpointManager(cm._store.backend.location, key=KEY)).load_checkpoint("train")


def test_a_save_onto_an_older_copy_is_taken_back(s3: Moto, cm: CheckpointManager) -> None:
    """A save that follows another one looks at the stage only after its put."""
    cm.save_checkpoint("train", 1)
    bucket = Bucket(s3, cm)
    cm.save_checkpoint("train", 2)
    cm.save_checkpoint("train", 3)
    bucket.put_back("history")
    with pytest.raises(RollbackError):
        cm.save_checkpoint("train", 4)
    assert s3.keys(bucket.name("history")) == [bucket.name(f"{V}1")]


def test_a_save_below_which_another_writer_deletes_is_kept(url: str, server: Moto, cm: CheckpointManager) -> None:
    other = CheckpointManager(ObjectStoreBackend(url), key=KEY)
    for number in (1, 2):
        cm.save_checkpoint("train", number)

    def delete_when_it_is_listed(method: str, path: str) -> str:
        if method == "GET" and "/store/" not in path:
            server.fault = None
            other.delete_versions("train", [2])
        return ""

    server.fault = after_the_put(server, delete_when_it_is_listed)
    assert cm.save_checkpoint("train", 3).number == 3
    assert server.fault is None
    for each in (cm, other, CheckpointManager(ObjectStoreBackend(url), key=KEY)):
        assert [version.number for version in each.history("train")] == [3, 1]


def test_an_answer_older_than_what_was_seen_meanwhile_is_not_a_rollback(url: str, cm: CheckpointManager) -> None:
    for number in (1, 2, 3):
        cm.save_checkpoint("train", number)
    cm.delete_versions("train", [1])
    fresh = CheckpointManager(ObjectStoreBackend(url), key=KEY)._store
    with fresh.session("train") as session:
        session.records["gaps"].answer.wait(5)  # type: ignore[attr-defined]
        cm.delete_versions("train", [2])
        assert 2 in fresh.gaps("train", session)[0]


def test_saves_of_two_processes_that_believe_their_memory_are_both_kept(
    url: str, cm: CheckpointManager, tmp_path: Path
) -> None:
    others = ObjectStoreBackend(url)
    other = CheckpointManager(others, key=KEY)
    for number in range(4):
        cm.save_checkpoint("train", number)
        other.save_checkpoint("train", -number)
        cm.save_checkpoint("train", number)
    assert [version.number for version in cm.history("train")] == list(range(12, 0, -1))
    other.delete_versions("train", [10, 11])
    with pytest.raises(CheckpointError):
        cm.save_checkpoint("train", 0, expected_version=11)
    cm.keys.rotate()
    other.save_checkpoint("train", 5)
    assert cm.load_checkpoint("train") == 5
    assert cm.verify().ok


def test_a_save_after_a_save_is_two_round_trips_and_a_load_one(server: Moto, cm: CheckpointManager) -> None:
    """The answers to the first request come before the others are sent; those go out together."""
    cm.save_checkpoint("train", 1)
    cm.save_checkpoint("train", 1)
    server.requests.clear()
    cm.save_checkpoint("train", 1)
    assert [method for method, _ in server.requests] == ["PUT", "GET", "GET", "GET"]
    server.requests.clear()
    cm.load_checkpoint("train")
    assert len(server.requests) == 4


def test_what_is_set_aside_and_repaired_is_gone_from_the_history(s3: Moto, cm: CheckpointManager) -> None:
    for number in (1, 2):
        cm.save_checkpoint("train", number)
    Bucket(s3, cm).change(f"{V}2")
    assert not cm.verify().ok
    cm.repair()
    assert cm.verify().ok
    assert cm.load_checkpoint("train", version=1) == 1
    assert len(s3.keys(f"{prefix_of(cm._store.backend.location)}/quarantine")) == 1


def test_a_pickled_manager_opens_the_same_place(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cm = CheckpointManager(url)
    cm.save_checkpoint("train", 1)
    assert pickle.loads(pickle.dumps(cm)).load_checkpoint("train") == 1


class TestObjectLock:
    """A bucket whose default retention keeps every object: what is replaced or deleted there stays below what is seen."""

    @pytest.fixture
    def bucket(self, s3: Moto) -> Any:
        if not isinstance(s3, Moto):
            pytest.skip("Object Lock is Amazon's, and Ceph 16 ignores put-if-absent in a bucket with versioning")
        client = boto3.client("s3", region_name="us-east-1", endpoint_url=s3.endpoint)
        client.name = f"locked-{os.urandom(4).hex()}"
        client.create_bucket(Bucket=client.name, ObjectLockEnabledForBucket=True)
        rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 7}}}
        client.put_object_lock_configuration(Bucket=client.name, ObjectLockConfiguration=rule)
        return client

    def test_a_store_works_there(self, s3: Moto, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chunks, "CHUNK_BYTES", 1000)
        monkeypatch.setattr(backend_module, "_HINT_EVERY", 2)
        url = f"s3://{bucket.name}/{os.urandom(4).hex()}?endpoint={s3.endpoint}"
        with CheckpointManager(url, key=KEY) as cm:
            for number in range(4):
                cm.save_checkpoint("train", "x" * 3000 + str(number), attachments={"a": b"y"})
            for name in ("good", "better"):  # a record that changes
                cm.tag("train", 2, name)
            assert cm.update_checkpoint("train", lambda data: data + "!").number == 5
            assert cm.delete_versions("train", [1, 3]) == [1, 3]
            cm.keys.rotate()
            with cm.loop("loop", range(3), initial=0) as loop:  # a lease, which goes
                for item in loop:
                    loop.state = item
            cm.clear_checkpoint("train")
            cm.delete_stage("loop")
            cm.repair()  # moto lists folders whose objects are all deleted
            assert [version.number for version in cm.history("train")] == [6, 5, 4, 2]
            assert cm.load_checkpoint("train", version="good") == "x" * 3000 + "1"
            assert {problem.state for problem in cm.verify().problems} <= {"leftover"}
        with CheckpointManager(url, key=KEY) as fresh:
            assert fresh.stages() == ["train"]
            assert fresh.save_checkpoint("train", 7).number == 7

    def test_what_is_deleted_there_is_kept_by_the_bucket(self, s3: Moto, bucket: Any) -> None:
        prefix = os.urandom(4).hex()
        with CheckpointManager(f"s3://{bucket.name}/{prefix}?endpoint={s3.endpoint}", key=KEY) as cm:
            for number in range(2):
                cm.save_checkpoint("train", number)
            cm.delete_versions("train", [1])
            assert [version.number for version in cm.history("train")] == [2]
        key = f"{prefix}/history/train/000000000001"
        kept = bucket.list_object_versions(Bucket=bucket.name, Prefix=key)
        (version,) = kept["Versions"]
        assert len(kept["DeleteMarkers"]) == 1
        with pytest.raises(bucket.exceptions.ClientError, match="AccessDenied"):
            bucket.delete_object(Bucket=bucket.name, Key=key, VersionId=version["VersionId"])
