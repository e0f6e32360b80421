"""The library's own documents read the same, whichever of two libraries reads them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checkpoint_manager._format import documents
from checkpoint_manager._format.keyring import Keyring
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.testing.strategies import json_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECES = ["{", "}", "[", "]", ",", ":", '"', "\\u", "\\", "d800", "dc00", "0", "-", "9" * 19, ".5", "e999", "NaN", "\x00"]
texts = st.lists(st.sampled_from(_PIECES) | st.text(max_size=3), max_size=12).map("".join).map(lambda text: text.encode())
documents_of_ours = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda each: st.lists(each, max_size=5) | st.dictionaries(st.text(), each, max_size=5),
)


def read(loads: Callable[[bytes], Any], text: bytes) -> str:
    """Return what a text says, type for type, or that it says nothing."""
    try:
        return repr(loads(text))
    except ValueError:
        return "refused"


@contextmanager
def not_loaded() -> Iterator[None]:
    """Let nothing have loaded orjson."""
    loaded = sys.modules.pop("orjson")
    try:
        yield
    finally:
        sys.modules["orjson"] = loaded


def read_first(text: bytes) -> Any:
    """Read a text where nothing has loaded orjson."""
    with not_loaded():
        return documents.loads(text)


@given(json_values())
def test_what_callers_save_with_a_version_reads_the_same(value: object) -> None:
    text = orjson.dumps(value)
    assert read(read_first, text) == read(documents.loads, text) == read(orjson.loads, text)


@given(texts | st.binary(max_size=12))
@example(b'{"a": 1, "a": -0}')
@example(b'"\\ud800"')
@example(b'"\\ud83d\\ude00"')
@example(b"[1e999]")
@example(b"[NaN]")
@example(b"-Infinity")
@example(b"18446744073709551616")
@example(b"-9223372036854775809")
@example(b"9" * 5000)
@example(b"[" * 1024 + b"]" * 1024)
@example(b"[" * 100_000)
@example(b'\xef\xbb\xbf"a"')
@example(b'\xff\xfe"\x00a\x00"\x00')
def test_any_text_reads_the_same(text: bytes) -> None:
    assert read(read_first, text) == read(documents.loads, text) == read(orjson.loads, text)


@given(documents_of_ours)
def test_a_document_is_written_the_same(value: object) -> None:
    with not_loaded():
        written = documents.dumps(value)
    assert written == documents.dumps(value) == orjson.dumps(value)


def test_a_keyring_that_is_nested_without_end_is_refused() -> None:
    deep = b"[" * 1000 + b"]" * 1000
    with pytest.raises(IntegrityError):
        Keyring.parse(b'{"format":"checkpoint-manager-keyring/1","checksum":"","x":%b}' % deep, where="it")
