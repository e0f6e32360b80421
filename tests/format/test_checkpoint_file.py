"""The metadata of a version is checked for type and range where it is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import orjson
import pytest

from checkpoint_manager._format.checkpoint_file import MAX_VERSION, BrokenError, Entry, Writer, decode_entry, encode_entry
from checkpoint_manager.models import Status

_ORIGIN = Writer("u", "h", 1, "3", "1")
ENTRY = Entry("a" * 32, "b" * 32, "completed", datetime(2026, 11, 25, tzinfo=UTC), {"a": 1}, _ORIGIN, 4, 2)
FIELDS: dict[str, Any] = orjson.loads(encode_entry(ENTRY))
ORIGIN: dict[str, Any] = FIELDS["origin"]


@pytest.mark.parametrize("moment", [datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_any_time_that_a_clock_can_say_comes_back(moment: datetime) -> None:
    entry = ENTRY._replace(created_at=moment, previous=None, restored_from=None)
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize("status", get_args(Status))
def test_each_status_of_a_version_comes_back(status: Status) -> None:
    assert decode_entry(encode_entry(ENTRY._replace(status=status))).status == status


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "A" * 32},
        {"id": "a" * 31},
        {"id": 5},
        {"previous": ""},
        {"previous": 5},
        {"status": "done"},
        {"status": ["completed"]},
        {"created_at": 5},
        {"created_at": "2026-11-25T00:00:00.000000"},
        {"created_at": "2026-11-25T00:00:00.000000+00:00"},
        {"created_at": "2026-02-30T00:00:00.000000Z"},
        {"created_at": "0000-01-01T00:00:00.000000Z"},
        {"created_at": "٢٠٢٦-11-25T00:00:00.000000Z"},
        {"metadata": [["a", 1]]},
        {"metadata": None},
        {"metadata": "x"},
        {"origin": None},
        {"origin": {**ORIGIN, "pid": "1"}},
        {"origin": {**ORIGIN, "pid": True}},
        {"origin": {**ORIGIN, "host": None}},
        {"origin": {**ORIGIN, "more": "x"}},
        {"origin": {"user": "u"}},
        {"size": -1},
        {"size": 4.0},
        {"size": True},
        {"size": "4"},
        {"restored_from": 0},
        {"restored_from": MAX_VERSION + 1},
        {"restored_from": "2"},
        {"restored_from": True},
        {"more": 1},
    ],
    ids=repr,
)
def test_a_field_of_another_type_or_out_of_range_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(BrokenError, match="not of this format"):
        decode_entry(orjson.dumps(FIELDS | changed))


@pytest.mark.parametrize("plain", [b"", b"null", b"[]", b"{}", b'"text"', b"[" * 2000, orjson.dumps([*FIELDS.items()])])
def test_what_is_not_metadata_at_all_is_refused(plain: bytes) -> None:
    with pytest.raises(BrokenError, match="not of this format"):
        decode_entry(plain)
