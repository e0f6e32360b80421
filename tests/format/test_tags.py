"""The record of tags: what is written is read back, and nothing else is accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager._format import seal
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.tags import (
    FORMAT,
    FORMAT_1,
    MAX_BY_CHARACTERS,
    MAX_REASON_CHARACTERS,
    MAX_REASONS,
    MAX_TAGS,
    MAX_TAGS_BYTES,
    RECORD,
    Tagged,
    Tags,
    decode,
    encode,
    is_name,
)
from checkpoint_manager.models import Reason

KEY, KEY_ID, STORE = Hidden(bytes(range(32))), "0123456789abcdef", "ab" * 16
ID = "cd" * 16
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.+-]{0,63}", fullmatch=True).filter(is_name)
TAGGED = st.builds(Tagged, st.integers(1, 999_999_999_999), st.from_regex(r"[0-9a-f]{32}", fullmatch=True))


TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # UTC comes with the strategy
NUMBERS = st.integers(1, 999_999_999_999)
TEXTS = st.text(min_size=1, max_size=MAX_REASON_CHARACTERS)
REASONS = st.one_of(
    st.builds(
        lambda at, action, tag, number, by, text: Reason(at, action, tag, number, number, 1, by, text),
        TIMES,
        st.sampled_from(["tagged", "untagged"]),
        NAMES,
        NUMBERS,
        st.text(max_size=MAX_BY_CHARACTERS),
        TEXTS,
    ),
    st.builds(
        lambda at, first, text: Reason(at, "deleted", "", first, first + 9, 4, "a@b", text), TIMES, st.integers(1, 99), TEXTS
    ),
)
ROW = ["2026-11-27T20:00:00.000000Z", "tagged", "good", 3, 3, 1, "alice@host", "why"]


def seal_tags(stage: str, tags: Tags) -> bytes:
    return tags.form.seal(KEY_ID, KEY, STORE, stage, encode(tags))


def open_tags(stage: str, file: bytes, store: str = STORE) -> Tags:
    return decode(RECORD.open(KEY, store, stage, file))


def sealed(plain: bytes, stage: str = "train") -> bytes:
    line = f'{{"format":"{FORMAT}","store":"{STORE}","key":"{KEY_ID}"}}\n'.encode()
    return line + seal.seal(KEY, plain, seal.context(FORMAT, line, stage))


@given(st.dictionaries(NAMES, TAGGED, max_size=10), st.text(min_size=1, max_size=10), st.integers(0, 9))
def test_what_is_sealed_is_opened(named: dict[str, Tagged], stage: str, above: int) -> None:
    tags = Tags(3, ID).changed(named, above=above)
    assert tags.serial == max(3, above) + 1
    file = seal_tags(stage, tags)
    assert RECORD.key_of(file) == KEY_ID
    assert open_tags(stage, file) == tags
    assert list(open_tags(stage, file).named) == sorted(named)


@given(st.lists(REASONS, min_size=1, max_size=4), st.dictionaries(NAMES, TAGGED, max_size=2))
def test_the_newest_reasons_are_kept_and_make_another_format(reasons: list[Reason], named: dict[str, Tagged]) -> None:
    tags = Tags(3, ID, named)
    assert FORMAT_1.encode() in seal_tags("train", tags)
    for reason in reasons * MAX_REASONS:
        tags = tags.with_reason(reason).changed(tags.named)
    file = seal_tags("train", tags.changed({}))
    assert FORMAT.encode() in file
    assert open_tags("train", file).reasons == tuple((reasons * MAX_REASONS)[-MAX_REASONS:])


def test_the_largest_record_is_below_the_limit() -> None:
    named = {f"{number:04d}".join("ab") + "x" * 58: Tagged(999_999_999_999, ID) for number in range(MAX_TAGS)}
    assert all(map(is_name, named))
    long = ("\0" * MAX_BY_CHARACTERS, "\0" * MAX_REASON_CHARACTERS)  # each is six characters of JSON
    reason = Reason(datetime(2026, 1, 1, tzinfo=UTC), "tagged", "x" * 64, 10**12 - 1, 10**12 - 1, 1, *long)
    file = seal_tags("x" * 255, Tags(999_999_999_998, ID, {}, (reason,) * MAX_REASONS).changed(named))
    assert len(file) < MAX_TAGS_BYTES
    assert len(open_tags("x" * 255, file).named) == MAX_TAGS


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {},
        [1, ID],
        [0, ID, []],
        [True, ID, []],
        ["1", ID, []],
        [1, "x", []],
        [1, None, []],
        [1, ID, [["good", 1]]],
        [1, ID, [["good", 0, ID]]],
        [1, ID, [["good", 10**12, ID]]],
        [1, ID, [["good", 1, "x"]]],
        [1, ID, [["latest", 1, ID]]],
        [1, ID, [["7", 1, ID]]],
        [1, ID, [[7, 1, ID]]],
        [1, ID, [["b", 1, ID], ["a", 1, ID]]],
        [1, ID, [["a", 1, ID], ["a", 2, ID]]],
        [1, ID, [[f"a{number:04d}", 1, ID] for number in range(MAX_TAGS + 1)]],
        [1, ID, [], [ROW], []],
        [1, ID, [], [ROW] * (MAX_REASONS + 1)],
        [1, ID, [], [[*ROW, 1]]],
        [1, ID, [], 7],
        *(
            [1, ID, [], [[*ROW[:place], wrong, *ROW[place + 1 :]]]]
            for place, wrong in (
                (0, "2026-11-27T20:00:00Z"),
                (0, "2026-13-27T20:00:00.000000Z"),
                (0, 7),
                (1, "moved"),
                (1, "deleted"),
                (1, []),
                (2, ""),
                (2, "latest"),
                (3, 2),
                (3, True),
                (4, 10**12),
                (5, 2),
                (6, None),
                (6, "x" * (MAX_BY_CHARACTERS + 1)),
                (7, ""),
                (7, "x" * (MAX_REASON_CHARACTERS + 1)),
            )
        ),
        *([1, ID, [], [[ROW[0], "deleted", *more, "a@b", "why"]]] for more in (("x", 1, 2, 1), ("", 2, 1, 1), ("", 1, 3, 4))),
    ],
    ids=range(41),
)
def test_what_is_not_of_the_format_is_refused(fields: Any) -> None:
    with pytest.raises(BrokenError, match="not of this format"):
        open_tags("train", sealed(orjson.dumps(fields)))


def test_another_place_is_refused() -> None:
    file = seal_tags("train", Tags(1, ID))
    with pytest.raises(BrokenError, match="another stage"):
        open_tags("clean", file)
    with pytest.raises(BrokenError, match="another store"):
        open_tags("train", file, store="00" * 16)
    for broken in (b"", b"{}\n", file[1:]):
        with pytest.raises(BrokenError, match="header"):
            RECORD.key_of(broken)
        with pytest.raises(BrokenError, match="header"):
            open_tags("train", broken)


@pytest.mark.parametrize("name", ["good", "_", "v1.2+build-3", "A" * 64, "latest1", "e1"])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "7",
        "7th",
        "1d",
        "-x",
        ".x",
        "+x",
        "latest",
        "Latest",
        "prev",
        "PREV",
        "a b",
        "a@b",
        "a/b",
        "é",
        "a\n",
        "\n",
        "A" * 65,
        "a\0",
    ],
    ids=ascii,
)
def test_what_can_be_taken_for_something_else_is_no_name(name: str) -> None:
    assert not is_name(name)
