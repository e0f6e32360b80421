"""From a location to its backend."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, LocationError
from checkpoint_manager.backends.base import Capabilities
from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.backends.registry import GROUP, open_backend, redacted

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(32)
PASSWORD = "s3cr:t/p@ss?word#&x=1"


class Remote(MemoryBackend):
    """A backend of another package, which shows what it was opened with."""

    closed = False

    def __init__(self, url: str, *, durability: str) -> None:
        super().__init__()
        self.location, self.opened_with = url, durability

    def close(self) -> None:
        type(self).closed = True


class Heeding(Remote):
    capabilities = Capabilities(lock_excludes=True, lists_over_gaps=True, durability=True)  # type: ignore[assignment]

    def __init__(self, url: str, *, durability: str) -> None:
        super().__init__(url, durability=durability)
        self.capabilities = Capabilities(lock_excludes=True, lists_over_gaps=True, durability=True)


@pytest.fixture
def other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        importlib.metadata.EntryPoint("remote", f"{__name__}:Remote", GROUP),
        importlib.metadata.EntryPoint("heeding", f"{__name__}:Heeding", GROUP),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: entries if group == GROUP else [])


@pytest.mark.parametrize("name", ["store", "C:\\store", "./sqlite:x.db", "a:b", "://", "1://x", "memoryx:"])
def test_a_path_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_backend(name), LocalBackend)
    assert isinstance(open_backend(tmp_path / "other"), LocalBackend)


@pytest.mark.parametrize(
    ("location", "advice"),
    [
        ("sqlite:x.db", "Write sqlite:///store.db for a path"),
        ("s3:bucket/x", "Write s3://bucket/prefix"),
        ("postgresql:user:pass@word@host/x", "Write postgresql://user@host:5432/database"),
        ("sqlite//x.db", "Write sqlite:///store.db for a path"),
        ("s3//bucket/x", "Write s3://bucket/prefix"),
        ("postgres//user:pass@word@host/x", "Write postgresql://user@host:5432/database"),
    ],
)
def test_a_url_without_its_colon_or_its_slashes_is_not_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, advice: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LocationError, match=advice) as caught:
        open_backend(location)
    assert "word" not in str(caught.value) + redacted(location)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("other_packages")
@pytest.mark.parametrize("url", ["nosuch:///x.db", "NOSUCH://x", "nosuch://user:password@host/x"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LocationError, match=r"scheme nosuch.* heeding:, memory:, postgres:, postgresql:, remote:") as caught:
        CheckpointManager(url, key=KEY)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CheckpointError)
    assert "password" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_memory_is_a_new_store_each_time() -> None:
    first, second = CheckpointManager("memory:", key=KEY), CheckpointManager("memory:", key=KEY)
    first.save_checkpoint("train", 1)
    assert first.load_checkpoint("train") == 1
    assert not second.has_checkpoint("train")
    assert repr(first) == "CheckpointManager('memory:')"
    with pytest.raises(LocationError, match="memory"):
        open_backend("memory:name")


def test_durability_that_can_not_be_heeded_is_refused() -> None:
    with pytest.raises(LocationError, match="can't be heeded by memory:"):
        CheckpointManager("memory:", key=KEY, durability="relaxed")
    with pytest.raises(LocationError, match="open already"):
        CheckpointManager(MemoryBackend(), key=KEY, durability="relaxed")


@pytest.mark.usefixtures("other_packages")
def test_another_package_adds_a_scheme_by_an_entry_point() -> None:
    backend = open_backend("Heeding://host/x", durability="relaxed")
    assert isinstance(backend, Heeding)
    assert backend.opened_with == "relaxed"
    with pytest.raises(LocationError):
        open_backend("remote://host/x", durability="relaxed")
    assert Remote.closed


@pytest.mark.usefixtures("other_packages")
@pytest.mark.parametrize(
    "url",
    [
        f"remote://user:{PASSWORD}@host/x",
        f"remote://:{PASSWORD}@host/x",
        f"remote://host/x?sslpassword={PASSWORD.replace('&', '').replace('#', '')}",
        "remote://host/x?user=me&aws_secret_access_key=s3cr&region=x",
        "remote://host/x?token=s3cr#access_token=s3cr",
    ],
)
def test_a_password_in_a_url_is_in_no_message_log_or_repr(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    cm = CheckpointManager(url, key=KEY)
    cm.save_checkpoint("train", 1)
    shown: list[Any] = [repr(cm), cm._store.backend.location, caplog.text, redacted(url)]
    for fail in (
        lambda: cm.load_checkpoint("other"),
        lambda: cm.save_checkpoint("train", 1, expected_version=7),
        lambda: CheckpointManager(url.replace("remote", "nosuch"), key=KEY),
        lambda: CheckpointManager(url, key=KEY, durability="relaxed"),
    ):
        with pytest.raises(CheckpointError) as caught:
            fail()
        shown.append(caught.value)
    assert "host" in redacted(url)
    assert [text for text in map(str, shown) if "s3cr" in text or "word" in text.replace("sslpassword", "")] == []


@pytest.mark.parametrize("path", ["a\0b", "a\ud800b"])
def test_a_path_with_a_character_that_no_path_can_hold_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="can't be the path of a directory"):
        CheckpointManager(tmp_path / path, key=bytes(32))


@pytest.mark.parametrize(
    ("url", "module", "needs", "extra"),
    [
        ("postgresql://alice:s3cret@host/db", "postgres", "psycopg", "postgres"),
        ("s3://bucket/prefix", "object_store", "obstore", "s3"),
    ],
)
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, needs: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, f"checkpoint_manager.backends.{module}", None)
    with pytest.raises(LocationError, match=f"needs {needs}, which can't be imported") as caught:
        open_backend(url)
    assert caught.value.hint == f"Run pip install 'checkpoint-manager[{extra}]'"
    assert "s3cret" not in str(caught.value)
