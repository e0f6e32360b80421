"""Downloads of attachments: for those who may read, logged, streamed, and under a name that does no harm."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from checkpoint_manager.dashboard.auth import Role
from checkpoint_manager.dashboard.file_names import disposition, safe_name
from checkpoint_manager.dashboard.views import download
from tests.dashboard.conftest import SECRET

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager
    from tests.dashboard.conftest import Browser, Dashboard

CONTENT = SECRET.encode() * 50


@pytest.fixture(autouse=True)
def attached(cm: CheckpointManager) -> None:
    cm.save_checkpoint("train", {"epoch": 3}, attachments={"notes.txt": CONTENT, "empty": b""})


def downloaded(browser: Browser, name: str, version: int = 3) -> tuple[int, bytes]:
    answer = browser.send("/", browser.at("/attachment"), stage="train", version=version, name=name)
    return answer.status_code, answer.content


def test_it_is_a_file_that_no_browser_opens_as_a_page(reader: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PIECE_BYTES", 100)
    answer = reader.send("/", reader.at("/attachment"), stage="train", version=3, name="notes.txt")
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-disposition"] == 'attachment; filename="notes.txt"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert downloaded(reader, "empty") == (200, b"")


def test_the_page_of_the_version_offers_it_to_those_who_may_read(visitor: Browser, reader: Browser) -> None:
    pages = [browser.get(browser.at("/version", stage="train", version=3)).text for browser in (visitor, reader)]
    assert ['aria-label="Download notes.txt"' in page for page in pages] == [False, True]
    assert all("notes.txt" in page for page in pages)


@pytest.mark.parametrize("role", [Role(), Role(change=True)])
def test_one_who_may_not_read_downloads_nothing(dashboard: Dashboard, role: Role) -> None:
    browser = dashboard.browser(role)
    status, content = downloaded(browser, "notes.txt")
    assert (status, SECRET.encode() in content) == (403, False)
    assert dashboard.log[-1] == "to read data"


def test_no_other_site_and_no_link_causes_a_download(dashboard: Dashboard, reader: Browser) -> None:
    fields = {"stage": "train", "version": 3, "name": "notes.txt"}
    assert reader.post(reader.at("/attachment"), fields).status_code == 403
    assert reader.post(reader.at("/attachment"), fields, origin="https://evil.example").status_code == 403
    assert reader.post(reader.at("/attachment"), fields, host="evil.example").status_code == 421
    assert reader.get(reader.at("/attachment", **fields)).status_code == 405
    assert dashboard.browser().post(reader.at("/attachment"), fields).status_code == 401


def test_a_download_is_logged_before_anything_is_read_and_without_content(
    cm: CheckpointManager, dashboard: Dashboard, reader: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "checkpoint_manager.dashboard")
    real = cm.get_json

    def read(*named: object) -> object:
        assert dashboard.log[-1] == "downloaded the attachment notes.txt"
        return real(*named)  # type: ignore[arg-type]

    cm.get_json = read  # type: ignore[method-assign, assignment]
    assert downloaded(reader, "notes.txt") == (200, CONTENT)
    said = f"reveal by session 1: downloaded the attachment notes.txt: train@3 in store {dashboard.store.id}"
    assert caplog.messages[-1] == said
    assert SECRET not in caplog.text


def test_an_array_in_the_data_is_downloaded_once_the_data_is_revealed(
    cm: CheckpointManager, dashboard: Dashboard, reader: Browser
) -> None:
    numpy = pytest.importorskip("numpy")
    cm.save_checkpoint("train", {"Jane Doe": numpy.arange(4)})
    assert downloaded(reader, "/Jane Doe", 4)[0] == 404
    page = reader.send("/", reader.at("/reveal"), stage="train", version=4).text
    assert "Arrays in the data" in page
    answer = reader.send("/", reader.at("/attachment"), stage="train", version=4, name="/Jane Doe")
    assert answer.content.startswith(b"\x93NUMPY")
    assert answer.headers["content-disposition"] == 'attachment; filename="Jane Doe.npy"'
    assert dashboard.log[-1] == "downloaded a part of the data"  # a key is data, too
    assert downloaded(reader, "/nothing", 4)[0] == 404


def test_one_that_is_damaged_from_its_start_is_told_by_a_page(cm: CheckpointManager, reader: Browser) -> None:
    for each in cm._store.backend._attachments["train"].values():  # type: ignore[attr-defined]
        each |= {index: bytes(len(segment)) for index, segment in each.items()}
    status, content = downloaded(reader, "notes.txt")
    assert (status, b"<h1>" in content, b"attachment" in content) == (502, True, True)


def test_one_that_is_damaged_later_ends_before_its_length(
    cm: CheckpointManager, reader: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    cm.save_checkpoint("train", 4, attachments={"large": bytes(17 << 20)})
    newest = list(cm._store.backend._attachments["train"].values())[-1]  # type: ignore[attr-defined]
    newest[1] = bytes(len(newest[1]))
    status, content = downloaded(reader, "large", 4)
    assert (status, len(content)) == (200, 16 << 20)
    assert re.fullmatch(r"A request ended with an error: IntegrityError at .*", caplog.messages[-1])


def test_a_version_without_a_number_and_one_too_large_are_refused(reader: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reader.send("/", reader.at("/attachment"), stage="train", name="x").status_code == 400
    assert downloaded(reader, "nothing")[0] == 404
    monkeypatch.setattr("checkpoint_manager.dashboard.views.call.MOST_BYTES", 0)
    status, content = downloaded(reader, "notes.txt")
    assert (status, b" --attachment NAME --store " in content) == (413, True)


HOSTILE = {
    "../../etc/passwd": "passwd",
    "..\\..\\boot.ini": "boot.ini",
    "/": "attachment",
    "..": "attachment",
    ".bashrc": "bashrc",
    "report.txt. ": "report.txt",
    'a"; filename="b.exe': "a__ filename=_b.exe",
    "a\r\nset-cookie: x=y": "a__set-cookie_ x=y",
    "a\x00b": "a_b",
    "annual_\u202etxt.exe": "annual__txt.exe",
    "con": "_con",
    "LPT1.tar.gz": "_LPT1.tar.gz",
    "<script>alert(1)</script>": "script_",
    "%2e%2e%2fx": "_2e_2e_2fx",
    "half \ud800 pair": "half _ pair",
    "~root; rm -rf $HOME": "_root_ rm -rf _HOME",
    "Größe ✓.csv": "Größe _.csv",
    "e\u0301te\u0301": "\u00e9t\u00e9",
    "x" * 300 + ".tar.gz": "x" * 97 + ".gz",
    "x" * 300: "x" * 100,
}


@pytest.mark.parametrize(("name", "safe"), HOSTILE.items())
def test_a_hostile_name_names_a_harmless_file(name: str, safe: str) -> None:
    assert safe_name(name, "bytes") == safe
    header = disposition(safe)
    assert re.fullmatch(r"attachment; filename=\"[ -!#-~]+\"(; filename\*=UTF-8''[A-Za-z0-9%_.~-]+)?", header)
    assert header.isascii()
    if not safe.isascii():
        assert unquote(header.partition("UTF-8''")[2]) == safe


@pytest.mark.parametrize(
    ("name", "kind", "file"),
    [
        ("weights", "numpy", "weights.npy"),
        ("weights.NPY", "numpy", "weights.NPY"),
        ("rows", "pandas", "rows.arrows"),
        ("rows", "polars", "rows.arrows"),
        ("/layers/0", "torch", "0.safetensors"),
        ("/", "numpy", "attachment.npy"),
        ("x" * 300, "torch", "x" * 88 + ".safetensors"),
        ("rows", "a kind of later", "rows"),
    ],
)
def test_a_name_has_the_ending_of_its_kind(name: str, kind: str, file: str) -> None:
    assert safe_name(name, kind) == file


def test_a_hostile_name_breaks_no_header(cm: CheckpointManager, reader: Browser) -> None:
    name = 'x"\nset-cookie: a=b; <b>\u202e'
    cm.save_checkpoint("train", 1, attachments={name: b"1"})
    answer = reader.send("/", reader.at("/attachment"), stage="train", version=4, name=name)
    assert (answer.content, "set-cookie" in answer.headers) == (b"1", False)
    assert "<b>" not in reader.get(reader.at("/version", stage="train", version=4)).text
